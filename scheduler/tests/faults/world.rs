//! Workers that do what their slot makes of them, on a clock of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::Duration;

use procpool_scheduler::{
    ChunkId, Dispatch, Effect, Event, FailureCause, FunctionId, JobFailure, JobId, JobSpec, OnError, PoolState,
    Readiness, ResultSize, SchedulerConfig, SlotId, StopReason, Time, WorkerId,
};

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// From the start of a worker to Ready.
pub(crate) const START_TIME: Duration = Duration::from_millis(20);

/// What is wrong with a slot, or with an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vice {
    None,
    /// Its workers end before they are ready.
    FailsToStart,
    /// There is nothing to start a worker with.
    Shortage,
    /// Its workers end this long after they were ready, whatever they do.
    DiesAfter(Duration),
    /// Its workers end when they get a chunk, before they begin it.
    DiesOnReceipt,
    /// Its workers end in the first item of a chunk.
    DiesInItem,
    /// Its workers end with a chunk, and nobody knows what of it they had begun.
    Loses,
    /// Its workers take a second before they begin a chunk, and give it back until then if they are asked.
    SlowToBegin,
    /// Its workers begin items and never end them, unless they are told to.
    Hangs,
}

/// A pool, and all that has happened in it.
pub(crate) struct World {
    pub(crate) state: PoolState,
    pub(crate) now: Time,
    /// What happens when.
    agenda: BTreeMap<(Time, u64), Event>,
    num_planned: u64,
    /// What is wrong with each slot.
    pub(crate) slots: BTreeMap<u32, Vice>,
    /// What is wrong with some items, wherever they run.
    pub(crate) items: BTreeMap<(JobId, u64), Vice>,
    pub(crate) item_time: Duration,
    /// Until when each worker has something to do.
    busy: BTreeMap<WorkerId, Time>,
    /// What it has and has not begun, if that takes long.
    unbegun: BTreeMap<WorkerId, ChunkId>,
    /// What it runs, if that hangs.
    hanging: BTreeMap<WorkerId, Dispatch>,
    pub(crate) up: BTreeSet<WorkerId>,
    pub(crate) spawned: Vec<(Time, WorkerId)>,
    pub(crate) dispatched: Vec<(Time, Dispatch)>,
    pub(crate) held: Vec<(Time, SlotId, Duration)>,
    pub(crate) healed: Vec<SlotId>,
    pub(crate) stopped: Vec<(Time, WorkerId, &'static str, StopReason)>,
    pub(crate) failed_items: Vec<(JobId, u64, FailureCause)>,
    pub(crate) failed_jobs: Vec<(JobId, JobFailure)>,
    pub(crate) completed: Vec<JobId>,
    pub(crate) readiness: Vec<(Time, Readiness)>,
}

impl World {
    pub(crate) fn new(slots: u32) -> Self {
        Self::with(SchedulerConfig { slots, ..SchedulerConfig::default() })
    }

    pub(crate) fn with(config: SchedulerConfig) -> Self {
        Self {
            state: PoolState::new(config),
            now: Time::ZERO,
            agenda: BTreeMap::new(),
            num_planned: 0,
            slots: BTreeMap::new(),
            items: BTreeMap::new(),
            item_time: 10 * MS,
            busy: BTreeMap::new(),
            unbegun: BTreeMap::new(),
            hanging: BTreeMap::new(),
            up: BTreeSet::new(),
            spawned: Vec::new(),
            dispatched: Vec::new(),
            held: Vec::new(),
            healed: Vec::new(),
            stopped: Vec::new(),
            failed_items: Vec::new(),
            failed_jobs: Vec::new(),
            completed: Vec::new(),
            readiness: Vec::new(),
        }
    }

    /// Says that something is wrong with these slots.
    pub(crate) fn break_slots(mut self, slots: impl IntoIterator<Item = u32>, vice: Vice) -> Self {
        self.slots.extend(slots.into_iter().map(|slot| (slot, vice)));
        self
    }

