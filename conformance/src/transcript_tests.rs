//! Tests of `transcript`: faults that no test worker has.

use bytes::Bytes;
use procpool_ipc::proto::worker_frame::Frame;
use procpool_ipc::proto::{
    CallStyle, FailureKind, Function, Hello, ItemFailure, ItemKind, Pong, Ready, Recalled, Results, Started,
};
use serde_json::json;

use crate::subject::{list, run_blobs, run_values};
use crate::transcript::Transcript;

/// Returns a transcript of a worker that is ready and was given two chunks, of three values and two blobs.
fn ready(uses_progress_page: bool) -> Transcript {
    let mut transcript = Transcript::new(true);
    let hello = Hello { protocol_version: 1, uses_progress_page, ..Hello::default() };
    transcript.take(Frame::Hello(hello)).unwrap();
    transcript.take(Frame::Ready(Ready {})).unwrap();
    transcript.add(&mut run_values("f", CallStyle::Map, &[json!(1), json!(2), json!(3)]));
    transcript.add(&mut run_blobs("f", CallStyle::Map, "", &[b"x", b"y"]));
    transcript
}

fn results(chunk: u64, first: u32, contents: &[&[u8]]) -> Results {
    let count = u32::try_from(contents.len()).unwrap();
    Results { chunk, first, count, items: list(contents.iter().copied()), ..Results::default() }
}

const NULL: &[u8] = &[0x08, 0x00];

fn fault(outcome: Result<(), crate::report::Fault>) -> String {
    outcome.map_or_else(|fault| fault.got, |()| "nothing wrong".to_owned())
}

fn fault_of(uses_page: bool, begun: u64, frames: impl IntoIterator<Item = Frame>) -> String {
    let mut transcript = ready(uses_page);
    transcript.note_ping(7);
    if let Err(fault) = transcript.take_begun(begun) {
        return fault.got;
    }
    frames
        .into_iter()
        .find_map(|frame| transcript.take(frame).err())
        .map_or_else(|| "nothing wrong".to_owned(), |fault| fault.got)
}

#[test]
fn a_good_worker_has_no_fault() {
    let good = [results(1, 0, &[NULL, NULL]), results(1, 2, &[NULL]), results(2, 0, &[b"", b"y"])];
    assert_eq!(fault_of(true, 5, good.map(Frame::Results)), "nothing wrong");
    let mut frames = Vec::new();
    for offset in 0..3 {
        frames.extend([Frame::Started(Started { chunk: 1, offset }), Frame::Results(results(1, offset, &[NULL]))]);
    }
    assert_eq!(fault_of(false, 0, frames), "nothing wrong");
    assert_eq!(fault_of(true, 0, [Frame::Pong(Pong { nonce: 7 })]), "nothing wrong");
}

#[test]
fn results_must_fit_what_was_given() {
    for (begun, results, expected) in [
        (2, results(1, 0, &[NULL, NULL, NULL]), "the result of item 2 of chunk 1, which it never reported as begun"),
        (5, results(1, 1, &[NULL]), "from offset 1 instead of 0"),
        (5, results(2, 0, &[b"x"]), "before those of chunk 1"),
        (5, Results { count: 2, ..results(1, 0, &[NULL]) }, "announced 2 results and sent 1"),
        (5, Results { count: 0, ..results(1, 0, &[]) }, "sent 0 results"),
        (5, results(1, 0, &[b"\xff"]), "a value that cannot be read"),
        (5, results(1, 0, &[b"\x11\x00\x00\x00\x00\x00\x00\xf8\x7f"]), "a value that cannot be read: NaN"),
        (5, Results { items: Bytes::from_static(b"\x0a\x09"), ..results(1, 0, &[NULL]) }, "malformed items"),
    ] {
        let fault = fault_of(true, begun, [Frame::Results(results)]);
        assert!(fault.contains(expected), "{fault}");
    }
}

#[test]
fn failures_must_fit_their_results() {
    let raised = ItemFailure { offset: 1, kind: FailureKind::Raised.into(), ..ItemFailure::default() };
    for (failures, contents, expected) in [
        (vec![raised.clone()], [NULL, NULL], "nothing wrong"),
        (vec![raised.clone(), raised.clone()], [NULL, NULL], "a failure at offset 1, out of order"),
        (vec![ItemFailure { offset: 2, ..raised.clone() }], [NULL, NULL], "a failure at offset 2, out of order"),
        (vec![ItemFailure { kind: 0, ..raised.clone() }], [NULL, NULL], "a failure of kind 0"),
        (vec![raised.clone()], [NULL, b"\x20\x01"], "a result beside the failure at offset 1"),
        (
            vec![ItemFailure { traceback: "x".repeat(65_537), ..raised.clone() }],
            [NULL, NULL],
            "a traceback of 65537 bytes",
        ),
        (vec![ItemFailure { data: vec![7; 65_537].into(), ..raised }], [NULL, NULL], "65537 bytes of data"),
    ] {
        let results = Results { failures, ..results(1, 0, &contents) };
        let fault = fault_of(true, 5, [Frame::Results(results)]);
        assert!(fault.contains(expected), "{fault}");
    }
}

