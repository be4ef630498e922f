//! Refusals for time, on pools that are told what happens by hand, and against what would really have happened.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use crate::backoff::Rng;
use crate::event::{Dispatch, Event, JobFailure, ResultSize};
use crate::id::{FunctionId, JobId};
use crate::job_spec::{Delivery, JobSpec};
use crate::pool::demand::tests::{Pool, in_chunks_of, spec};
use crate::time::Time;

const SECOND: Duration = Duration::from_secs(1);

/// Returns a pool that knows that an item takes a second, and has nothing to do.
fn measured_pool(slots: u32) -> Pool {
    let mut pool = Pool::new(slots);
    for id in 1..=32 {
        pool.submit_as(spec(id, 1));
        pool.finish(SECOND);
    }
    pool
}

/// Gives every slot an item, and the queue as many jobs of one item as this.
fn with_queue(slots: u32, jobs: u64) -> Pool {
    let mut pool = measured_pool(slots);
    for id in 0..u64::from(slots) + jobs {
        pool.submit_as(spec(100 + id, 1));
    }
    pool
}

/// Submits a job with this much time, and tells why it was refused, if it was.
fn submit(pool: &mut Pool, time: Duration, change: impl FnOnce(&mut JobSpec)) -> Option<JobFailure> {
    let mut spec = spec(1_000_000, 1);
    spec.deadline = Some(pool.now.after(time));
    change(&mut spec);
    pool.submit_as(spec);
    let failed = pool.failed.pop().map(|(_, failure)| failure);
    if failed.is_none() {
        pool.apply(Event::JobCancelled { job: JobId(1_000_000) });
        pool.failed.clear();
    }
    failed
}

#[test]
fn what_cannot_be_done_in_time_is_refused_and_told_when_to_come_back() {
    let mut pool = with_queue(2, 10);
    let refused = submit(&mut pool, 8 * SECOND, |_| {});
    // Two that run, ten that wait, on two slots; one of its own; and a quarter.
    let (expected, remaining, retry_after) = (SECOND * 35 / 4, 8 * SECOND, SECOND * 3 / 4);
    assert_eq!(refused, Some(JobFailure::DeadlineUnreachable { expected, remaining, retry_after }));
    assert_eq!(submit(&mut pool, 9 * SECOND, |_| {}), None);
    pool.pass(SECOND / 2);
    assert_eq!(submit(&mut pool, SECOND * 17 / 2, |_| {}), None, "those that run are half done");
}

#[test]
fn a_long_list_is_weighed_whole_and_a_stream_by_its_first_result() {
    let mut pool = with_queue(2, 2);
    assert!(submit(&mut pool, 10 * SECOND, |spec| spec.num_items = 14).is_some(), "18 s for two slots, and a quarter");
    assert_eq!(submit(&mut pool, 10 * SECOND, |spec| spec.num_items = 11), None);
    let stream = |spec: &mut JobSpec| {
        spec.num_items = 1000;
        spec.delivery = Delivery::Ordered { window: None };
    };
    assert_eq!(submit(&mut pool, 4 * SECOND, stream), None);
    assert!(submit(&mut pool, 3 * SECOND, stream).is_some());
    let chunk = |spec: &mut JobSpec| (spec.num_items, spec.options) = (5, in_chunks_of(5));
    assert_eq!(submit(&mut pool, 9 * SECOND, chunk), None);
    assert!(submit(&mut pool, 8 * SECOND, chunk).is_some(), "what is to stay together runs on one slot");
}

#[test]
fn a_long_job_in_front_takes_no_more_than_its_share() {
    let mut pool = measured_pool(2);
    pool.submit_as(spec(100, 1_000_000));
    assert_eq!(submit(&mut pool, 3 * SECOND, |_| {}), None, "one item goes as soon as a slot is free");
    let ten = |spec: &mut JobSpec| spec.num_items = 10;
    assert_eq!(submit(&mut pool, 15 * SECOND, ten), None, "half of the pool is its own");
    assert!(submit(&mut pool, 10 * SECOND, ten).is_some());
    let preferred = |spec: &mut JobSpec| (spec.num_items, spec.options.priority) = (10, 4);
    assert_eq!(submit(&mut pool, 10 * SECOND, preferred), None);
}

#[test]
fn an_idle_slot_takes_everything() {
    for slots in [1, 3] {
        let mut pool = measured_pool(slots);
        let refused = submit(&mut pool, Duration::from_nanos(1), |spec| spec.num_items = 1_000_000);
        assert_eq!(refused, None, "how wrong the measurements are is found out by running");
    }
}

#[test]
fn what_is_not_known_is_not_held_against_a_call() {
    let mut pool = with_queue(1, 100);
    assert!(submit(&mut pool, SECOND, |_| {}).is_some());
    assert_eq!(submit(&mut pool, Duration::ZERO, |_| {}), Some(JobFailure::DeadlineExceeded { started: false }));
    assert_eq!(submit(&mut pool, SECOND, |spec| (spec.num_items, spec.input_closed) = (0, false)), None);
    assert!(submit(&mut pool, SECOND, |spec| spec.function = FunctionId(2)).is_some(), "the others are known");
    pool.pass(31 * SECOND);
    assert_eq!(submit(&mut pool, SECOND, |_| {}), None, "nothing has been measured for long");

    let mut pool = Pool::new(1);
    for id in 1..100 {
        pool.submit_as(spec(id, 1));
    }
    assert_eq!(submit(&mut pool, Duration::from_millis(1), |_| {}), None, "nothing was measured at all");
}