    /// Lets so much time pass, with all that happens in it.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now.after(time);
        self.apply(Event::TimePassed);
        loop {
            let planned = self.agenda.first_key_value().map(|(&(at, _), _)| at);
            let Some(at) = planned.into_iter().chain(self.state.next_wakeup()).min().filter(|&at| at <= end) else {
                break;
            };
            self.now = at.max(self.now);
            let event = match planned {
                Some(due) if due == at => self.agenda.pop_first().unwrap().1,
                _ => Event::TimePassed,
            };
            self.apply(event);
        }
        self.now = end;
    }

    /// Lets time pass until something is so; returns how much.
    pub(crate) fn pass_until(&mut self, is_so: impl Fn(&Self) -> bool) -> Duration {
        let began = self.now;
        while !is_so(self) {
            self.pass(MS);
            assert!(self.now.since(began) < 3600 * SECOND, "waited in vain");
        }
        self.now.since(began)
    }

    /// Submits a job of items that go one by one.
    pub(crate) fn submit(&mut self, id: u64, num_items: u64, change: impl FnOnce(&mut JobSpec)) {
        let mut spec = JobSpec::new(JobId(id), FunctionId(1), num_items);
        spec.options.chunk_size = NonZeroU32::new(1);
        spec.options.on_error = Some(OnError::Collect);
        change(&mut spec);
        self.apply(Event::JobSubmitted(spec));
    }

    /// Kills a worker from outside.
    pub(crate) fn kill(&mut self, worker: WorkerId) {
        let running = self.busy.get(&worker).filter(|&&until| until > self.now);
        let running = running.and_then(|_| self.dispatched.iter().rev().find(|(_, run)| run.worker == worker));
        let running = running.map(|(_, run)| (run.chunk, 0));
        self.exit(worker, running);
    }

    /// Returns how many workers were started since then.
    pub(crate) fn spawns_since(&self, at: Time) -> usize {
        self.spawned.iter().filter(|(spawned_at, _)| *spawned_at >= at).count()
    }

    /// Returns the items that a slot was given, by rising index.
    pub(crate) fn touched_by(&self, slot: u32) -> BTreeSet<(JobId, u64)> {
        let there = self.dispatched.iter().filter(|(_, run)| run.worker.slot.0 == slot);
        there.flat_map(|(_, run)| (0..u64::from(run.count)).map(|item| (run.job, run.first_index + item))).collect()
    }

    pub(crate) fn apply(&mut self, event: Event) {
        match &event {
            Event::WorkerReady { worker, .. } => _ = self.up.insert(*worker),
            Event::WorkerExited { worker, .. } => {
                self.up.remove(worker);
                self.hanging.remove(worker);
            }
            Event::ItemsFinished { worker, .. } => _ = self.hanging.remove(worker),
            _ => {}
        }
        let mut effects = Vec::new();
        self.state.apply(self.now, event, &mut effects);
        for effect in effects {
            self.obey(effect);
        }
    }

    fn plan(&mut self, delay: Duration, event: Event) {
        self.num_planned += 1;
        self.agenda.insert((self.now.after(delay), self.num_planned), event);
    }

    fn exit(&mut self, worker: WorkerId, running: Option<(procpool_scheduler::ChunkId, u32)>) {
        self.apply(Event::WorkerExited { worker, running, by_shortage: false });
    }

    fn vice_of(&self, slot: SlotId) -> Vice {
        self.slots.get(&slot.0).copied().unwrap_or(Vice::None)
    }

