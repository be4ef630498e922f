//! Items and results of a job.

use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::Bytes;
use procpool_items::{ItemKind, ItemSlab, SlabBuilder};
use procpool_scheduler::{Delivery, JobId, ResultSize};

use super::{JobHeader, JobPayload, OutcomeRun, RUN_BYTES};
use crate::admission::Admission;
use crate::call::{CallStyle, TraceContext};
use crate::config::PoolConfig;
use crate::error::{ItemError, ItemFailure};
use crate::notify::Notifier;
use crate::outcome::ERROR_BYTES_IN_ANSWER;
use crate::results::ResultBytes;

fn slab(items: &[&str]) -> ItemSlab {
    let mut builder = SlabBuilder::new();
    for item in items {
        builder.push(item.as_bytes());
    }
    ItemSlab::parse(ItemKind::Blobs, builder.take()).unwrap()
}

fn text(parts: &[Bytes]) -> Vec<String> {
    let whole = ItemSlab::parse(ItemKind::Blobs, parts.concat().into()).unwrap();
    (0..whole.len()).map(|item| String::from_utf8(whole.item(item).to_vec()).unwrap()).collect()
}

fn header() -> JobHeader {
    JobHeader {
        function: "f".into(),
        content_type: "".into(),
        style: CallStyle::Map,
        trace: Arc::new(TraceContext::default()),
    }
}

#[test]
fn chunks_cross_segments_and_segments_go_when_all_of_them_is_finished() {
    let config = PoolConfig { max_queued_items: 5, ..PoolConfig::new(NonZeroU32::MIN) };
    let admission = Admission::new(&config);
    let mut payload = JobPayload::new(header(), None, Delivery::Ordered { window: None });
    for part in [slab(&["a", "b"]), slab(&["c", "d", "e"])] {
        payload.add(admission.try_admit(part).unwrap());
    }
    assert_eq!(text(&payload.items(1, 3)), ["b", "c", "d"]);
    assert_eq!(text(&payload.items(3, 2)), ["d", "e"]);

    let run = |first_index, items: &[&str]| OutcomeRun {
        first_index,
        count: items.len() as u64,
        items: slab(items).bytes().clone(),
        errors: Vec::new(),
    };
    payload.store(run(1, &["B", "C"]));
    assert!(admission.try_admit(slab(&["x"])).is_err(), "both segments are still needed");
    payload.store(run(0, &["A"]));
    let room = admission.try_admit(slab(&["x", "y"])).expect("the first segment is gone");
    assert_eq!(text(&payload.items(3, 2)), ["d", "e"], "the second is where it was");
    payload.store(run(3, &["D", "E"]));
    drop(room);
    assert!(admission.try_admit(slab(&["1", "2", "3", "4", "5"])).is_ok());
    let bytes = slab(&["A", "B", "C", "D", "E"]).bytes().len() as u64 + RUN_BYTES;
    assert_eq!(payload.held_bytes(), bytes, "they are one run by now");
    let (runs, held) = payload.take(0, 5);
    let [run] = &runs[..] else { panic!("{runs:?}") };
    assert_eq!((run.first_index, run.count), (0, 5));
    assert_eq!(text(std::slice::from_ref(&run.items)), ["A", "B", "C", "D", "E"]);
    assert_eq!((held, payload.held_bytes()), (bytes, 0));
}

#[test]
fn outcomes_are_counted_with_all_that_it_takes_to_keep_them() {
    let config = PoolConfig { max_queued_items: 1_000, ..PoolConfig::new(NonZeroU32::MIN) };
    let admission = Admission::new(&config);
    let mut payload = JobPayload::new(header(), None, Delivery::Whole);
    let items = slab(&["x"; 1_000]);
    payload.add(admission.try_admit(items).unwrap());
    // In an order in which some have neighbours before, some after, and some on both sides; every tenth fails.
    let (mut answer_bytes, mut told) = (0, ResultSize::default());
    for index in (0..1_000).map(|step| step * 7 % 1_000) {
        let items = slab(&["result"]).bytes().clone();
        let failure = ItemFailure::ResultNotEncodable { message: "no".to_owned() };
        let errors = if index % 10 == 0 { vec![ItemError { index, failure }] } else { Vec::new() };
        answer_bytes += items.len() as u64 + if errors.is_empty() { 0 } else { ERROR_BYTES_IN_ANSWER as u64 + 2 };
        let change = payload.store(OutcomeRun { first_index: index, count: 1, items, errors });
        told = ResultSize { held: told.held + change.held, answer: told.answer + change.answer };
        assert_eq!(told.held.cast_unsigned(), payload.held_bytes());
    }
    assert_eq!(told.answer.cast_unsigned(), answer_bytes);
    assert!(payload.outcomes.len() <= 4, "small ones are put together: {}", payload.outcomes.len());
    assert_eq!(payload.failure_of(990).unwrap().index, 990);
    let output = payload.into_output(ResultBytes::default());
    assert_eq!(text(&output.parts), ["result"; 1_000]);
    assert!(output.errors.iter().map(|error| error.index).eq((0..1_000).step_by(10)));
}

#[test]
fn a_claim_gives_back_what_it_claims_once_and_counts_its_results_at_the_end() {
    let notifier = Arc::new(Notifier::default());
    let given_back = || {
        let given_back = notifier.take().given_back.into_iter();
        given_back.map(|(job, part)| (job.0, part.bytes, part.count)).collect::<Vec<_>>()
    };
    let mut held = ResultBytes::default();
    for job in [1, 1] {
        held.add(ResultBytes::new(JobId(job), 50, 2, &notifier));
    }
    assert_eq!(given_back(), []);
    held.give_back(30);
    held.give_back(20);
    assert_eq!(given_back(), [(1, 50, 0)]);
    let other = ResultBytes::new(JobId(2), 7, 1, &notifier);
    held.give_back(60);
    drop(other);
    assert_eq!(given_back(), [(1, 50, 4), (2, 7, 1)]);
    drop(held);
    assert_eq!(given_back(), []);
}
