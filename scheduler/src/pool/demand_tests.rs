//! Demand, on pools that are told what happens by hand.

use std::num::NonZeroU32;
use std::time::Duration;

use super::SlotCounts;
use crate::config::SchedulerConfig;
use crate::event::{Dispatch, Effect, Event, JobFailure, ResultSize};
use crate::id::{FunctionId, JobId, WorkerId};
use crate::job_spec::{CallOptions, Delivery, JobSpec, OnError};
use crate::pool::PoolState;
use crate::time::Time;

/// A pool whose clock stands unless it is told.
pub(in crate::pool) struct Pool {
    pub(in crate::pool) state: PoolState,
    pub(in crate::pool) now: Time,
    /// Those that were started, by age.
    pub(in crate::pool) workers: Vec<WorkerId>,
    pub(in crate::pool) dispatched: Vec<Dispatch>,
    pub(in crate::pool) failed: Vec<(JobId, JobFailure)>,
    /// What else is to be done.
    pub(in crate::pool) others: Vec<Effect>,
}

impl Pool {
    /// Returns a pool whose workers are all ready.
    pub(in crate::pool) fn new(slots: u32) -> Self {
        let mut pool = Self::starting(slots);
        for worker in pool.workers.clone() {
            pool.apply(ready(worker));
        }
        pool
    }

    pub(in crate::pool) fn starting(slots: u32) -> Self {
        let state = PoolState::new(SchedulerConfig { slots, ..SchedulerConfig::default() });
        let mut pool = Self {
            state,
            now: Time::ZERO,
            workers: Vec::new(),
            dispatched: Vec::new(),
            failed: Vec::new(),
            others: Vec::new(),
        };
        pool.apply(Event::TimePassed);
        pool
    }

    pub(in crate::pool) fn apply(&mut self, event: Event) {
        let mut effects = Vec::new();
        self.state.apply(self.now, event, &mut effects);
        for effect in effects {
            match effect {
                Effect::SpawnWorker { worker } => self.workers.push(worker),
                Effect::Dispatch(dispatch) => self.dispatched.push(dispatch),
                Effect::FailJob { job, failure } => self.failed.push((job, failure)),
                other => self.others.push(other),
            }
        }
    }

    pub(in crate::pool) fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
    }

    fn submit(&mut self, id: u64, items: u64) {
        self.submit_as(spec(id, items));
    }

    pub(in crate::pool) fn submit_as(&mut self, spec: JobSpec) {
        self.apply(Event::JobSubmitted(spec));
    }

    /// Finishes everything that is at a worker, each item having run this long.
    pub(in crate::pool) fn finish(&mut self, item_time: Duration) {
        for dispatch in std::mem::take(&mut self.dispatched) {
            let Dispatch { worker, chunk, count, .. } = dispatch;
            let busy = item_time * count;
            self.apply(Event::ItemsFinished {
                worker,
                chunk,
                first: 0,
                count,
                failed: Vec::new(),
                busy,
                size: ResultSize::default(),
            });
        }
    }
}

/// A worker is ready that can run the functions 0 to 9.
pub(in crate::pool) fn ready(worker: WorkerId) -> Event {
    ready_with(worker, 0..10)
}

pub(in crate::pool) fn ready_with(worker: WorkerId, functions: impl IntoIterator<Item = u32>) -> Event {
    Event::WorkerReady { worker, functions: functions.into_iter().map(FunctionId).collect() }
}

/// Returns a job that collects what fails.
pub(in crate::pool) fn spec(id: u64, items: u64) -> JobSpec {
    let options = CallOptions { on_error: Some(OnError::Collect), ..CallOptions::default() };
    JobSpec { item_bytes: 8, options, ..JobSpec::new(JobId(id), FunctionId(1), items) }
}

