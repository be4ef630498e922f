//! Time limits and grace periods: who is told to end, who is ended, and that it is never the item after.

use std::time::Duration;

use super::super::demand::tests::{ready, spec};
use crate::config::SchedulerConfig;
use crate::event::{Cancel, Effect, Event, FailureCause, JobFailure, JobSpec, ResultSize, RunningItem, StopReason};
use crate::id::{ChunkId, JobId, WorkerId};
use crate::pool::PoolState;
use crate::time::Time;

const LIMIT: Duration = Duration::from_millis(100);
const GRACE: Duration = Duration::from_secs(2);

/// A pool of one worker, which has a chunk.
struct Pool {
    state: PoolState,
    now: Time,
    worker: WorkerId,
    chunk: ChunkId,
}

impl Pool {
    /// Returns a pool whose worker was just given a chunk of so many items.
    fn with_chunk(count: u32, max_attempts: u32) -> Self {
        let config = SchedulerConfig { slots: 1, cancel_grace_period: GRACE, ..SchedulerConfig::default() };
        let mut state = PoolState::new(config);
        let mut effects = Vec::new();
        state.apply(Time::ZERO, Event::TimePassed, &mut effects);
        let Some(Effect::SpawnWorker { worker }) = effects.pop() else { panic!("it starts a worker") };
        let mut pool = Self { state, now: Time::ZERO, worker, chunk: ChunkId(0) };
        pool.apply(ready(worker));
        pool.chunk = pool.submit(JobSpec { max_attempts, ..job_of(1, count) }).expect("the worker is idle");
        pool
    }

    fn apply(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.state.apply(self.now, event, &mut effects);
        effects
    }

    /// Returns the chunk that is handed out for the job, if one is.
    fn submit(&mut self, job: JobSpec) -> Option<ChunkId> {
        let effects = self.apply(Event::JobSubmitted(job));
        effects.iter().find_map(|effect| match effect {
            Effect::Dispatch(dispatch) => Some(dispatch.chunk),
            _ => None,
        })
    }

    fn pass(&mut self, time: Duration) -> Vec<Effect> {
        self.now = self.now.after(time);
        self.apply(Event::TimePassed)
    }

    /// The worker runs the item at this offset, for so long.
    fn runs(&mut self, offset: u32, running_for: Duration) -> Vec<Effect> {
        let running = RunningItem { chunk: self.chunk, offset, running_for };
        self.apply(Event::Progress { worker: self.worker, running: Some(running) })
    }

    fn finishes(&mut self, first: u32, count: u32) -> Vec<Effect> {
        let busy = Duration::from_millis(1);
        self.apply(Event::ItemsFinished {
            worker: self.worker,
            chunk: self.chunk,
            first,
            count,
            failed: vec![],
            busy,
            size: ResultSize::default(),
        })
    }

    fn gives_back_from(&mut self, first_not_begun: u32) -> Vec<Effect> {
        self.apply(Event::Recalled { worker: self.worker, chunk: self.chunk, first_not_begun })
    }

    fn probe(&self) -> Effect {
        Effect::Probe { worker: self.worker }
    }

    fn termination(&self, reason: StopReason) -> Effect {
        Effect::Terminate { worker: self.worker, reason, if_unchanged: true }
    }

    /// The item at this offset is told, and it alone.
    fn cancel_of(&self, offset: u32) -> Effect {
        Effect::Recall { worker: self.worker, chunk: self.chunk, cancel: Cancel::Item(offset) }
    }
}

fn job_of(id: u64, count: u32) -> JobSpec {
    JobSpec { item_timeout: Some(LIMIT), chunk_size: Some(count), ..spec(id, u64::from(count)) }
}

fn timed_out(index: u64, attempt: u32) -> Effect {
    Effect::FailItem { job: JobId(1), index, attempt, cause: FailureCause::TimedOut { limit: LIMIT } }
}

fn stores(first_index: u64, skip: u32, count: u32) -> Effect {
    Effect::StoreResults { job: JobId(1), first_index, skip, count }
}

fn terminations(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Terminate { .. } | Effect::Kill { .. })).count()
}

#[test]
fn an_item_that_goes_on_is_told_and_then_its_worker_ended() {
    let mut pool = Pool::with_chunk(3, 1);
    assert_eq!(pool.pass(LIMIT), [pool.probe()]);
    assert_eq!(pool.runs(1, LIMIT), [pool.cancel_of(1), timed_out(1, 1)]);
    // What it has not begun runs elsewhere, whenever that is known.
    pool.gives_back_from(2);
    let effects = pool.pass(GRACE);
    assert!(effects.contains(&pool.probe()) && terminations(&effects) == 0, "{effects:?}");
    assert_eq!(pool.runs(1, LIMIT + GRACE), [pool.termination(StopReason::ItemTimeout)]);
}

