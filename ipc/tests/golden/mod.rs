//! The golden vectors: what the frames are on the wire, for every SDK to be tested with.
//!
//! `vectors/vectors.json` lists them. Each file is what one side writes to the socket, the length included.
//! `cargo run -p procpool-ipc --example write_vectors` rewrites the files after a change of the protocol.

use bytes::Bytes;
use procpool_ipc::proto::server_frame::Frame as ServerFrame;
use procpool_ipc::proto::worker_frame::Frame as WorkerFrame;
use procpool_ipc::proto::{
    CallPart, CallStyle, DropCommon, FailureKind, Function, Hello, ItemFailure, ItemKind, Ping, Pong, Ready, Recall,
    Recalled, Results, Run, SetCommon, Shutdown, Started, Welcome,
};
use procpool_ipc::{encode_server_frame, encode_worker_frame};
use serde_json::{Value, json};

/// The limit that the vectors are to be decoded with.
pub(crate) const MAX_FRAME_BYTES: u32 = 4096;

pub(crate) struct Vector {
    /// The file's name, without `.bin`.
    pub(crate) name: &'static str,
    /// Who writes it: `server` or `worker`.
    pub(crate) sender: &'static str,
    /// What a decoder makes of it: `frame`, `too_long`, `truncated`, `malformed` or `unknown`.
    pub(crate) outcome: &'static str,
    pub(crate) bytes: Bytes,
    /// The frame in protobuf's JSON mapping with the names of the .proto file; null for what is no frame.
    pub(crate) json: Value,
}

pub(crate) fn all() -> Vec<Vector> {
    let mut vectors = server_frames();
    vectors.extend(common_frames());
    vectors.extend(worker_frames());
    vectors.extend(bad_frames());
    vectors
}

pub(crate) fn index() -> String {
    let entries: Vec<Value> = all()
        .iter()
        .map(|vector| {
            json!({
                "file": format!("{}.bin", vector.name),
                "sender": vector.sender,
                "outcome": vector.outcome,
                "frame": vector.json,
            })
        })
        .collect();
    let index = json!({ "max_frame_bytes": MAX_FRAME_BYTES, "vectors": entries });
    serde_json::to_string_pretty(&index).expect("it is plain data") + "\n"
}

fn server(name: &'static str, frame: ServerFrame, json: Value) -> Vector {
    Vector { name, sender: "server", outcome: "frame", bytes: encode_server_frame(frame), json }
}

fn worker(name: &'static str, frame: WorkerFrame, json: Value) -> Vector {
    Vector { name, sender: "worker", outcome: "frame", bytes: encode_worker_frame(frame), json }
}

fn bad(name: &'static str, sender: &'static str, outcome: &'static str, bytes: &[u8]) -> Vector {
    Vector { name, sender, outcome, bytes: Bytes::copy_from_slice(bytes), json: Value::Null }
}

fn server_frames() -> Vec<Vector> {
    let welcome = Welcome {
        protocol_version: 1,
        worker_id: 7,
        slot: 3,
        max_frame_bytes: 65 << 20,
        journal_bytes: 64 << 10,
        dump_pipe: false,
    };
    // The values 2 and "x", as an encoded ListValue.
    let values = b"\x0a\x09\x11\x00\x00\x00\x00\x00\x00\x00\x40\x0a\x03\x1a\x01x";
    let run_values = Run {
        chunk: 1 << 40,
        function: "analyze_match".into(),
        kind: ItemKind::Values.into(),
        style: CallStyle::Map.into(),
        first_index: 300,
        count: 2,
        first_sequence: 17,
        attempt: 1,
        items: Bytes::from_static(values),
        ..Run::default()
    };
    let run_blobs = Run {
        chunk: 2,
        function: "power".into(),
        kind: ItemKind::Blobs.into(),
        content_type: "application/json".into(),
        style: CallStyle::Star.into(),
        count: 1,
        first_sequence: 19,
        attempt: 2,
        stamp_start: true,
        traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into(),
        tracestate: "vendor=1".into(),
        items: Bytes::from_static(b"\x0a\x06[2,10]"),
        ..Run::default()
    };
    vec![
        server(
            "welcome",
            ServerFrame::Welcome(welcome),
            json!({"welcome": {"protocol_version": 1, "worker_id": "7", "slot": 3, "max_frame_bytes": 68_157_440,
                "journal_bytes": 65_536}}),
        ),
        server(
            "run_values",
            ServerFrame::Run(run_values),
            json!({"run": {"chunk": "1099511627776", "function": "analyze_match", "kind": "ITEM_KIND_VALUES",
                "style": "CALL_STYLE_MAP", "first_index": "300", "count": 2, "first_sequence": "17", "attempt": 1,
                "items": "CgkRAAAAAAAAAEAKAxoBeA=="}}),
        ),
        server(
            "run_blobs",
            ServerFrame::Run(run_blobs),
            json!({"run": {"chunk": "2", "function": "power", "kind": "ITEM_KIND_BLOBS",
                "content_type": "application/json", "style": "CALL_STYLE_STAR", "count": 1, "first_sequence": "19",
                "attempt": 2, "stamp_start": true,
                "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tracestate": "vendor=1",
                "items": "CgZbMiwxMF0="}}),
        ),
        server(
            "recall",
            ServerFrame::Recall(Recall { chunk: 2, cancel: true, cancel_offset: None }),
            json!({"recall": {"chunk": "2", "cancel": true}}),
        ),
        server(
            "recall_item",
            ServerFrame::Recall(Recall { chunk: 2, cancel: true, cancel_offset: Some(0) }),
            json!({"recall": {"chunk": "2", "cancel": true, "cancel_offset": 0}}),
        ),
        server("ping", ServerFrame::Ping(Ping { nonce: u64::MAX }), json!({"ping": {"nonce": "18446744073709551615"}})),
        server("shutdown", ServerFrame::Shutdown(Shutdown {}), json!({"shutdown": {}})),
    ]
}