    fn obey(&mut self, effect: Effect) {
        let ready = |worker| Event::WorkerReady { worker, functions: (1..=3).map(FunctionId).collect() };
        let end = |worker| Event::WorkerExited { worker, running: None, by_shortage: false };
        match effect {
            Effect::SpawnWorker { worker } => {
                self.spawned.push((self.now, worker));
                match self.vice_of(worker.slot) {
                    Vice::FailsToStart => self.plan(START_TIME, end(worker)),
                    Vice::Shortage => {
                        self.plan(MS, Event::WorkerExited { worker, running: None, by_shortage: true });
                    }
                    Vice::DiesAfter(time) => {
                        self.plan(START_TIME, ready(worker));
                        self.plan(START_TIME + time, end(worker));
                    }
                    _ => self.plan(START_TIME, ready(worker)),
                }
            }
            Effect::Dispatch(run) => self.run(run),
            Effect::Recall { worker, chunk, cancel } => {
                if self.unbegun.get(&worker) == Some(&chunk) {
                    self.unbegun.remove(&worker);
                    return self.plan(Duration::ZERO, Event::Recalled { worker, chunk, first_not_begun: 0 });
                }
                let Some(run) = self.hanging.get(&worker) else { return };
                if run.chunk != chunk {
                    self.plan(Duration::ZERO, Event::Recalled { worker, chunk, first_not_begun: 0 });
                } else if cancel {
                    // The function listens, and the worker lives on.
                    let finished = finished(run, MS);
                    self.plan(MS, finished);
                }
            }
            Effect::Shutdown { worker, reason } => self.stop(worker, "shutdown", reason),
            Effect::Terminate { worker, reason, .. } => self.stop(worker, "terminate", reason),
            Effect::Kill { worker, reason, .. } => self.stop(worker, "kill", reason),
            Effect::FailItem { job, index, cause, .. } => self.failed_items.push((job, index, cause)),
            Effect::FailJob { job, failure } => self.failed_jobs.push((job, failure)),
            Effect::CompleteJob { job } => self.completed.push(job),
            Effect::SlotHeld { slot, wait } => self.held.push((self.now, slot, wait)),
            Effect::SlotHealed { slot } => self.healed.push(slot),
            Effect::ReadinessChanged(readiness) => self.readiness.push((self.now, readiness)),
            Effect::StoreResults { .. }
            | Effect::Deliver { .. }
            | Effect::HoldChanged { .. }
            | Effect::RestartFinished
            | Effect::RestartGivenUp => {}
        }
    }

    fn stop(&mut self, worker: WorkerId, how: &'static str, reason: StopReason) {
        self.stopped.push((self.now, worker, how, reason));
        self.plan(5 * MS, Event::WorkerExited { worker, running: None, by_shortage: false });
    }

    fn run(&mut self, run: Dispatch) {
        self.dispatched.push((self.now, run.clone()));
        let worker = run.worker;
        let of_slot = self.vice_of(worker.slot);
        let vice = self.items.get(&(run.job, run.first_index)).copied().unwrap_or(of_slot);
        let begins = self.busy.get(&worker).map_or(self.now, |&until| until.max(self.now));
        let delay = begins.since(self.now);
        if self.hanging.contains_key(&worker) {
            return;
        }
        match vice {
            Vice::DiesOnReceipt => {
                self.plan(delay + MS, Event::WorkerExited { worker, running: None, by_shortage: false });
            }
            Vice::DiesInItem => {
                let running = Some((run.chunk, 0));
                self.plan(delay + MS, Event::WorkerExited { worker, running, by_shortage: false });
            }
            Vice::Loses => {
                let Dispatch { worker, chunk, count, .. } = run;
                self.plan(delay + MS, Event::ItemsLost { worker, chunk, first: 0, count, size: ResultSize::default() });
                self.plan(delay + MS, Event::WorkerExited { worker, running: None, by_shortage: false });
            }
            Vice::SlowToBegin => {
                // If it is given back before that, nobody hears of it.
                self.unbegun.insert(worker, run.chunk);
                self.plan(delay + SECOND, finished(&run, self.item_time));
            }
            Vice::Hangs => {
                if let Some(limit) = run.time_limit {
                    self.plan(delay + limit, Event::ItemExpired { worker, chunk: run.chunk, offset: 0 });
                    // The function listens, and the worker lives on.
                    self.plan(delay + limit + MS, finished(&run, MS));
                }
                self.hanging.insert(worker, run);
            }
            _ => {
                let time = self.item_time * run.count;
                self.busy.insert(worker, begins.after(time));
                self.plan(delay + time, finished(&run, self.item_time));
            }
        }
    }
}

fn finished(run: &Dispatch, item_time: Duration) -> Event {
    let Dispatch { worker, chunk, count, .. } = *run;
    Event::ItemsFinished {
        worker,
        chunk,
        first: 0,
        count,
        failed: Vec::new(),
        busy: item_time * count,
        size: ResultSize::default(),
    }
}