#[test]
fn the_item_after_is_not_ended_for_one_whose_result_is_held_back() {
    let mut pool = Pool::with_chunk(3, 1);
    pool.pass(LIMIT);
    pool.runs(0, LIMIT);
    // It ended just so; the next one began, and nothing that the worker sends has come since.
    pool.pass(GRACE);
    assert_eq!(pool.runs(1, Duration::ZERO), []);
    assert_eq!(terminations(&pool.pass(LIMIT / 2)), 0);
    // Then its own time is up, and it is the one that is told.
    assert_eq!(pool.runs(1, LIMIT), [pool.cancel_of(1), timed_out(1, 1)]);
    let effects = pool.pass(GRACE);
    assert!(effects.contains(&pool.probe()), "it has a grace period of its own: {effects:?}");
    // Both end after all: neither of the two answers counts, the third does.
    let effects = pool.finishes(0, 3);
    assert_eq!(effects[0], stores(2, 2, 1));
    assert!(matches!(effects[1], Effect::CompleteJob { .. }), "{effects:?}");
}

#[test]
fn each_item_whose_time_was_up_is_tried_again_when_its_execution_has_ended() {
    let mut pool = Pool::with_chunk(2, 2);
    pool.pass(LIMIT);
    assert_eq!(pool.runs(0, LIMIT), [pool.cancel_of(0)]);
    assert_eq!(pool.runs(1, LIMIT), [pool.cancel_of(1)]);
    assert_eq!(pool.finishes(0, 2), [], "no answer counts");
    // Not where it failed: its only worker makes room for another.
    let effects = pool.pass(Duration::from_secs(60));
    assert_eq!(effects, [Effect::Shutdown { worker: pool.worker, reason: StopReason::Retry }]);
    pool.apply(Event::WorkerExited { worker: pool.worker, running: None, by_shortage: false });
    let worker = WorkerId { generation: pool.worker.generation + 1, ..pool.worker };
    let effects = pool.apply(ready(worker));
    let attempt = |effect: &Effect| match effect {
        Effect::Dispatch(dispatch) => Some((dispatch.first_index, dispatch.attempt)),
        _ => None,
    };
    let attempts: Vec<(u64, u32)> = effects.iter().filter_map(attempt).collect();
    assert_eq!(attempts, [(0, 2)], "one after the other, by a worker that is alone");
}

#[test]
fn a_worker_that_is_gone_leaves_one_failure_for_each_item() {
    let mut pool = Pool::with_chunk(3, 1);
    pool.pass(LIMIT);
    pool.runs(0, LIMIT);
    pool.runs(1, LIMIT);
    let effects =
        pool.apply(Event::WorkerExited { worker: pool.worker, running: Some((pool.chunk, 1)), by_shortage: false });
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::FailItem { .. })), "they have failed: {effects:?}");
}

#[test]
fn an_item_that_begins_after_sigterm_is_not_killed_for_the_one_before_it() {
    let mut pool = Pool::with_chunk(1, 1);
    // So much is known of the function that a chunk may wait at the worker.
    pool.finishes(0, 1);
    pool.chunk = pool.submit(job_of(2, 1)).expect("the worker is idle");
    let next = pool.submit(job_of(3, 1)).expect("the worker takes one ahead");
    pool.pass(LIMIT);
    pool.runs(0, LIMIT);
    pool.pass(GRACE);
    assert_eq!(pool.runs(0, LIMIT + GRACE), [pool.termination(StopReason::ItemTimeout)]);
    // It lives, and has gone on to the next.
    assert!(pool.pass(GRACE).contains(&pool.probe()));
    (pool.chunk, _) = (next, pool.finishes(0, 1));
    assert_eq!(pool.runs(0, Duration::ZERO), []);
    assert!(pool.pass(LIMIT).contains(&pool.probe()));
    let kill = Effect::Kill { worker: pool.worker, reason: StopReason::ItemTimeout, if_unchanged: true };
    // Its own time is up: it is told, and has a grace period of its own before the worker is killed.
    let late = Effect::FailItem { job: JobId(3), index: 0, attempt: 1, cause: FailureCause::TimedOut { limit: LIMIT } };
    assert!(pool.runs(0, LIMIT).contains(&late));
    assert_eq!(pool.pass(GRACE / 2), []);
    assert!(pool.pass(GRACE / 2).contains(&pool.probe()));
    assert_eq!(pool.runs(0, LIMIT + GRACE), [kill]);
}

