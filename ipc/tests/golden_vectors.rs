//! The files in `vectors/` are what this crate writes, and it reads them as they say.

mod golden;

use std::path::Path;

use golden::{MAX_FRAME_BYTES, Vector};
use procpool_ipc::{
    FrameDecoder, FrameError, decode_server_frame, decode_worker_frame, encode_server_frame, encode_worker_frame,
};

const HINT: &str = "run: cargo run -p procpool-ipc --example write_vectors";

fn directory() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/vectors"))
}

#[test]
fn files_are_up_to_date() {
    for vector in golden::all() {
        let path = directory().join(vector.name).with_extension("bin");
        let stored = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; {HINT}", path.display()));
        assert_eq!(stored, vector.bytes, "{} has changed; {HINT}", vector.name);
    }
    let index = std::fs::read_to_string(directory().join("vectors.json")).expect(HINT);
    assert_eq!(index, golden::index(), "the index has changed; {HINT}");
}

#[test]
fn no_file_is_left_over() {
    let mut files: Vec<String> = std::fs::read_dir(directory())
        .expect(HINT)
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "bin"))
        .collect();
    let mut expected: Vec<String> = golden::all().iter().map(|vector| format!("{}.bin", vector.name)).collect();
    files.sort();
    expected.sort();
    assert_eq!(files, expected);
}

#[test]
fn decode_as_the_index_says() {
    for vector in golden::all() {
        assert_eq!(outcome(&vector), vector.outcome, "{}", vector.name);
    }
}

/// Decodes a vector, and encodes it again if it is a frame.
fn outcome(vector: &Vector) -> &'static str {
    let mut decoder = FrameDecoder::new(MAX_FRAME_BYTES);
    decoder.buffer().extend_from_slice(&vector.bytes);
    let frame = match decoder.next_frame() {
        Ok(Some(frame)) => frame,
        Ok(None) => {
            assert!(decoder.has_partial_frame());
            return "truncated";
        }
        Err(FrameError::TooLong { .. }) => return "too_long",
        Err(error) => panic!("{error}"),
    };
    assert!(!decoder.has_partial_frame());
    let encoded = if vector.sender == "server" {
        decode_server_frame(frame).map(encode_server_frame)
    } else {
        decode_worker_frame(frame).map(encode_worker_frame)
    };
    match encoded {
        Ok(encoded) => {
            assert_eq!(encoded, vector.bytes, "{}", vector.name);
            "frame"
        }
        Err(FrameError::Malformed(_)) => "malformed",
        Err(FrameError::Unknown) => "unknown",
        Err(error) => panic!("{error}"),
    }
}
