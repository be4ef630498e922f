//! Which jobs fail or are paused for their results, what begins of a stream that is paused, and when it goes on.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::event::{Dispatch, Effect, Event, JobFailure, ResultSize};
use crate::id::JobId;
use crate::job_spec::{CallOptions, Delivery, JobSpec, OnError};
use crate::pool::demand::tests::{Pool, in_chunks_of, spec};

const JOB: JobId = JobId(2);
const OTHER: JobId = JobId(3);
/// So long that no worker is given anything ahead.
const ITEM_TIME: Duration = Duration::from_secs(1);

/// Of the 256 MiB that results may take by default, a quarter is for streams: of that, a quarter is free for all, and the
/// next is shared.
const MIB: i64 = 1 << 20;
const FREE: i64 = 16 * MIB;
const LIMIT: i64 = 64 * MIB;

const ORDERED: Delivery = Delivery::Ordered { window: Some(50) };
const UNORDERED: Delivery = Delivery::Unordered { window: Some(50) };

fn tried_twice(chunk_size: Option<u32>) -> CallOptions {
    let chunk_size = chunk_size.and_then(NonZeroU32::new);
    let (max_attempts, on_error) = (NonZeroU32::new(2), Some(OnError::Collect));
    CallOptions { chunk_size, max_attempts, on_error, ..CallOptions::default() }
}

/// Returns a pool of two slots that runs the first items of a stream.
fn pool_with(delivery: Delivery, chunk_size: Option<u32>) -> Pool {
    let mut pool = Pool::new(2);
    pool.submit_as(JobSpec { delivery, options: tried_twice(chunk_size), ..spec(JOB.0, 100) });
    pool
}

/// Returns the same, in which another stream holds so much that its reader does not take.
fn pool_beside(held: i64, delivery: Delivery, chunk_size: Option<u32>) -> Pool {
    let mut pool = Pool::new(2);
    pool.submit_as(JobSpec { delivery: ORDERED, input_closed: false, options: in_chunks_of(1), ..spec(OTHER.0, 1) });
    let [chunk] = chunks(&mut pool).try_into().unwrap();
    finish(&mut pool, &chunk, held);
    pool.submit_as(JobSpec { delivery, options: tried_twice(chunk_size), ..spec(JOB.0, 100) });
    pool
}

/// Finishes a chunk, with results of this size.
fn finish(pool: &mut Pool, dispatch: &Dispatch, held: i64) {
    let Dispatch { worker, chunk, count, .. } = *dispatch;
    let (size, busy) = (ResultSize { held, answer: held }, ITEM_TIME * count);
    pool.apply(Event::ItemsFinished { worker, chunk, first: 0, count, failed: Vec::new(), busy, size });
}

fn give_back(pool: &mut Pool, job: JobId, bytes: i64, count: u64) {
    pool.apply(Event::ResultsGivenBack { job, bytes: bytes.cast_unsigned(), count });
}

/// Returns what was handed out since the last look.
fn chunks(pool: &mut Pool) -> Vec<Dispatch> {
    std::mem::take(&mut pool.dispatched)
}

/// Returns the items that were handed out since the last look.
fn begun(pool: &mut Pool) -> Vec<u64> {
    let items = |chunk: &Dispatch| chunk.first_index..chunk.first_index + u64::from(chunk.count);
    chunks(pool).iter().flat_map(items).collect()
}

#[test]
fn nothing_new_begins_until_the_reader_goes_on() {
    let mut pool = pool_with(ORDERED, Some(1));
    let [first, second] = chunks(&mut pool).try_into().unwrap();
    finish(&mut pool, &first, FREE + 1);
    finish(&mut pool, &second, 1);
    pool.apply(Event::ResultsTaken { job: JOB, total: 2 });
    assert_eq!(begun(&mut pool), [0_u64; 0]);
    give_back(&mut pool, JOB, 1, 1);
    assert_eq!(begun(&mut pool), [0_u64; 0]);
    give_back(&mut pool, JOB, 1, 0);
    assert_eq!(begun(&mut pool), [2, 3]);
}

#[test]
fn the_item_that_an_ordered_reader_waits_for_is_tried_again() {
    let mut pool = pool_with(ORDERED, Some(1));
    let [first, second] = chunks(&mut pool).try_into().unwrap();
    finish(&mut pool, &second, FREE + 1);
    assert_eq!(begun(&mut pool), [0_u64; 0], "it runs");
    pool.apply(Event::WorkerExited { worker: first.worker, running: Some((first.chunk, 0)), by_shortage: false });
    pool.pass(Duration::from_secs(60));
    pool.apply(Event::TimePassed);
    let [again] = chunks(&mut pool).try_into().unwrap();
    assert_eq!((again.first_index, again.count, again.attempt), (0, 1, 2));
    finish(&mut pool, &again, 1);
    assert_eq!(begun(&mut pool), [0_u64; 0], "now there is something for the reader");
    give_back(&mut pool, JOB, 2, 2);
    assert_eq!(begun(&mut pool), [2], "the second had its outcome");
}

#[test]
fn beside_readers_that_stop_a_stream_gets_what_its_reader_waits_for_one_at_a_time() {
    for delivery in [ORDERED, UNORDERED] {
        let mut pool = pool_beside(FREE * 2 + 1, delivery, Some(20));
        for index in 0..3 {
            let [chunk] = chunks(&mut pool).try_into().unwrap();
            assert_eq!((chunk.first_index, chunk.count), (index, 1));
            finish(&mut pool, &chunk, 10);
            assert_eq!(begun(&mut pool), [0_u64; 0], "there is something for the reader");
            give_back(&mut pool, JOB, 9, 0);
            assert_eq!(begun(&mut pool), [0_u64; 0], "there still is");
            give_back(&mut pool, JOB, 1, 1);
        }
        give_back(&mut pool, OTHER, 1, 0);
        assert_eq!(begun(&mut pool), (3..24).collect::<Vec<_>>(), "there is room again");
    }
}