#[test]
fn an_item_that_is_refused_need_not_begin() {
    let refused = ItemFailure { kind: FailureKind::UnknownFunction.into(), ..ItemFailure::default() };
    let failures = (0..3).map(|offset| ItemFailure { offset, ..refused.clone() }).collect();
    for uses_page in [true, false] {
        let frame = Frame::Results(Results { failures: Vec::clone(&failures), ..results(1, 0, &[NULL; 3]) });
        assert_eq!(fault_of(uses_page, 0, [frame]), "nothing wrong");
    }
}

#[test]
fn an_item_that_cannot_be_decoded_has_begun() {
    let failure = ItemFailure { kind: FailureKind::InvalidItem.into(), ..ItemFailure::default() };
    for (uses_page, begun) in [(true, 0), (true, 1), (false, 0)] {
        let frame = Frame::Results(Results { failures: vec![failure.clone()], ..results(1, 0, &[NULL]) });
        let fault = fault_of(uses_page, begun, [frame]);
        let expected = if begun == 1 { "nothing wrong" } else { "which it never reported as begun" };
        assert!(fault.contains(expected), "{fault}");
    }
}

#[test]
fn frames_come_in_their_order() {
    let started = |chunk, offset| Frame::Started(Started { chunk, offset });
    for (uses_page, frame, expected) in [
        (true, Frame::Hello(Hello::default()), "sent Hello twice"),
        (true, Frame::Ready(Ready {}), "sent Ready twice"),
        (true, Frame::Pong(Pong { nonce: 8 }), "sent Pong 8, which nobody asked for"),
        (true, started(1, 0), "sent Started, though it uses the progress page"),
        (false, started(1, 1), "began item 1 of chunk 1 out of order"),
        (false, started(2, 0), "began item 0 of chunk 2 out of order"),
        (false, Frame::Results(results(1, 0, &[NULL])), "which it never reported as begun"),
    ] {
        assert!(fault_of(uses_page, 0, [frame]).contains(expected), "{expected}");
    }
    let again = [started(1, 0), started(1, 0)];
    assert_eq!(fault_of(false, 0, again), "began item 0 of chunk 1 out of order");
}

#[test]
fn what_is_given_back_is_gone() {
    let recalled = |first_not_begun| Frame::Recalled(Recalled { chunk: 1, first_not_begun });
    assert_eq!(fault_of(true, 0, [recalled(0)]), "gave back chunk 1 without being asked");
    let after_recall = |begun: u64, frames: Vec<Frame>, later: u64| {
        let mut transcript = ready(true);
        transcript.take_begun(begun).unwrap();
        transcript.note_recall(1);
        let bad_frame = frames.into_iter().find_map(|frame| transcript.take(frame).err());
        bad_frame.map_or_else(|| fault(transcript.take_begun(later)), |fault| fault.got)
    };
    assert_eq!(after_recall(1, vec![recalled(1), Frame::Results(results(1, 0, &[NULL]))], 4), "nothing wrong");
    assert_eq!(after_recall(2, vec![recalled(1)], 2), "gave back chunk 1 from offset 1, and item 1 had begun");
    assert_eq!(after_recall(1, vec![recalled(1)], 2), "began item 1 of chunk 1, which it had given back from 1 on");
    assert_eq!(after_recall(1, vec![recalled(1), recalled(1)], 1), "answered the recall of chunk 1 twice");
    assert_eq!(after_recall(1, vec![recalled(4)], 1), "gave back chunk 1 from offset 4, after 0 of 3 results");
}

#[test]
fn the_page_only_rises_and_names_what_was_given() {
    let mut transcript = ready(true);
    assert_eq!(fault(transcript.take_begun(3)), "nothing wrong");
    assert_eq!(fault(transcript.take_begun(2)), "stored sequence number 2 in the page after 3");
    assert_eq!(fault(transcript.take_begun(6)), "stored sequence number 6, and the last item has 5");
}

#[test]
fn hello_is_checked() {
    let function = |name: &str| Function { name: name.to_owned(), ..Function::default() };
    let good = Hello { protocol_version: 1, ..Hello::default() };
    for (hello, expected) in [
        (Hello { protocol_version: 2, ..good.clone() }, "speaks version 2"),
        (Hello { uses_progress_page: true, ..good.clone() }, "uses a progress page, and was sent none"),
        (Hello { functions: vec![function("a\n")], ..good.clone() }, "registered the name \"a\\n\""),
        (
            Hello { functions: vec![function("procpool:map")], ..good.clone() },
            "registered the reserved name \"procpool:map\"",
        ),
        (Hello { functions: vec![function("a"), function("a")], ..good }, "registered \"a\" twice"),
    ] {
        assert!(fault(Transcript::new(false).take(Frame::Hello(hello))).contains(expected), "{expected}");
    }
    assert_eq!(fault(Transcript::new(false).take(Frame::Ready(Ready {}))), "did not begin with Hello");
    assert!(matches!(run_blobs("f", CallStyle::Map, "", &[]).kind(), ItemKind::Blobs));
}
