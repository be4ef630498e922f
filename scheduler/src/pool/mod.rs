//! The state of the whole pool and the one way to change it.
//!
//! The handling of events is split by whom they concern: `jobs`, `results`, `workers`, `starts`, `deadlines`; `dispatch` hands
//! out chunks after every event.

mod admission;
mod deadlines;
mod demand;
mod dispatch;
mod functions;
mod jobs;
mod parameters;
mod results;
mod rolling;
mod snapshot;
mod starts;
mod workers;

use std::collections::BTreeMap;

pub use self::demand::{Demand, SlotCounts};
use self::parameters::Finished;
pub use self::snapshot::{JobSnapshot, RunningItems, Snapshot, WorkerSnapshot, WorkerState};
use crate::backoff::Rng;
use crate::config::SchedulerConfig;
use crate::event::{Effect, Event, JobFailure, Readiness};
use crate::health::{LossStreak, StartFailures};
use crate::id::{JobId, SlotId, WorkerId};
use crate::job::Job;
use crate::queue::FairQueue;
use crate::results::ResultBudgets;
use crate::run_times::RunTimes;
use crate::slots::Slots;
use crate::time::Time;
use crate::timer::Timers;
use crate::worker::{Slot, Worker};

/// The pool: jobs, slots and whose turn it is.
#[derive(Debug)]
pub struct PoolState {
    pub(crate) config: SchedulerConfig,
    pub(crate) jobs: BTreeMap<JobId, Job>,
    pub(crate) slots: Slots,
    /// How many slots are to have a worker: the first ones.
    pub(crate) num_slots: u32,
    pub(crate) queue: FairQueue,
    pub(crate) run_times: RunTimes,
    pub(crate) timers: Timers,
    pub(crate) results: ResultBudgets,
    pub(crate) readiness: Readiness,
    pub(crate) stopping: bool,
    /// Workers up to this generation are to be replaced.
    restart_up_to: Option<u64>,
    start_failures: StartFailures,
    loss_streak: LossStreak,
    rng: Rng,
    last_generation: u64,
    last_chunk: u64,
    /// Since when there has been no job; of no meaning while there is one.
    idle_since: Time,
    /// The time of the event that is being applied.
    now: Time,
    /// The effects of the event that is being applied.
    effects: Vec<Effect>,
    /// How many events have been applied since the invariants were checked.
    #[cfg(any(test, debug_assertions))]
    pub(crate) unchecked: usize,
}

impl PoolState {
    /// Returns a pool of empty slots. Its workers start with the first event.
    pub fn new(config: SchedulerConfig) -> Self {
        let num_slots = config.slots.max(1);
        let mut state = Self {
            rng: Rng::new(config.seed),
            results: ResultBudgets::new(config.max_result_bytes),
            config,
            jobs: BTreeMap::new(),
            slots: Slots::new(num_slots),
            num_slots,
            queue: FairQueue::default(),
            run_times: RunTimes::default(),
            timers: Timers::default(),
            readiness: Readiness::Starting,
            stopping: false,
            restart_up_to: None,
            start_failures: StartFailures::default(),
            loss_streak: LossStreak::default(),
            last_generation: 0,
            last_chunk: 0,
            idle_since: Time::ZERO,
            now: Time::ZERO,
            effects: Vec::new(),
            #[cfg(any(test, debug_assertions))]
            unchecked: 0,
        };
        for slot in 0..num_slots {
            state.spawn_worker(SlotId(slot));
        }
        state.slots.update();
        state
    }

    /// Applies one event; what is to be done is appended to `effects`, in the order in which it is to be done.
    ///
    /// Time must not run backwards.
    pub fn apply(&mut self, now: Time, event: Event, effects: &mut Vec<Effect>) {
        self.now = self.now.max(now);
        let only_counts = matches!(event, Event::ResultsGivenBack { .. } | Event::ResultsRecounted { .. });
        self.handle(event);
        if only_counts {
            self.update_holds();
            if self.effects.is_empty() {
                // Nothing follows from nearly all of these, and there is one for nearly every chunk.
                return;
            }
        }
        self.fire_timers();
        self.continue_restart();
        self.update_holds();
        self.dispatch();
        self.stop_if_drained();
        self.slots.update();
        effects.append(&mut self.effects);
        #[cfg(any(test, debug_assertions))]
        self.check_invariants_if_due();
    }