#[test]
fn who_has_begun_another_item_by_the_time_of_the_kill_is_let_be_and_looked_at_again() {
    let mut pool = Pool::with_chunk(1, 1);
    pool.finishes(0, 1);
    pool.chunk = pool.submit(job_of(2, 1)).expect("the worker is idle");
    let next = pool.submit(job_of(3, 1)).expect("the worker takes one ahead");
    pool.pass(LIMIT);
    pool.runs(0, LIMIT);
    pool.pass(GRACE);
    assert_eq!(pool.runs(0, LIMIT + GRACE), [pool.termination(StopReason::ItemTimeout)]);
    assert!(pool.pass(GRACE).contains(&pool.probe()));
    let kill = Effect::Kill { worker: pool.worker, reason: StopReason::ItemTimeout, if_unchanged: true };
    assert_eq!(pool.runs(0, LIMIT + GRACE), std::slice::from_ref(&kill));
    // Its session finds that the other one has begun, and does nothing but say so.
    (pool.chunk, _) = (next, pool.finishes(0, 1));
    assert_eq!(pool.runs(0, Duration::ZERO), []);
    // So it is asked again, and killed when nothing runs.
    assert!(pool.pass(GRACE).contains(&pool.probe()));
    pool.finishes(0, 1);
    assert!(pool.apply(Event::Progress { worker: pool.worker, running: None }).contains(&kill));
}

#[test]
fn an_item_that_begins_after_sigterm_is_let_finish_when_its_call_fails_with_another() {
    let mut pool = Pool::with_chunk(1, 1);
    // So much is known of the function that a chunk may wait at the worker.
    pool.finishes(0, 1);
    pool.chunk = pool.submit(job_of(2, 1)).expect("the worker is idle");
    let next = pool.submit(JobSpec { fail_fast: true, ..job_of(3, 2) }).expect("the worker takes one ahead");
    pool.pass(LIMIT);
    pool.runs(0, LIMIT);
    pool.pass(GRACE);
    assert_eq!(pool.runs(0, LIMIT + GRACE), [pool.termination(StopReason::ItemTimeout)]);
    pool.pass(GRACE);
    (pool.chunk, _) = (next, pool.finishes(0, 1));
    assert_eq!(pool.runs(0, Duration::ZERO), []);
    let (worker, chunk) = (pool.worker, pool.chunk);
    let busy = Duration::from_millis(1);
    let effects = pool.apply(Event::ItemsFinished {
        worker,
        chunk,
        first: 0,
        count: 1,
        failed: vec![0],
        busy,
        size: ResultSize::default(),
    });
    let failure = JobFailure::ItemFailed { index: 0 };
    assert!(effects.contains(&Effect::FailJob { job: JobId(3), failure }), "{effects:?}");
    assert!(pool.pass(LIMIT).contains(&pool.probe()));
    assert_eq!(pool.runs(1, Duration::ZERO), []);
}

#[test]
fn the_chunk_after_is_not_ended_for_a_call_that_is_gone() {
    let mut pool = Pool::with_chunk(1, 1);
    // So much is known of the function that a chunk may wait at the worker.
    pool.finishes(0, 1);
    pool.chunk = pool.submit(job_of(2, 1)).expect("the worker is idle");
    let next = pool.submit(job_of(3, 2)).expect("the worker takes one ahead");
    let told = Effect::Recall { worker: pool.worker, chunk: pool.chunk, cancel: Cancel::Chunk };
    assert!(pool.apply(Event::JobCancelled { job: JobId(2) }).contains(&told));
    let effects = pool.pass(GRACE);
    assert!(effects.contains(&pool.probe()) && terminations(&effects) == 0, "{effects:?}");
    // The cancelled chunk is done, and the next has begun.
    pool.chunk = next;
    assert_eq!(pool.runs(0, Duration::ZERO), []);
    assert_eq!(terminations(&pool.pass(2 * GRACE)), 0);
}