pub(in crate::pool) fn in_chunks_of(items: u32) -> CallOptions {
    let chunk_size = NonZeroU32::new(items);
    CallOptions { chunk_size, on_error: Some(OnError::Collect), ..CallOptions::default() }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn an_idle_pool_demands_nothing_and_counts_how_long() {
    let mut pool = Pool::starting(3);
    assert_eq!(pool.state.demand(pool.now).slots, SlotCounts { starting: 3, ..SlotCounts::default() });
    pool.apply(ready(pool.workers[0]));
    pool.apply(Event::WorkerExited { worker: pool.workers[1], running: None, by_shortage: false });
    let later = pool.now.after(7 * SECOND);
    let demand = pool.state.demand(later);
    assert_eq!(demand.slots, SlotCounts { starting: 1, ready: 1, empty: 1, ..SlotCounts::default() });
    assert_eq!((demand.idle, demand.slots_demanded, demand.backlog), (7 * SECOND, 0, Duration::ZERO));

    pool.submit(1, 1);
    pool.pass(5 * SECOND);
    assert_eq!(pool.state.demand(pool.now).idle, Duration::ZERO, "a call is in progress");
    pool.finish(5 * SECOND);
    pool.pass(2 * SECOND);
    assert_eq!(pool.state.demand(pool.now).idle, 2 * SECOND);
}

#[test]
fn what_is_queued_is_weighed_by_its_run_time() {
    let mut pool = Pool::new(2);
    pool.submit(1, 2);
    pool.finish(SECOND);
    pool.submit(2, 102);
    let demand = pool.state.demand(pool.now);
    assert_eq!((demand.num_jobs, demand.num_queued_items, demand.num_running_items), (1, 100, 2));
    assert_eq!(demand.backlog, 50 * SECOND, "100 seconds of work for 2 slots");
    assert_eq!(demand.slots_demanded, 2 + 10, "those that are busy, and 100 s of work in 10 s");
}

#[test]
fn a_million_tiny_items_demand_one_slot_more() {
    let mut pool = Pool::new(2);
    pool.submit(1, 2);
    pool.finish(Duration::from_micros(2));
    pool.submit(2, 1_000_000);
    let demand = pool.state.demand(pool.now);
    assert_eq!(demand.slots_demanded, 3);
    assert!(demand.num_queued_items > 900_000);
    assert!((900..=1000).contains(&demand.backlog.as_millis()), "{:?}", demand.backlog);
}

#[test]
fn no_item_counts_for_more_than_one_slot_and_no_chunk_either() {
    let mut pool = Pool::new(1);
    pool.submit(1, 1);
    pool.finish(600 * SECOND);
    pool.submit(2, 4);
    assert_eq!(pool.state.demand(pool.now).slots_demanded, 1 + 3);
    pool.submit_as(JobSpec { options: in_chunks_of(5), ..spec(3, 10) });
    assert_eq!(pool.state.demand(pool.now).slots_demanded, 1 + 3 + 2);
}

#[test]
fn what_has_never_finished_counts_by_how_long_it_has_been_running() {
    let mut pool = Pool::new(1);
    pool.submit(1, 101);
    assert_eq!(pool.state.demand(pool.now).slots_demanded, 2, "nothing is known");
    pool.pass(SECOND);
    assert_eq!(pool.state.demand(pool.now).slots_demanded, 1 + 10, "100 items of a second or more");
}

#[test]
fn the_oldest_queued_is_the_job_that_has_waited_longest_without_a_break() {
    let mut pool = Pool::new(1);
    pool.submit(1, 1);
    assert_eq!(pool.state.demand(pool.now).oldest_queued, Duration::ZERO, "it is at a worker");
    pool.pass(SECOND);
    pool.submit(2, 3);
    pool.pass(SECOND);
    pool.finish(2 * SECOND);
    pool.pass(SECOND);
    assert_eq!(pool.state.demand(pool.now).oldest_queued, 2 * SECOND, "one of the three runs, two wait");
    pool.finish(SECOND);
    pool.finish(SECOND);
    assert_eq!(pool.state.demand(pool.now).oldest_queued, Duration::ZERO);
}

#[test]
fn what_a_stream_holds_back_for_its_reader_is_queued_but_no_demand() {
    let mut pool = Pool::new(1);
    pool.submit(1, 1);
    pool.finish(SECOND);
    pool.submit_as(JobSpec { delivery: Delivery::Ordered { window: Some(1) }, ..spec(2, 1000) });
    let demand = pool.state.demand(pool.now);
    assert_eq!((demand.num_queued_items, demand.slots_demanded, demand.backlog), (999, 1, Duration::ZERO));
    pool.finish(SECOND);
    pool.pass(9 * SECOND);
    let demand = pool.state.demand(pool.now);
    assert_eq!((demand.slots.ready, demand.slots_demanded), (1, 0), "the reader takes nothing");
    assert_eq!((demand.oldest_queued, demand.idle), (Duration::ZERO, Duration::ZERO));
}

#[test]
fn asking_changes_nothing() {
    let mut pool = Pool::new(2);
    pool.submit(1, 10);
    let before = format!("{:?}", pool.state);
    pool.state.demand(pool.now.after(SECOND));
    assert_eq!(format!("{:?}", pool.state), before);
}
