//! What begins of a stream that is held, and what does not.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::call_options::CallOptions;
use crate::event::{Delivery, Dispatch, Effect, Event, Hold, JobFailure, JobSpec};
use crate::id::JobId;
use crate::pool::demand::tests::{Pool, in_chunks_of, spec};

const JOB: JobId = JobId(2);
/// So long that no worker is given anything ahead.
const ITEM_TIME: Duration = Duration::from_secs(1);

/// Returns a pool of two slots that runs the first items of a stream.
fn pool_with(delivery: Delivery, chunk_size: Option<u32>) -> Pool {
    let mut pool = Pool::new(2);
    let chunk_size = chunk_size.and_then(NonZeroU32::new);
    let options = CallOptions { chunk_size, max_attempts: NonZeroU32::new(2), ..CallOptions::default() };
    pool.submit_as(JobSpec { delivery, options, ..spec(JOB.0, 100) });
    pool
}

fn ordered() -> Delivery {
    Delivery::Ordered { window: Some(50) }
}

fn hold(pool: &mut Pool, hold: Hold) {
    pool.apply(Event::StreamHeld { job: JOB, hold });
}

fn finish(pool: &mut Pool, dispatch: &Dispatch) {
    let Dispatch { worker, chunk, count, .. } = *dispatch;
    pool.apply(Event::ItemsFinished { worker, chunk, first: 0, count, failed: Vec::new(), busy: ITEM_TIME * count });
}

/// Returns the items that were handed out since the last look.
fn begun(pool: &mut Pool) -> Vec<u64> {
    let dispatched = std::mem::take(&mut pool.dispatched);
    dispatched.iter().flat_map(|chunk| chunk.first_index..chunk.first_index + u64::from(chunk.count)).collect()
}

#[test]
fn nothing_new_begins_until_the_stream_may_go_on() {
    let mut pool = pool_with(ordered(), Some(1));
    let running = std::mem::take(&mut pool.dispatched);
    hold(&mut pool, Hold::All);
    for chunk in &running {
        finish(&mut pool, chunk);
    }
    pool.apply(Event::ResultsTaken { job: JOB, total: 2 });
    assert_eq!(begun(&mut pool), [0_u64; 0]);
    hold(&mut pool, Hold::Nothing);
    assert_eq!(begun(&mut pool), [2, 3]);
}

#[test]
fn the_item_that_an_ordered_reader_waits_for_is_tried_again() {
    let mut pool = pool_with(ordered(), Some(1));
    let [first, second] = std::mem::take(&mut pool.dispatched).try_into().unwrap();
    hold(&mut pool, Hold::AllButNext);
    finish(&mut pool, &second);
    assert_eq!(begun(&mut pool), [0_u64; 0], "it runs");
    pool.apply(Event::WorkerExited { worker: first.worker, running: Some((first.chunk, 0)), by_shortage: false });
    pool.pass(Duration::from_secs(60));
    pool.apply(Event::TimePassed);
    let [again] = std::mem::take(&mut pool.dispatched).try_into().unwrap();
    assert_eq!((again.first_index, again.count, again.attempt), (0, 1, 2));
    finish(&mut pool, &again);
    assert_eq!(begun(&mut pool), [0_u64; 0], "now there is something for the reader");
    hold(&mut pool, Hold::AllButNext);
    assert_eq!(begun(&mut pool), [2], "the second had its outcome");
}

#[test]
fn an_unordered_reader_waits_for_any_item_but_only_one_runs() {
    let mut pool = pool_with(Delivery::Unordered { window: Some(50) }, Some(1));
    let [first, second] = std::mem::take(&mut pool.dispatched).try_into().unwrap();
    hold(&mut pool, Hold::AllButNext);
    finish(&mut pool, &second);
    hold(&mut pool, Hold::AllButNext);
    assert_eq!(begun(&mut pool), [0_u64; 0], "the first runs");
    finish(&mut pool, &first);
    assert_eq!(begun(&mut pool), [0_u64; 0], "there is something for the reader");
    hold(&mut pool, Hold::AllButNext);
    assert_eq!(begun(&mut pool), [2]);
}

#[test]
fn what_has_not_begun_is_asked_back_once_and_comes_again_later() {
    let mut pool = pool_with(ordered(), Some(40));
    let [first, second] = std::mem::take(&mut pool.dispatched).try_into().unwrap();
    assert_eq!((first.count, second.count), (40, 10));
    let mut effects = Vec::new();
    for _ in 0..2 {
        pool.state.apply(pool.now, Event::StreamHeld { job: JOB, hold: Hold::All }, &mut effects);
    }
    let recall = |chunk: &Dispatch| Effect::Recall { worker: chunk.worker, chunk: chunk.chunk, cancel: false };
    assert_eq!(effects, [recall(&first), recall(&second)]);
    for chunk in [&first, &second] {
        pool.apply(Event::Recalled { worker: chunk.worker, chunk: chunk.chunk, first_not_begun: 1 });
    }
    assert_eq!(begun(&mut pool), [0_u64; 0]);
    hold(&mut pool, Hold::AllButNext);
    assert_eq!(begun(&mut pool), [0_u64; 0], "the reader waits for what runs");
    let one = |chunk: &Dispatch| Dispatch { count: 1, ..chunk.clone() };
    finish(&mut pool, &one(&first));
    hold(&mut pool, Hold::AllButNext);
    assert_eq!(begun(&mut pool), [1]);
    hold(&mut pool, Hold::Nothing);
    finish(&mut pool, &one(&second));
    assert_eq!(begun(&mut pool), (2..40).collect::<Vec<_>>());
}

#[test]
fn a_job_whose_results_have_no_room_fails_and_what_runs_of_it_may_finish() {
    let mut pool = Pool::new(1);
    pool.submit_as(JobSpec { options: in_chunks_of(5), ..spec(JOB.0, 10) });
    let mut effects = Vec::new();
    pool.state.apply(pool.now, Event::ResultsRefused { job: JOB }, &mut effects);
    let [chunk] = std::mem::take(&mut pool.dispatched).try_into().unwrap();
    let expected = [
        Effect::FailJob { job: JOB, failure: JobFailure::ResultsRefused },
        Effect::Recall { worker: chunk.worker, chunk: chunk.chunk, cancel: false },
    ];
    assert_eq!(effects, expected);
}
