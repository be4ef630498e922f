//! Functions that see their items as they came, and the hook that tells of a cancellation.

use std::sync::mpsc;
use std::time::Duration;

use procpool_ipc::DEFAULT_MAX_FRAME_BYTES;
use procpool_ipc::proto::CallStyle::{Apply, Map, Star};
use procpool_ipc::proto::{FailureKind, Recalled};
use procpool_items::{Records, value};
use procpool_test_workers::FakeServer;
use procpool_worker::{Encoding, Failure, Function, Input, Style, Worker, cancelled};
use serde_json::{Value, json};

use crate::in_thread::{start, start_with};

/// Says what it sees; in the encoding of the item, as it must.
#[expect(clippy::unnecessary_wraps, reason = "other functions fail")]
fn describe(input: Input<'_>, buffer: &mut Vec<u8>) -> Result<(), Failure> {
    let Input { encoding, style, content, max_result_bytes, .. } = input;
    let text = format!("{encoding:?} {style:?} {} {max_result_bytes}", content.len());
    match encoding {
        Encoding::Values => value::append_with(&text, value::NonFinite::Error, buffer).expect("a text is a value"),
        Encoding::Json => buffer.extend_from_slice(json!(text).to_string().as_bytes()),
        Encoding::Bytes => buffer.extend_from_slice(text.as_bytes()),
    }
    Ok(())
}

fn blob_result(server: &mut FakeServer, content_type: &str, blob: &[u8]) -> String {
    server.run_blobs("describe", Map, content_type, &[blob]);
    let results = server.expect_results();
    let record = Records::new(&results.items).next().expect("one result").expect("it is well-formed");
    String::from_utf8(record.to_vec()).expect("it is text")
}

#[test]
fn a_dynamic_function_sees_the_raw_item() {
    let worker = Worker::new().register(Function::dynamic("describe", describe));
    let (mut server, thread) = start_with(worker, 4096, 0);
    // Without a page, each item is announced.
    server.run("describe", Map, &[json!("abc")]);
    server.expect_frame();
    let values: Vec<Value> = value::list_from_bytes(&server.expect_results().items).expect("values");
    assert_eq!(values, [json!("Values Map 5 4029")]);
    server.shut_down();
    thread.join().unwrap().unwrap();

    let worker = Worker::new().register(Function::dynamic("describe", describe));
    let (mut server, _thread) = start(worker);
    let limit = DEFAULT_MAX_FRAME_BYTES - 69;
    assert_eq!(server.call_one("describe", Star, json!([1])), json!(format!("Values Star 13 {limit}")));
    assert_eq!(blob_result(&mut server, "", b"xyz"), format!("Bytes Map 3 {limit}"));
    assert_eq!(blob_result(&mut server, "application/json", b"[1]"), format!("\"Json Map 3 {limit}\""));
    let (style, apply) = (Style::Apply, Apply);
    assert_eq!(format!("{style:?}"), format!("{apply:?}"));
}

/// A result of exactly the limit fits a frame; one more byte does not.
#[test]
fn the_limit_on_results_is_exact() {
    let worker = Worker::new().register(Function::dynamic("fill", |input, buffer| {
        let extra = usize::from(input.content == b"more");
        buffer.resize(input.max_result_bytes + extra, b'x');
        Ok(())
    }));
    let (mut server, _thread) = start_with(worker, 4096, 8192);
    server.run_blobs("fill", Map, "", &[b"fits", b"more"]);
    let fits = server.expect_results();
    assert_eq!((fits.count, fits.failures.len()), (1, 0));
    assert_eq!(server.expect_results().failures[0].kind(), FailureKind::NotEncodable);
}

#[test]
fn a_dynamic_function_fails_in_its_own_words() {
    let worker = Worker::new().register(Function::dynamic("fail", |input, buffer| {
        buffer.extend_from_slice(b"half a result");
        match value::from_bytes::<u8>(input.content).expect("a number") {
            0 => Err(Failure::raised_as("ExitCode(3)", "no luck", "line 1\nline 2").with_data(&b"\x80\x05N."[..])),
            1 => Err(Failure::invalid_item("too small").with_data(vec![7])),
            _ => Err(Failure::not_encodable("too large")),
        }
    }));
    let (mut server, _thread) = start(worker);
    let outcome = server.call("fail", Map, &[json!(0), json!(1), json!(2)]);
    assert_eq!(outcome.results, [json!(null), json!(null), json!(null)]);
    let kinds = outcome.failures.iter().map(procpool_ipc::proto::ItemFailure::kind);
    assert_eq!(kinds.collect::<Vec<_>>(), [FailureKind::Raised, FailureKind::InvalidItem, FailureKind::NotEncodable]);
    let raised = &outcome.failures[0];
    assert_eq!((raised.r#type.as_str(), raised.message.as_str()), ("ExitCode(3)", "no luck"));
    assert_eq!(raised.traceback, "line 1\nline 2");
    let data: Vec<&[u8]> = outcome.failures.iter().map(|failure| &failure.data[..]).collect();
    assert_eq!(data, [&b"\x80\x05N."[..], b"", b""], "only an error has data");
}

#[test]
fn data_is_sent_whole_or_not_at_all() {
    let register = || {
        Worker::new().register(Function::dynamic("fail", |input, _| {
            let length: usize = value::from_bytes(input.content).expect("a number");
            Err(Failure::raised_as("E", "no luck", "line 1").with_data(vec![7; length]))
        }))
    };
    for (max_frame_bytes, lengths) in [(1 << 20, [65_536, 65_537]), (1024, [400, 1000])] {
        let (mut server, _thread) = start_with(register(), max_frame_bytes, 4096);
        let failures = server.call("fail", Map, &lengths.map(|length| json!(length))).failures;
        let sent: Vec<usize> = failures.iter().map(|failure| failure.data.len()).collect();
        assert_eq!(sent, [lengths[0], 0]);
        assert!(failures.iter().all(|failure| failure.traceback == "line 1"), "{failures:?}");
    }
}

#[test]
fn the_hook_is_called_when_the_item_that_runs_is_cancelled() {
    let (begun_sender, begun) = mpsc::channel();
    let (alarm, alarm_receiver) = mpsc::channel();
    let worker = Worker::new().on_cancel(move || alarm.send(cancelled()).expect("the function waits")).register(
        Function::dynamic("wait", move |_, buffer| {
            begun_sender.send(()).expect("the test listens");
            let was_cancelled = alarm_receiver.recv_timeout(Duration::from_secs(20)).expect("the hook is called");
            value::append_with(&was_cancelled, value::NonFinite::Error, buffer).expect("a bool is a value");
            Ok(())
        }),
    );
    let (mut server, _thread) = start(worker);
    let (chunk, _) = server.run("wait", Map, &[json!(0), json!(1)]);
    begun.recv_timeout(Duration::from_secs(20)).expect("the item begins");
    // Giving back what has not begun is no cancellation of what has; and both may come, in this order.
    server.recall(chunk, false);
    assert_eq!(server.expect_recalled(), Recalled { chunk, first_not_begun: 1 });
    server.recall(chunk, true);
    assert_eq!(server.collect(chunk, 1).results, [json!(true)]);
}
