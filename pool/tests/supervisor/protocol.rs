//! Workers that break the protocol: killed, and told apart from those that died.

use std::time::{Duration, Instant};

use bytes::Bytes;
use procpool_ipc::proto;
use procpool_ipc::proto::worker_frame::Frame as WorkerFrame;
use procpool_pool::WorkerExit;
use procpool_scheduler::ChunkId;

use crate::roles::{hello, results_frame};
use crate::support::{Worker, blobs};

fn frame(frame: WorkerFrame) -> Bytes {
    procpool_ipc::encode_worker_frame(frame)
}

fn results(results: proto::Results) -> Bytes {
    frame(WorkerFrame::Results(results))
}

async fn assert_breaks(worker: Worker, name: &str, expected: &str, running: Option<(ChunkId, u32)>) {
    let exited = worker.exited().await;
    let WorkerExit::Protocol(detail) = &exited.exit else { panic!("{name}: {:?}", exited.exit) };
    assert!(detail.contains(expected), "{name}: {detail}");
    assert_eq!(exited.running, running, "{name}");
}

#[tokio::test]
async fn a_bad_greeting_is_refused() {
    let old = proto::Hello { protocol_version: 0, ..hello(true) };
    let twice = [frame(WorkerFrame::Hello(hello(true))), frame(WorkerFrame::Hello(hello(true)))].concat();
    let cases: [(&str, Bytes, &str, bool); 8] = [
        ("garbage", Bytes::from_static(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "over the limit", false),
        ("4 GiB", Bytes::from_static(b"\xff\xff\xff\xff"), "over the limit", false),
        ("no protobuf", Bytes::from_static(b"\0\0\0\x02\xff\xff"), "malformed frame", false),
        ("empty frame", Bytes::from_static(b"\0\0\0\0"), "empty or unknown", false),
        ("ready first", frame(WorkerFrame::Ready(proto::Ready {})), "did not begin with Hello", false),
        ("old version", frame(WorkerFrame::Hello(old)), "speaks version 0", false),
        ("hello twice", twice.into(), "Hello twice", true),
        ("no function name", frame(WorkerFrame::Hello(nameless())), "without a name", false),
    ];
    for (name, bytes, expected, greets) in cases {
        let mut worker = Worker::start("raw", 64, |config| {
            let directory = &config.variables[1].1;
            std::fs::write(std::path::Path::new(directory).join("frames"), &bytes).unwrap();
        });
        if greets {
            worker.started().await;
            worker.next().await;
        }
        assert_breaks(worker, name, expected, None).await;
    }
}

fn nameless() -> proto::Hello {
    proto::Hello { functions: vec![proto::Function::default()], ..hello(true) }
}

#[tokio::test]
async fn bad_results_are_refused() {
    let one = || blobs(&[b"r"]);
    let good = proto::Results { chunk: 1, first: 0, count: 1, items: one(), ..Default::default() };
    let failure = |offset| proto::ItemFailure { offset, kind: proto::FailureKind::Raised.into(), ..Default::default() };
    let denial = proto::ItemFailure { kind: proto::FailureKind::UnknownFunction.into(), ..Default::default() };
    let cases: [(&str, Bytes, &str); 13] = [
        ("unknown chunk", results_frame(2, 0, one()), "chunk 2, which it does not have"),
        ("a gap", results_frame(1, 1, one()), "offset 1 instead of 0"),
        ("no result", results(proto::Results { count: 0, ..good.clone() }), "sent 0 results"),
        ("too many", results_frame(1, 0, blobs(&[b"a", b"b", b"c"])), "sent 3 results"),
        ("false count", results(proto::Results { count: 2, ..good.clone() }), "announced 2 results"),
        (
            "malformed items",
            results(proto::Results { items: Bytes::from_static(b"\x0a\x09x"), ..good.clone() }),
            "malformed results",
        ),
        (
            "failure out of range",
            results(proto::Results { failures: vec![failure(1)], ..good.clone() }),
            "a failure at offset 1",
        ),
        (
            "denied function",
            results(proto::Results { items: blobs(&[b""]), failures: vec![denial], ..good.clone() }),
            "denies a function which it registered",
        ),
        ("recalled unasked", frame(WorkerFrame::Recalled(proto::Recalled { chunk: 1, first_not_begun: 0 })), "asked"),
        ("pong unasked", frame(WorkerFrame::Pong(proto::Pong { nonce: 1 })), "Pong"),
        ("ready twice", frame(WorkerFrame::Ready(proto::Ready {})), "Ready twice"),
        ("started with page", frame(WorkerFrame::Started(proto::Started { chunk: 1, offset: 0 })), "Started"),
        ("hello late", frame(WorkerFrame::Hello(hello(true))), "Hello twice"),
    ];
    for (name, bytes, expected) in cases {
        let mut worker = Worker::in_role("frames");
        std::fs::write(worker.file("frames"), &bytes).unwrap();
        worker.ready().await;
        worker.run(1, &[b"a", b"b"]).await;
        assert_breaks(worker, name, expected, Some((ChunkId(1), 0))).await;
    }
}

#[tokio::test]
async fn a_second_answer_is_refused_after_the_first_was_taken() {
    let mut worker = Worker::in_role("frames");
    let answer = results_frame(1, 0, blobs(&[b"r"]));
    std::fs::write(worker.file("frames"), [&answer[..], &answer[..]].concat()).unwrap();
    worker.ready().await;
    worker.run(1, &[b"a"]).await;
    assert_eq!(worker.results().await.items, blobs(&[b"r"]));
    assert_breaks(worker, "two answers", "which it does not have", None).await;
}

#[tokio::test]
async fn a_worker_that_closes_its_channel_and_lives_is_killed() {
    let began = Instant::now();
    let worker = Worker::in_role("close_channel");
    worker.mark("closed").await;
    assert_breaks(worker, "closed", "closed its channel", None).await;
    assert!(began.elapsed() >= Duration::from_millis(400), "it had a moment to exit by itself");
}

/// What it prints keeps us busy, and must not keep it alive. That it does not even delay its end can be seen without a
/// clock where the process is played: `a_flood_of_output_delays_no_timer`, beside the session.
#[tokio::test]
async fn a_worker_that_closes_its_channel_and_floods_its_output_is_killed_in_time() {
    let worker = Worker::shell("cd $PROCPOOL_TEST_DIRECTORY; exec 3>&-; echo >closed; yes & yes >&2 & exec yes");
    worker.mark("closed").await;
    assert_breaks(worker, "closed", "closed its channel", None).await;
}

#[tokio::test]
async fn garbage_just_before_death_is_still_garbage() {
    let script = "printf 'GET / HTTP/1.1\\r\\n' >&3; exit 0";
    assert_breaks(Worker::shell(script), "garbage", "over the limit", None).await;
}
