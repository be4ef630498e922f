//! Workers that are not alike, in pools that are told what happens by hand.

use std::time::Duration;

use super::super::demand::tests::{Pool, in_chunks_of, ready_with, spec};
use crate::event::{Event, JobFailure, ResultSize};
use crate::id::{FunctionId, JobId, WorkerId};
use crate::job_spec::JobSpec;

const OLD: u32 = 1;
const NEW: u32 = 2;

fn job(id: u64, function: u32, items: u64) -> JobSpec {
    JobSpec { function: FunctionId(function), ..spec(id, items) }
}

/// A pool of two slots whose workers have these functions.
fn pool_of(first: &[u32], second: &[u32]) -> (Pool, [WorkerId; 2]) {
    let mut pool = Pool::starting(2);
    let workers = [pool.workers[0], pool.workers[1]];
    pool.apply(ready_with(workers[0], first.iter().copied()));
    pool.apply(ready_with(workers[1], second.iter().copied()));
    (pool, workers)
}

fn exit(worker: WorkerId) -> Event {
    Event::WorkerExited { worker, running: None, by_shortage: false }
}

fn failures(pool: &Pool) -> Vec<(u64, JobFailure)> {
    pool.failed.iter().map(|&(job, failure)| (job.0, failure)).collect()
}

const REFUSED: JobFailure = JobFailure::NoFunction { started: false };

#[test]
fn an_item_waits_for_a_worker_that_has_its_function_and_holds_up_no_other() {
    let (mut pool, [old, new]) = pool_of(&[OLD], &[OLD, NEW]);
    for id in 1..=3 {
        pool.submit_as(job(id, NEW, 1));
    }
    pool.submit_as(job(4, OLD, 2));
    let given: Vec<_> = pool.dispatched.iter().map(|dispatch| (dispatch.job.0, dispatch.worker)).collect();
    assert_eq!(given, [(1, new), (4, old)], "the other new ones wait, though a worker was idle");
    for _ in 0..6 {
        pool.finish(Duration::from_millis(1));
    }
    assert!(pool.state.jobs.is_empty() && pool.failed.is_empty());
}

#[test]
fn work_is_taken_back_only_for_a_worker_that_can_run_it() {
    let (mut pool, [old, new]) = pool_of(&[OLD], &[OLD, NEW]);
    // It is known that an item takes a millisecond.
    pool.submit_as(job(1, NEW, 1));
    pool.finish(Duration::from_millis(1));
    pool.submit_as(job(2, NEW, 16));
    assert!(pool.dispatched.iter().all(|dispatch| dispatch.worker == new && dispatch.count > 1));
    pool.others.clear();
    pool.pass(Duration::from_secs(1));
    pool.apply(Event::TimePassed);
    assert!(pool.others.is_empty(), "{old} is idle and could not run it: {:?}", pool.others);
}

#[test]
fn what_nobody_can_run_is_refused_at_once() {
    let (mut pool, _) = pool_of(&[OLD], &[OLD]);
    pool.submit_as(job(1, NEW, 1));
    assert_eq!(failures(&pool), [(1, REFUSED)]);
}

#[test]
fn a_function_that_new_code_lacks_is_lost_with_the_last_worker_that_has_it() {
    let (mut pool, [first, second]) = pool_of(&[OLD], &[OLD]);
    pool.submit_as(job(1, OLD, 10));
    pool.apply(exit(first));
    pool.apply(ready_with(pool.workers[2], [NEW]));
    assert!(pool.failed.is_empty(), "one has it still");
    pool.submit_as(job(2, OLD, 1));
    pool.apply(exit(second));
    assert!(pool.failed.is_empty(), "the next may have it");
    pool.submit_as(job(3, OLD, 1));
    assert!(pool.state.may_have(FunctionId(OLD)));
    pool.apply(ready_with(pool.workers[3], [NEW]));
    assert_eq!(failures(&pool), [(1, JobFailure::NoFunction { started: true }), (2, REFUSED), (3, REFUSED)]);
    assert!(!pool.state.may_have(FunctionId(OLD)));
}

