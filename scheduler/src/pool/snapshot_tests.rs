//! What a snapshot tells of jobs.

use std::num::NonZeroU32;
use std::time::Duration;

use super::JobSnapshot;
use crate::event::{Dispatch, Event, ResultSize};
use crate::id::JobId;
use crate::job_spec::{CallOptions, Delivery, JobSpec};
use crate::pool::demand::tests::{Pool, in_chunks_of, spec};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn each_item_of_a_job_is_counted_once() {
    let mut pool = Pool::new(2);
    let deadline = Some(pool.now.after(100 * SECOND));
    let options = CallOptions { priority: -1, ..in_chunks_of(2) };
    pool.submit_as(JobSpec { deadline, options, ..spec(7, 9) });
    pool.finish(SECOND);
    let expected = JobSnapshot {
        id: JobId(7),
        num_items: 9,
        num_queued_items: 1,
        num_running_items: 4,
        num_finished_items: 4,
        input_open: false,
        waits_for_reader: false,
        deadline,
        priority: -1,
    };
    assert_eq!(pool.state.snapshot().jobs, [expected]);
    pool.finish(SECOND);
    pool.finish(SECOND);
    assert_eq!(pool.state.snapshot().jobs, []);
}

#[test]
fn a_stream_waits_for_its_reader_when_its_window_is_full_of_results() {
    let mut pool = Pool::new(2);
    let waits = |pool: &Pool| pool.state.snapshot().jobs[0].waits_for_reader;
    let delivery = Delivery::Ordered { window: Some(2) };
    pool.submit_as(JobSpec { delivery, options: in_chunks_of(1), input_closed: false, ..spec(1, 5) });
    assert!(!waits(&pool), "two items run");
    pool.finish(SECOND);
    assert!(waits(&pool));
    pool.apply(Event::ResultsTaken { job: JobId(1), total: 3 });
    assert!(!waits(&pool));
    pool.finish(SECOND);
    assert!(!waits(&pool), "all that have arrived are finished: it waits for items");
    assert!(pool.state.snapshot().jobs[0].input_open);
}

#[test]
fn a_stream_waits_for_its_reader_when_its_results_take_too_much_memory() {
    let mut pool = Pool::new(1);
    let delivery = Delivery::Ordered { window: Some(50) };
    pool.submit_as(JobSpec { delivery, options: in_chunks_of(1), ..spec(1, 5) });
    let Dispatch { worker, chunk, .. } = pool.dispatched.remove(0);
    let size = ResultSize { held: 1 << 30, answer: 0 };
    pool.apply(Event::ItemsFinished { worker, chunk, first: 0, count: 1, failed: Vec::new(), busy: SECOND, size });
    assert!(pool.state.snapshot().jobs[0].waits_for_reader);
    pool.apply(Event::ResultsGivenBack { job: JobId(1), bytes: 1 << 30, count: 1 });
    assert!(!pool.state.snapshot().jobs[0].waits_for_reader);
}

#[test]
fn a_job_that_waits_for_a_slot_or_to_be_tried_again_does_not_wait_for_its_reader() {
    let mut pool = Pool::new(1);
    let delivery = Delivery::Unordered { window: Some(1) };
    let options = CallOptions { max_attempts: NonZeroU32::new(2), ..CallOptions::default() };
    pool.submit_as(JobSpec { delivery, options, ..spec(1, 1) });
    pool.submit_as(JobSpec { delivery, ..spec(2, 1) });
    let run = pool.dispatched.remove(0);
    pool.apply(Event::WorkerExited { worker: run.worker, running: Some((run.chunk, 0)), by_shortage: false });
    let jobs = pool.state.snapshot().jobs;
    assert_eq!(jobs.iter().map(|job| (job.num_queued_items, job.num_running_items)).collect::<Vec<_>>(), [(1, 0); 2]);
    assert!(jobs.iter().all(|job| !job.waits_for_reader), "{jobs:?}");
}

#[test]
fn of_many_jobs_the_oldest_are_listed_and_all_are_counted() {
    let mut pool = Pool::new(1);
    for id in (1..=150).rev() {
        pool.submit_as(spec(id, 1));
    }
    let snapshot = pool.state.snapshot();
    assert_eq!(snapshot.num_jobs, 150);
    assert!(snapshot.jobs.iter().map(|job| job.id.0).eq(1..=100));
}
