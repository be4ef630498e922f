//! Bytes in arbitrary pieces → frames. Fuzzed, and run on the corpus by `ipc/tests/fuzz_corpus.rs`.
//!
//! Input: how the stream is cut, then the stream.

use bytes::Bytes;
use procpool_ipc::proto::server_frame::Frame as ServerFrame;
use procpool_ipc::proto::worker_frame::Frame as WorkerFrame;
use procpool_ipc::proto::{Results, Run, SetCommon};
use procpool_ipc::{
    FrameDecoder, FrameError, decode_server_frame, decode_worker_frame, encode_results_header, encode_run_header,
    encode_server_frame, encode_set_common_header, encode_worker_frame,
};

const MAX_FRAME_BYTES: u32 = 4096;
/// What the decoder may hold at most: one frame, and room for the next read.
const MAX_BUFFER_BYTES: usize = 4 + MAX_FRAME_BYTES as usize + (64 << 10);

/// Holds the decoder and the codec against what they promise.
///
/// # Panics
///
/// If they break it.
pub(crate) fn frame_decoder(data: &[u8]) {
    let Some((&cut, stream)) = data.split_first() else { return };
    let whole = decode(stream, usize::MAX);
    assert_eq!(whole, decode(stream, 1), "byte by byte");
    assert_eq!(whole, decode(stream, 1 + usize::from(cut)), "in pieces");
    for frame in whole.0 {
        if let Ok(frame) = decode_worker_frame(frame.clone()) {
            check_worker_frame(frame);
        }
        if let Ok(frame) = decode_server_frame(frame) {
            check_server_frame(frame);
        }
    }
}

/// Returns the frames of a stream that comes in pieces of this length, and how it ends.
fn decode(stream: &[u8], piece_len: usize) -> (Vec<Bytes>, Result<bool, FrameError>) {
    let mut decoder = FrameDecoder::new(MAX_FRAME_BYTES);
    let mut frames = Vec::new();
    for piece in stream.chunks(piece_len) {
        let mut rest = piece;
        while !rest.is_empty() {
            let buffer = decoder.buffer();
            let room = (buffer.capacity() - buffer.len()).min(rest.len());
            assert!(room > 0, "there is always room to read into");
            buffer.extend_from_slice(&rest[..room]);
            rest = &rest[room..];
            loop {
                let next = decoder.next_frame();
                assert!(decoder.buffer().capacity() <= MAX_BUFFER_BYTES, "{}", decoder.buffer().capacity());
                match next {
                    Ok(Some(frame)) => {
                        assert!(frame.len() <= MAX_FRAME_BYTES as usize);
                        frames.push(frame);
                    }
                    Ok(None) => break,
                    Err(error) => {
                        assert_eq!(decoder.next_frame(), Err(error.clone()), "a failed stream stays failed");
                        return (frames, Err(error));
                    }
                }
            }
        }
    }
    let is_torn = decoder.has_partial_frame();
    (frames, Ok(is_torn))
}

/// What was decoded is encoded, and decoded the same again.
fn check_worker_frame(frame: WorkerFrame) {
    let encoded = encode_worker_frame(frame.clone());
    if let WorkerFrame::Results(results) = &frame {
        let head = Results { items: Bytes::new(), ..results.clone() };
        let header = encode_results_header(&head, results.items.len());
        assert_eq!([&header[..], &results.items].concat(), encoded);
    }
    assert_eq!(decode_worker_frame(only_frame(&encoded)), Ok(frame));
}

fn check_server_frame(frame: ServerFrame) {
    let encoded = encode_server_frame(frame.clone());
    match &frame {
        ServerFrame::Run(run) => {
            let Run { function, content_type, traceparent, tracestate, items, .. } = run;
            let texts = [function, content_type, traceparent, tracestate];
            let [function, content_type, traceparent, tracestate] = Default::default();
            let numbers = Run { function, content_type, traceparent, tracestate, items: Bytes::new(), ..run.clone() };
            let header = encode_run_header(&numbers, texts.map(String::as_str), items.len());
            let sent = [&header[..], items].concat();
            assert_eq!((sent.len(), decode_server_frame(only_frame(&sent))), (encoded.len(), Ok(frame.clone())));
        }
        ServerFrame::SetCommon(set) => {
            let header = encode_set_common_header(&SetCommon { value: Bytes::new(), ..set.clone() }, set.value.len());
            assert_eq!([&header[..], &set.value].concat(), encoded);
        }
        _ => {}
    }
    assert_eq!(decode_server_frame(only_frame(&encoded)), Ok(frame));
}

fn only_frame(encoded: &[u8]) -> Bytes {
    let mut decoder = FrameDecoder::new(u32::MAX);
    decoder.buffer().extend_from_slice(encoded);
    let frame = decoder.next_frame().expect("it is within the limit").expect("it is whole");
    assert!(!decoder.has_partial_frame());
    frame
}
