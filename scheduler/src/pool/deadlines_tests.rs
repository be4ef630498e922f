//! Items whose time is up, and chunks that nobody waits for: what becomes of them, and of what is behind them.

use std::num::NonZeroU32;
use std::time::Duration;

use super::super::demand::tests::{in_chunks_of, ready, spec};
use crate::config::SchedulerConfig;
use crate::event::{Effect, Event, FailureCause, ResultSize, StopReason};
use crate::id::{ChunkId, JobId, WorkerId};
use crate::job_spec::{CallOptions, JobSpec};
use crate::pool::PoolState;
use crate::time::Time;

const LIMIT: Duration = Duration::from_millis(100);

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
        let config = SchedulerConfig { slots: 1, ..SchedulerConfig::default() };
        let mut state = PoolState::new(config);
        let mut effects = Vec::new();
        state.apply(Time::ZERO, Event::TimePassed, &mut effects);
        let Some(Effect::SpawnWorker { worker }) = effects.pop() else { panic!("it starts a worker") };
        let mut pool = Self { state, now: Time::ZERO, worker, chunk: ChunkId(0) };
        pool.apply(ready(worker));
        let mut job = job_of(1, count);
        job.options.max_attempts = NonZeroU32::new(max_attempts);
        pool.chunk = pool.submit(job).expect("the worker is idle");
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

    /// The time of the item at this offset is up, and it was told.
    fn expires(&mut self, offset: u32) -> Vec<Effect> {
        self.apply(Event::ItemExpired { worker: self.worker, chunk: self.chunk, offset })
    }

    /// The worker got SIGTERM for its item.
    fn is_stopping(&mut self) {
        let reason = StopReason::ItemTimeout;
        assert_eq!(self.apply(Event::WorkerStopping { worker: self.worker, reason }), []);
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

    fn recall(&self, chunk: ChunkId, cancel: bool) -> Effect {
        Effect::Recall { worker: self.worker, chunk, cancel }
    }

    fn exits(&mut self, running: Option<(ChunkId, u32)>) -> Vec<Effect> {
        self.apply(Event::WorkerExited { worker: self.worker, running, by_shortage: false })
    }
}

fn job_of(id: u64, count: u32) -> JobSpec {
    let options = CallOptions { item_timeout: Some(LIMIT), ..in_chunks_of(count) };
    JobSpec { options, ..spec(id, u64::from(count)) }
}

fn timed_out(index: u64, attempt: u32) -> Effect {
    Effect::FailItem { job: JobId(1), index, attempt, cause: FailureCause::TimedOut { limit: LIMIT } }
}

fn stores(first_index: u64, skip: u32, count: u32) -> Effect {
    Effect::StoreResults { job: JobId(1), first_index, skip, count }
}

/// Returns a pool whose worker has a chunk of job 2, and one of job 3 behind it.
fn with_one_ahead(next: JobSpec) -> (Pool, ChunkId) {
    let mut pool = Pool::with_chunk(1, 1);
    // So much is known of the function that a chunk may wait at the worker.
    pool.finishes(0, 1);
    pool.chunk = pool.submit(job_of(2, 1)).expect("the worker is idle");
    let next = pool.submit(next).expect("the worker takes one ahead");
    (pool, next)
}

#[test]
fn an_item_whose_time_is_up_fails_at_once_and_what_comes_of_it_is_late() {
    let mut pool = Pool::with_chunk(3, 1);
    assert_eq!(pool.expires(1), [timed_out(1, 1)]);
    let effects = pool.finishes(0, 3);
    assert_eq!(effects[..2], [stores(0, 0, 1), stores(2, 2, 1)]);
    assert!(matches!(effects[2], Effect::CompleteJob { .. }), "{effects:?}");
}

#[test]
fn each_item_whose_time_was_up_is_tried_again_when_its_execution_has_ended() {
    let mut pool = Pool::with_chunk(2, 2);
    assert_eq!(pool.expires(0), []);
    assert_eq!(pool.expires(1), []);
    assert_eq!(pool.finishes(0, 2), [], "no answer counts");
    // Not where it failed: its only worker makes room for another.
    let effects = pool.pass(Duration::from_secs(60));
    assert_eq!(effects, [Effect::Shutdown { worker: pool.worker, reason: StopReason::Retry }]);
    pool.exits(None);
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
    pool.expires(0);
    pool.expires(1);
    let effects = pool.exits(Some((pool.chunk, 1)));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::FailItem { .. })), "they have failed: {effects:?}");
}

#[test]
fn nothing_stays_behind_an_item_whose_time_is_up() {
    let (mut pool, next) = with_one_ahead(job_of(3, 1));
    let late = Effect::FailItem { job: JobId(2), index: 0, attempt: 1, cause: FailureCause::TimedOut { limit: LIMIT } };
    let effects = pool.expires(0);
    assert_eq!(effects[..2], [pool.recall(next, false), late]);
    // Nor does anything come there, when that is given back.
    let effects = pool.apply(Event::Recalled { worker: pool.worker, chunk: next, first_not_begun: 0 });
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Dispatch(_))), "{effects:?}");
}

#[test]
fn nothing_stays_behind_a_chunk_that_nobody_waits_for() {
    let (mut pool, next) = with_one_ahead(job_of(3, 2));
    let effects = pool.apply(Event::JobCancelled { job: JobId(2) });
    let recalls: Vec<&Effect> = effects.iter().filter(|effect| matches!(effect, Effect::Recall { .. })).collect();
    assert_eq!(recalls, [&pool.recall(pool.chunk, true), &pool.recall(next, false)]);
}

#[test]
fn a_worker_that_got_sigterm_for_its_item_is_given_nothing_and_is_not_told_again() {
    let (mut pool, next) = with_one_ahead(job_of(3, 1));
    pool.expires(0);
    pool.is_stopping();
    assert_eq!(pool.pass(Duration::from_secs(3600)), [], "whoever has sent it sees to the rest");
    pool.apply(Event::Recalled { worker: pool.worker, chunk: next, first_not_begun: 0 });
    pool.finishes(0, 1);
    assert!(pool.submit(job_of(4, 1)).is_none());
    let effects = pool.exits(None);
    assert!(matches!(effects[..], [Effect::SpawnWorker { .. }]), "it is replaced at once: {effects:?}");
}

#[test]
fn an_item_that_begins_after_sigterm_and_is_cancelled_is_told() {
    let (mut pool, next) = with_one_ahead(job_of(3, 1));
    pool.expires(0);
    pool.is_stopping();
    pool.finishes(0, 1);
    assert!(pool.apply(Event::JobCancelled { job: JobId(3) }).contains(&pool.recall(next, true)));
}

#[test]
fn what_is_said_of_an_item_that_has_ended_changes_nothing() {
    let mut pool = Pool::with_chunk(3, 1);
    pool.finishes(0, 2);
    assert_eq!(pool.expires(1), []);
    assert_eq!(pool.expires(3), []);
    assert_eq!(pool.expires(2)[0], timed_out(2, 1));
    assert_eq!(pool.expires(2), [], "it was said before");
    let worker = WorkerId { generation: pool.worker.generation + 1, ..pool.worker };
    assert_eq!(pool.apply(Event::ItemExpired { worker, chunk: pool.chunk, offset: 2 }), []);
}