/// A common argument, and what names it.
fn common_frames() -> Vec<Vector> {
    let run_common = Run {
        chunk: 3,
        function: "lookup".into(),
        kind: ItemKind::Values.into(),
        style: CallStyle::Map.into(),
        count: 1,
        first_sequence: 20,
        attempt: 1,
        common: 300,
        items: Bytes::from_static(b"\x0a\x03\x1a\x01a"),
        ..Run::default()
    };
    // {"a": 1}, as an encoded Value.
    let dictionary = b"\x2a\x10\x0a\x0e\x0a\x01a\x12\x09\x11\x00\x00\x00\x00\x00\x00\xf0\x3f";
    let set_common = SetCommon {
        common: 300,
        kind: ItemKind::Values.into(),
        content_type: String::new(),
        value: Bytes::from_static(dictionary),
    };
    let set_common_blob = SetCommon {
        common: 301,
        kind: ItemKind::Blobs.into(),
        content_type: "application/json".into(),
        value: Bytes::from_static(b"{\"a\":1}"),
    };
    vec![
        server(
            "run_common",
            ServerFrame::Run(run_common),
            json!({"run": {"chunk": "3", "function": "lookup", "kind": "ITEM_KIND_VALUES", "style": "CALL_STYLE_MAP",
                "count": 1, "first_sequence": "20", "attempt": 1, "common": "300", "items": "CgMaAWE="}}),
        ),
        server(
            "set_common",
            ServerFrame::SetCommon(set_common),
            json!({"set_common": {"common": "300", "kind": "ITEM_KIND_VALUES",
                "value": "KhAKDgoBYRIJEQAAAAAAAPA/"}}),
        ),
        server(
            "set_common_blob",
            ServerFrame::SetCommon(set_common_blob),
            json!({"set_common": {"common": "301", "kind": "ITEM_KIND_BLOBS", "content_type": "application/json",
                "value": "eyJhIjoxfQ=="}}),
        ),
        server(
            "drop_common",
            ServerFrame::DropCommon(DropCommon { common: 300 }),
            json!({"drop_common": {"common": "300"}}),
        ),
    ]
}