    /// Returns when [`Event::TimePassed`] is to be applied next.
    pub fn next_wakeup(&self) -> Option<Time> {
        self.timers.next()
    }

    /// Returns how many items of a stream the pool will hold so far, in all; `None` if there is no such job.
    pub fn items_allowed(&self, job: JobId) -> Option<u64> {
        self.jobs.get(&job).map(|job| job.taken.saturating_add(job.window))
    }

    /// Returns how many bytes of results are held, those of jobs that have ended included.
    pub fn held_result_bytes(&self) -> u64 {
        self.results.whole.used + self.results.streams.used
    }

    /// Returns whether the pool takes jobs.
    pub fn readiness(&self) -> Readiness {
        self.readiness
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::JobSubmitted(spec) => self.submit(spec),
            Event::ItemsAdded { job, count, item_bytes } => self.add_items(job, count, item_bytes),
            Event::InputClosed { job } => self.close_input(job),
            Event::ResultsTaken { job, total } => self.take_results(job, total),
            Event::ResultsGivenBack { job, bytes, count } => self.take_back_results(job, bytes, count),
            Event::ResultsRecounted { job, change } => self.count_results(job, change),
            Event::JobCancelled { job } => self.fail_job(job, JobFailure::Cancelled),
            Event::WorkerReady { worker, functions } => self.worker_ready(worker, functions),
            Event::ItemsFinished { worker, chunk, first, count, failed, busy, size } => {
                let are_lost = false;
                self.items_finished(worker, chunk, Finished { first, count, failed: &failed, busy, size, are_lost });
            }
            Event::ItemsLost { worker, chunk, first, count, size } => {
                let failed: Vec<u32> = (first..first.saturating_add(count)).collect();
                let (busy, are_lost) = (std::time::Duration::ZERO, true);
                self.items_finished(worker, chunk, Finished { first, count, failed: &failed, busy, size, are_lost });
            }
            Event::Recalled { worker, chunk, first_not_begun } => self.recalled(worker, chunk, first_not_begun),
            Event::ItemExpired { worker, chunk, offset } => self.item_expired(worker, chunk, offset),
            Event::WorkerStopping { worker, reason } => self.worker_is_stopping(worker, reason),
            Event::MemoryHigh { worker } => self.memory_is_high(worker),
            Event::WorkerExited { worker, running, by_shortage } => self.worker_exited(worker, running, by_shortage),
            Event::Resized { slots } => self.resize(slots),
            Event::RestartRequested => self.request_restart(),
            Event::DrainRequested => self.set_readiness(Readiness::Draining),
            Event::StopRequested => self.stop(),
            Event::TimePassed => {}
        }
    }

    /// Tells whether workers are being replaced.
    pub(crate) fn is_restarting(&self) -> bool {
        self.restart_up_to.is_some()
    }

    fn emit(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    fn set_readiness(&mut self, readiness: Readiness) {
        let is_final = matches!(self.readiness, Readiness::Draining | Readiness::Stopped);
        if self.readiness == readiness || is_final && readiness != Readiness::Stopped {
            return;
        }
        self.readiness = readiness;
        self.emit(Effect::ReadinessChanged(readiness));
    }

    fn is_draining(&self) -> bool {
        matches!(self.readiness, Readiness::Draining | Readiness::Stopped)
    }

    fn slot_ids(&self) -> impl Iterator<Item = SlotId> + use<> {
        (0..).map(SlotId).take(self.slots.len())
    }

    pub(crate) fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.slots.iter().filter_map(|slot| slot.worker.as_ref())
    }

    fn slot_mut(&mut self, slot: SlotId) -> &mut Slot {
        self.slots.get_mut(slot.0 as usize).expect("slots are never taken away")
    }

    /// Returns the worker, unless it has been replaced: the fence against stale events.
    fn worker_mut(&mut self, id: WorkerId) -> Option<&mut Worker> {
        self.slots.get_mut(id.slot.0 as usize)?.worker.as_mut().filter(|worker| worker.id == id)
    }
}