#[test]
fn what_will_not_be_done_in_time_itself_is_in_nobodys_way() {
    let mut pool = with_queue(1, 4);
    for id in 200..300 {
        // There is one that runs, and four that wait; one more of these is accepted.
        pool.submit_as(JobSpec { deadline: Some(pool.now.after(8 * SECOND)), ..spec(id, 1) });
    }
    assert_eq!(pool.failed.len(), 99);
    pool.failed.clear();
    assert!(submit(&mut pool, 8 * SECOND, |_| {}).is_some());
    assert_eq!(submit(&mut pool, 9 * SECOND, |_| {}), None);
    // What runs should have ended long ago; the one that was accepted would have three seconds left, and four before it.
    pool.pass(5 * SECOND);
    assert!(submit(&mut pool, 6 * SECOND, |_| {}).is_some());
    assert_eq!(submit(&mut pool, 7 * SECOND, |_| {}), None);
}

#[test]
fn what_has_become_too_late_in_the_queue_is_refused_and_not_begun() {
    let mut pool = measured_pool(1);
    pool.submit_as(spec(100, 1));
    for id in 200..205 {
        pool.submit_as(JobSpec { deadline: Some(pool.now.after(9 * SECOND)), ..spec(id, 1) });
    }
    assert_eq!(pool.failed, []);
    // One item takes five times as long as those before it.
    pool.pass(6 * SECOND);
    pool.finish(6 * SECOND);
    assert_eq!((pool.failed.len(), pool.dispatched[0].job), (0, JobId(200)));
    pool.pass(SECOND);
    pool.finish(SECOND);
    assert_eq!((pool.failed.len(), pool.dispatched[0].job), (0, JobId(201)), "it has two seconds left");
    pool.submit_as(spec(300, 1));
    pool.pass(SECOND);
    pool.finish(SECOND);
    let refused: Vec<u64> = pool.failed.iter().map(|(job, _)| job.0).collect();
    assert_eq!(refused, [202, 203, 204], "each has one second left, and nothing to spare");
    assert!(pool.failed.iter().all(|(_, failure)| matches!(failure, JobFailure::DeadlineUnreachable { .. })));
    assert_eq!(pool.dispatched[0].job, JobId(300), "the slot is not wasted");
}

#[test]
fn a_queue_that_is_too_long_to_look_at_is_estimated() {
    let mut pool = with_queue(4, 4000);
    assert_eq!(submit(&mut pool, 1253 * SECOND, |_| {}), None);
    assert!(submit(&mut pool, 1252 * SECOND, |_| {}).is_some());
}

/// Calls of one item come as they like, twice as many as the pool can do. They run in the order of their arrival, so it
/// is known when a call that was refused would have been done.
#[test]
fn a_pool_that_is_overloaded_does_in_time_what_it_accepts_and_refuses_what_would_be_too_late_or_nearly() {
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let slots = 1 + u32::try_from(rng.below(4)).unwrap();
        let mut pool = measured_pool(slots);
        let mut running: VecDeque<(Time, Dispatch)> = VecDeque::new();
        let mut waiting: BTreeSet<JobId> = BTreeSet::new();
        let (mut accepted, mut refused) = (0, 0);
        for id in 1000..1400 {
            let arrives = pool.now.after(Duration::from_millis(rng.below(1000 / u64::from(slots))));
            while running.front().is_some_and(|(ends, _)| *ends <= arrives) {
                let (ends, dispatch) = running.pop_front().unwrap();
                pool.now = ends;
                let Dispatch { worker, chunk, .. } = dispatch;
                let failed = Vec::new();
                pool.apply(Event::ItemsFinished {
                    worker,
                    chunk,
                    first: 0,
                    count: 1,
                    failed,
                    busy: SECOND,
                    size: ResultSize::default(),
                });
                begin(&mut pool, &mut running, &mut waiting);
            }
            pool.now = arrives;
            pool.apply(Event::TimePassed);
            assert_eq!(pool.failed, [], "seed {seed}: what was accepted came too late");
            let deadline = arrives.after(Duration::from_millis(1000 + rng.below(5000)));
            pool.submit_as(JobSpec { deadline: Some(deadline), ..spec(id, 1) });
            if let Some((job, failure)) = pool.failed.pop() {
                assert_eq!(job, JobId(id), "seed {seed}: what was accepted is kept");
                assert!(matches!(failure, JobFailure::DeadlineUnreachable { .. }), "seed {seed}: {failure:?}");
                let rounds = u32::try_from(waiting.len() / running.len()).unwrap();
                let slot_is_free_at = running[waiting.len() % running.len()].0.after(SECOND * rounds);
                let takes = slot_is_free_at.after(SECOND).since(arrives);
                // The estimate may be an item too long, since slots become free one by one.
                let most = (takes + SECOND) * 5 / 4;
                assert!(most > deadline.since(arrives), "seed {seed}: job {id} could have been done, in {takes:?}");
                refused += 1;
            } else {
                waiting.insert(JobId(id));
                accepted += 1;
            }
            begin(&mut pool, &mut running, &mut waiting);
        }
        assert!(accepted > 100 && refused > 50, "seed {seed}: {accepted} accepted, {refused} refused");
    }
}

/// Takes note of what was handed to workers.
fn begin(pool: &mut Pool, running: &mut VecDeque<(Time, Dispatch)>, waiting: &mut BTreeSet<JobId>) {
    for dispatch in pool.dispatched.drain(..) {
        assert!(waiting.remove(&dispatch.job), "only what was accepted and not too late runs");
        running.push_back((pool.now.after(SECOND), dispatch));
    }
}