fn worker_frames() -> Vec<Vector> {
    let hello = Hello {
        protocol_version: 1,
        sdk: "example 1.0".into(),
        pid: 4242,
        functions: vec![
            Function {
                name: "power".into(),
                signature: "(base, exponent)".into(),
                doc: "Raises base to exponent. ½ is fine.".into(),
                example: r#"{"function":"power","values":[[2,10]]}"#.into(),
                idempotent: true,
            },
            Function { name: "bare".into(), ..Function::default() },
        ],
        uses_progress_page: true,
        takes_common: true,
        ..Hello::default()
    };
    let results = Results {
        chunk: 1 << 40,
        first: 0,
        count: 2,
        failures: Vec::new(),
        busy_ns: 1_500_000,
        items: Bytes::from_static(b"\x0a\x09\x11\x00\x00\x00\x00\x00\x00\x00\x40\x0a\x02\x20\x01"),
    };
    let failed = Results {
        chunk: 2,
        first: 5,
        count: 1,
        failures: vec![ItemFailure {
            offset: 5,
            kind: FailureKind::Raised.into(),
            r#type: "ValueError".into(),
            message: "no such match: 5".into(),
            traceback: "Traceback (most recent call last):\n  …\n".into(),
            data: Bytes::from_static(b"\x80\x05N."),
            ..ItemFailure::default()
        }],
        busy_ns: 20,
        items: Bytes::from_static(b"\x0a\x02\x08\x00"),
    };
    let refused = Results {
        chunk: 2,
        count: 1,
        failures: vec![ItemFailure {
            kind: FailureKind::InvalidItem.into(),
            message: "takes no keyword arguments".into(),
            part: CallPart::Kwargs.into(),
            ..ItemFailure::default()
        }],
        items: Bytes::from_static(b"\x0a\x02\x08\x00"),
        ..Results::default()
    };
    vec![
        worker(
            "hello",
            WorkerFrame::Hello(hello),
            json!({"hello": {"protocol_version": 1, "sdk": "example 1.0", "pid": 4242, "functions": [
                {"name": "power", "signature": "(base, exponent)", "doc": "Raises base to exponent. ½ is fine.",
                    "example": r#"{"function":"power","values":[[2,10]]}"#, "idempotent": true},
                {"name": "bare"},
            ], "uses_progress_page": true, "takes_common": true}}),
        ),
        worker("ready", WorkerFrame::Ready(Ready {}), json!({"ready": {}})),
        worker(
            "started",
            WorkerFrame::Started(Started { chunk: 2, offset: 1 }),
            json!({"started": {"chunk": "2", "offset": 1}}),
        ),
        worker(
            "results",
            WorkerFrame::Results(results),
            json!({"results": {"chunk": "1099511627776", "count": 2, "busy_ns": "1500000",
                "items": "CgkRAAAAAAAAAEAKAiAB"}}),
        ),
        worker(
            "results_failed",
            WorkerFrame::Results(failed),
            json!({"results": {"chunk": "2", "first": 5, "count": 1, "failures": [{"offset": 5,
                "kind": "FAILURE_KIND_RAISED", "type": "ValueError", "message": "no such match: 5",
                "traceback": "Traceback (most recent call last):\n  …\n", "data": "gAVOLg=="}], "busy_ns": "20", "items": "CgIIAA=="}}),
        ),
        worker(
            "results_refused",
            WorkerFrame::Results(refused),
            json!({"results": {"chunk": "2", "count": 1, "failures": [{"kind": "FAILURE_KIND_INVALID_ITEM",
                "message": "takes no keyword arguments", "part": "CALL_PART_KWARGS"}], "items": "CgIIAA=="}}),
        ),
        worker(
            "recalled",
            WorkerFrame::Recalled(Recalled { chunk: 2, first_not_begun: 3 }),
            json!({"recalled": {"chunk": "2", "first_not_begun": 3}}),
        ),
        worker("pong", WorkerFrame::Pong(Pong { nonce: 1 }), json!({"pong": {"nonce": "1"}})),
    ]
}

fn bad_frames() -> Vec<Vector> {
    let ping = encode_server_frame(ServerFrame::Ping(Ping { nonce: u64::MAX }));
    let over_the_limit = MAX_FRAME_BYTES + 1;
    vec![
        bad("bad_length_4gib", "server", "too_long", b"\xff\xff\xff\xff\x22\x00"),
        bad("bad_length_one_over", "server", "too_long", &over_the_limit.to_be_bytes()),
        bad("bad_length_worker", "worker", "too_long", b"\x7f\xff\xff\xffgarbage"),
        bad("bad_truncated_length", "server", "truncated", &ping[..2]),
        bad("bad_truncated_frame", "server", "truncated", &ping[..ping.len() - 1]),
        // A length-delimited field that claims more than there is.
        bad("bad_inner_length", "server", "malformed", b"\x00\x00\x00\x03\x12\x7f\x00"),
        // Group end tags and a varint without an end.
        bad("bad_garbage", "worker", "malformed", b"\x00\x00\x00\x06\xff\xff\xff\xff\xff\xff"),
        bad("bad_utf8", "worker", "malformed", b"\x00\x00\x00\x06\x0a\x04\x12\x02\xff\xfe"),
        bad("bad_empty_frame", "worker", "unknown", b"\x00\x00\x00\x00"),
        // Field 100 of a future version.
        bad("bad_unknown_frame", "server", "unknown", b"\x00\x00\x00\x03\xa2\x06\x00"),
    ]
}