#[test]
fn a_start_that_fails_is_not_waited_for_while_another_worker_is_up() {
    let (mut pool, [_, new]) = pool_of(&[OLD], &[NEW]);
    pool.apply(exit(new));
    pool.submit_as(job(1, NEW, 1));
    assert!(pool.failed.is_empty(), "the next one may have it");
    pool.apply(exit(pool.workers[2]));
    assert_eq!(failures(&pool), [(1, REFUSED)]);
}

#[test]
fn while_no_worker_is_up_everything_is_waited_for() {
    let (mut pool, [first, second]) = pool_of(&[OLD], &[OLD]);
    for worker in [first, second] {
        pool.apply(exit(worker));
        pool.apply(exit(*pool.workers.last().unwrap()));
    }
    pool.submit_as(job(1, OLD, 1));
    pool.submit_as(job(2, NEW, 1));
    assert!(pool.failed.is_empty());
    pool.pass(Duration::from_secs(1));
    pool.apply(Event::TimePassed);
    pool.apply(ready_with(pool.workers[4], [NEW]));
    assert_eq!(failures(&pool), [(1, REFUSED)]);
    assert_eq!(pool.dispatched.len(), 1);
}

#[test]
fn a_slot_that_is_given_up_takes_its_functions_with_it() {
    let (mut pool, [_, second]) = pool_of(&[OLD], &[NEW]);
    pool.submit_as(job(1, NEW, 2));
    pool.apply(Event::Resized { slots: 1 });
    assert!(pool.failed.is_empty(), "it still runs one");
    pool.finish(Duration::from_millis(1));
    pool.apply(exit(second));
    assert_eq!(failures(&pool), [(1, JobFailure::NoFunction { started: true })]);
}

#[test]
fn who_waited_for_a_worker_with_its_function_does_not_catch_up_later() {
    let (mut pool, [old, _]) = pool_of(&[OLD], &[NEW]);
    pool.submit_as(JobSpec { options: in_chunks_of(1), ..job(1, NEW, 1000) });
    for id in 2..30 {
        // The first slot has been running ten seconds for each of these.
        pool.submit_as(job(id, OLD, 1));
        let position = pool.dispatched.iter().position(|dispatch| dispatch.worker == old).unwrap();
        let given = pool.dispatched.remove(position);
        let busy = Duration::from_secs(10);
        let (worker, chunk) = (given.worker, given.chunk);
        pool.apply(Event::ItemsFinished {
            worker,
            chunk,
            first: 0,
            count: 1,
            failed: Vec::new(),
            busy,
            size: ResultSize::default(),
        });
    }
    pool.submit_as(JobSpec { options: in_chunks_of(1), ..job(30, OLD, 1000) });
    // Now both can run both.
    let workers = pool.dispatched.iter().map(|dispatch| dispatch.worker).collect::<Vec<_>>();
    for worker in workers {
        pool.apply(exit(worker));
        let next = *pool.workers.last().unwrap();
        pool.apply(ready_with(next, [OLD, NEW]));
    }
    pool.dispatched.retain(|dispatch| pool.workers[2..].contains(&dispatch.worker));
    let mut shares = [0_u32; 2];
    for _ in 0..20 {
        for dispatch in &pool.dispatched {
            shares[usize::from(dispatch.job == JobId(30))] += 1;
        }
        pool.finish(Duration::from_secs(1));
    }
    assert!(shares[0].abs_diff(shares[1]) <= 4, "{shares:?}");
}

#[test]
fn what_a_function_took_is_forgotten_with_the_function() {
    let mut pool = Pool::starting(1);
    // Each version of the code has a new function.
    for version in 0..50 {
        let worker = *pool.workers.last().unwrap();
        pool.apply(ready_with(worker, [version]));
        pool.submit_as(job(u64::from(version) + 1, version, 1));
        pool.finish(Duration::from_millis(1));
        assert!(pool.state.run_times.average(FunctionId(version)).is_some());
        pool.apply(exit(worker));
    }
    let known = (0..50).filter(|&version| pool.state.run_times.average(FunctionId(version)).is_some());
    assert_eq!(known.collect::<Vec<_>>(), [49], "the next worker may have it still");
}