#[test]
fn while_the_limit_is_exceeded_a_stream_that_holds_nothing_gets_nothing() {
    let mut pool = pool_beside(LIMIT + 1, ORDERED, Some(1));
    assert_eq!(begun(&mut pool), [0_u64; 0]);
    give_back(&mut pool, OTHER, 1, 0);
    assert_eq!(begun(&mut pool), [0]);
}

#[test]
fn what_has_not_begun_is_asked_back_once_and_comes_again_later() {
    let mut pool = pool_with(ORDERED, Some(40));
    let [first, second] = chunks(&mut pool).try_into().unwrap();
    assert_eq!((first.count, second.count), (40, 10));
    for offset in 0..2 {
        let size = ResultSize { held: FREE + 1, answer: 0 };
        let (worker, chunk, failed) = (first.worker, first.chunk, Vec::new());
        pool.apply(Event::ItemsFinished { worker, chunk, first: offset, count: 1, failed, busy: ITEM_TIME, size });
    }
    let recalled: Vec<_> = pool.others.iter().filter_map(recalled).collect();
    assert_eq!(recalled, [first.chunk, second.chunk]);
    for (chunk, first_not_begun) in [(&first, 3), (&second, 1)] {
        pool.apply(Event::Recalled { worker: chunk.worker, chunk: chunk.chunk, first_not_begun });
    }
    let third = Dispatch { count: 1, ..first };
    let (worker, chunk, busy, failed) = (third.worker, third.chunk, ITEM_TIME, Vec::new());
    pool.apply(Event::ItemsFinished { worker, chunk, first: 2, count: 1, failed, busy, size: ResultSize::default() });
    assert_eq!(begun(&mut pool), [0_u64; 0]);
    give_back(&mut pool, JOB, 2 * (FREE + 1), 3);
    assert_eq!(begun(&mut pool), (3..40).collect::<Vec<_>>());
}

fn recalled(effect: &Effect) -> Option<crate::id::ChunkId> {
    if let Effect::Recall { chunk, .. } = effect { Some(*chunk) } else { None }
}

#[test]
fn results_of_a_stream_that_has_ended_count_until_its_reader_gives_them_back() {
    let mut pool = pool_beside(FREE * 2 + 1, ORDERED, Some(1));
    assert_eq!(begun(&mut pool), [0]);
    // One more is stored, and nobody gets it.
    pool.apply(Event::JobCancelled { job: OTHER });
    assert_eq!(begun(&mut pool), [0_u64; 0]);
    give_back(&mut pool, OTHER, FREE * 2, 0);
    assert_eq!(begun(&mut pool), [1]);
    assert_eq!(pool.state.results.streams.num_jobs, 2);
    give_back(&mut pool, OTHER, 1, 1);
    assert_eq!(pool.state.results.streams.num_jobs, 1);
}

#[test]
fn a_stream_goes_on_when_an_end_leaves_it_a_larger_share() {
    let mut pool = pool_beside(FREE / 100 * 60, ORDERED, Some(1));
    let third = JobId(4);
    pool.submit_as(JobSpec { delivery: ORDERED, input_closed: false, ..spec(third.0, 0) });
    let [first, second] = chunks(&mut pool).try_into().unwrap();
    finish(&mut pool, &first, FREE / 100 * 45);
    finish(&mut pool, &second, 0);
    assert_eq!(begun(&mut pool), [0_u64; 0], "three share what is not free");
    pool.apply(Event::JobCancelled { job: third });
    assert_eq!(begun(&mut pool), [2, 3], "now two do");
}

#[test]
fn a_job_whose_results_are_too_many_fails_and_what_runs_of_it_may_finish() {
    let mut pool = Pool::new(2);
    pool.submit_as(JobSpec { options: in_chunks_of(5), max_answer_bytes: Some(10), ..spec(JOB.0, 10) });
    let [first, second] = chunks(&mut pool).try_into().unwrap();
    finish(&mut pool, &first, 10);
    assert_eq!(pool.failed, []);
    pool.apply(Event::ResultsRecounted { job: JOB, change: ResultSize { held: 0, answer: 1 } });
    assert_eq!(pool.failed, [(JOB, JobFailure::ResultsTooLarge { bytes: 11, limit: 10 })]);
    let recall = Effect::Recall { worker: second.worker, chunk: second.chunk, cancel: false };
    assert_eq!(pool.others.last(), Some(&recall));
}

#[test]
fn when_the_budget_is_used_up_a_job_fails_that_holds_more_than_its_share_and_a_small_one_does_not() {
    let mut pool = Pool::new(1);
    let whole = 3 * LIMIT;
    for job in [JOB, OTHER] {
        pool.submit_as(JobSpec { options: in_chunks_of(1), ..spec(job.0, 10) });
    }
    // The large one takes what is free, and the small one half of the eighth that they share then.
    for (job, held) in [(JOB, whole / 8 * 7), (OTHER, whole / 16)] {
        let [chunk] = chunks(&mut pool).try_into().unwrap();
        assert_eq!(chunk.job, job);
        finish(&mut pool, &chunk, held);
        assert_eq!(pool.failed, []);
    }
    let failure = JobFailure::ResultsFull { limit: whole.cast_unsigned() };
    for job in [JOB, OTHER] {
        let [chunk] = chunks(&mut pool).try_into().unwrap();
        finish(&mut pool, &chunk, 1);
        assert_eq!(pool.failed.pop(), Some((job, failure)));
    }
}