#[test]
fn the_chunks_of_two_calls_that_are_gone_have_a_grace_period_each() {
    let mut pool = Pool::with_chunk(1, 1);
    // So much is known of the function that a chunk may wait at the worker.
    pool.finishes(0, 1);
    pool.chunk = pool.submit(job_of(2, 1)).expect("the worker is idle");
    let next = pool.submit(job_of(3, 1)).expect("the worker takes one ahead");
    pool.apply(Event::JobCancelled { job: JobId(2) });
    pool.pass(GRACE / 2);
    pool.apply(Event::JobCancelled { job: JobId(3) });
    // The first ends just in time, and the second begins.
    (pool.chunk, _) = (next, pool.finishes(0, 1));
    assert_eq!(pool.pass(GRACE / 2), []);
    assert_eq!(pool.pass(GRACE / 2), [pool.probe()]);
    assert_eq!(pool.runs(0, GRACE), [pool.termination(StopReason::Cancelled)]);
}

#[test]
fn a_worker_that_begins_nothing_of_a_call_that_is_gone_is_ended() {
    let mut pool = Pool::with_chunk(1, 1);
    pool.apply(Event::JobCancelled { job: JobId(1) });
    assert_eq!(pool.pass(GRACE), [pool.probe()]);
    let effects = pool.apply(Event::Progress { worker: pool.worker, running: None });
    assert_eq!(effects, [pool.termination(StopReason::Cancelled)]);
}

/// Returns a pool whose worker got SIGTERM for an item, and has gone on to the next, which is of job 3.
fn with_survivor() -> Pool {
    let mut pool = Pool::with_chunk(1, 1);
    // So much is known of the function that a chunk may wait at the worker.
    pool.finishes(0, 1);
    pool.chunk = pool.submit(job_of(2, 1)).expect("the worker is idle");
    let next = JobSpec { item_timeout: None, ..job_of(3, 1) };
    let next = pool.submit(next).expect("the worker takes one ahead");
    pool.pass(LIMIT);
    pool.runs(0, LIMIT);
    pool.pass(GRACE);
    assert_eq!(pool.runs(0, LIMIT + GRACE), [pool.termination(StopReason::ItemTimeout)]);
    (pool.chunk, _) = (next, pool.finishes(0, 1));
    pool
}

#[test]
fn an_item_that_begins_after_sigterm_and_is_cancelled_is_told_and_has_its_grace_period() {
    let mut pool = with_survivor();
    assert!(pool.pass(GRACE).contains(&pool.probe()));
    // The answer to that is on its way when the call is cancelled.
    let told = Effect::Recall { worker: pool.worker, chunk: pool.chunk, cancel: Cancel::Chunk };
    assert!(pool.apply(Event::JobCancelled { job: JobId(3) }).contains(&told));
    assert_eq!(terminations(&pool.runs(0, GRACE)), 0);
    assert_eq!(pool.pass(GRACE / 2), []);
    assert!(pool.pass(GRACE / 2).contains(&pool.probe()));
    let kill = Effect::Kill { worker: pool.worker, reason: StopReason::ItemTimeout, if_unchanged: true };
    assert_eq!(pool.runs(0, 2 * GRACE), [kill]);
}

#[test]
fn a_worker_that_was_not_killed_for_an_item_that_is_cancelled_by_then_is_killed_after_its_grace_period() {
    let mut pool = with_survivor();
    assert!(pool.pass(GRACE).contains(&pool.probe()));
    let kill = Effect::Kill { worker: pool.worker, reason: StopReason::ItemTimeout, if_unchanged: true };
    assert_eq!(pool.apply(Event::Progress { worker: pool.worker, running: None }), std::slice::from_ref(&kill));
    // Before its session has looked, the next item has begun, and its call is cancelled.
    let told = Effect::Recall { worker: pool.worker, chunk: pool.chunk, cancel: Cancel::Chunk };
    assert!(pool.apply(Event::JobCancelled { job: JobId(3) }).contains(&told));
    assert_eq!(pool.runs(0, Duration::ZERO), []);
    assert!(pool.pass(GRACE).contains(&pool.probe()));
    assert_eq!(pool.runs(0, GRACE), [kill]);
}

#[test]
fn an_item_behind_one_whose_time_was_up_has_a_grace_period_of_its_own_when_the_call_is_cancelled() {
    let mut pool = Pool::with_chunk(2, 1);
    pool.pass(LIMIT);
    pool.runs(0, LIMIT);
    pool.pass(GRACE / 2);
    pool.apply(Event::JobCancelled { job: JobId(1) });
    // The first ended in time, and the second had begun before it was told.
    pool.finishes(0, 1);
    assert_eq!(pool.pass(GRACE / 2), []);
    assert!(pool.pass(GRACE / 2).contains(&pool.probe()));
    assert_eq!(pool.runs(1, GRACE), [pool.termination(StopReason::Cancelled)]);
}
