//! The world around the scheduler: callers, workers, time and bad luck, all from one seed.

mod check;
mod results;
mod upsets;
mod workers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU32;
use std::time::Duration;

use procpool_scheduler::{
    ChunkId, Delivery, Event, FunctionId, FunctionSet, GracePeriods, ItemWatch, JobId, JobSpec, OnError, PoolState,
    Readiness, SchedulerConfig, SlotId, Time, WorkerId,
};

use self::results::Results;
use crate::model::{Ended, ModelJob, Vice};
use crate::random::Random;
use crate::upset::Upsets;

/// Those that jobs call. Not all workers have all of them.
const NUM_FUNCTIONS: u32 = 3;

/// A worker as it really is.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "that is what makes it naive")]
struct SimWorker {
    is_up: bool,
    /// What it can run, when it is up.
    functions: FunctionSet,
    chunks: VecDeque<SimChunk>,
    /// That of its session.
    watch: ItemWatch,
    /// It was asked to stop, and will.
    is_stopping: bool,
    /// It was found to hold too much memory.
    is_large: bool,
    /// It was asked to stop for that.
    stops_for_memory: bool,
    /// Its slot may have been removed, and may have come back.
    saw_resize: bool,
    has_finished: bool,
    /// It stands still.
    is_still: bool,
    /// What it had at hand when it was last made to go on; the first of no chunk if that was nothing.
    resumed_with: Option<(ChunkId, u32)>,
}

impl SimWorker {
    fn new(grace: GracePeriods) -> Self {
        Self {
            is_up: false,
            functions: FunctionSet::default(),
            chunks: VecDeque::new(),
            watch: ItemWatch::new(grace),
            is_stopping: false,
            is_large: false,
            stops_for_memory: false,
            saw_resize: false,
            has_finished: false,
            is_still: false,
            resumed_with: None,
        }
    }
}

/// A chunk as a worker has it.
#[derive(Debug)]
struct SimChunk {
    id: ChunkId,
    job: JobId,
    first_index: u64,
    count: u32,
    /// How many have ended. The results of the last of them may still be held back.
    finished: u32,
    said: u32,
    /// Those held back that failed.
    failed: Vec<u32>,
    /// The item at `finished` was begun then.
    began: Option<Time>,
    /// When the item before that was begun.
    began_before: Time,
    is_recalled: bool,
    time_limit: Option<Duration>,
    /// Whatever runs of it was told to end.
    is_cancelled: bool,
    /// Those whose time was up, and that were told to end.
    expired: Vec<u32>,
}

/// The scheduler and everything around it.
pub(crate) struct World {
    random: Random,
    state: PoolState,
    grace: GracePeriods,
    now: Time,
    slots: u32,
    most_slots: u32,
    workers: BTreeMap<WorkerId, SimWorker>,
    jobs: BTreeMap<JobId, ModelJob>,
    last_job: u64,
    /// What was said once, to be said again when it is stale.
    said: Vec<Event>,
    readiness: Readiness,
    /// What workers can run that become ready from now on.
    code: Vec<FunctionId>,
    /// The workers that there were when they were last to be replaced.
    old_workers: Vec<WorkerId>,
    /// They are being replaced.
    restarts: bool,
    /// The items that failed with the event that is being applied, by rising index.
    failed_items: Vec<(JobId, u64)>,
    results: Results,
    /// Workers in it die as soon as they get a chunk.
    bad_slot: Option<SlotId>,
    /// How often in a row that happened while others were up, and no worker died elsewhere.
    bad_row: u32,
    /// Until when slots get no worker, at the least.
    held: BTreeMap<SlotId, Time>,
    /// Those that were held back at some time, and have not finished an item since.
    suspects: BTreeSet<SlotId>,
    /// How many items the workers of each slot have finished.
    finished_in: BTreeMap<SlotId, u32>,
    /// How many starts failed since an item was finished.
    failed_starts: u32,
    /// Some worker did not become ready in time.
    has_hung: bool,
    /// `None`: workers end, but nothing else befalls them.
    luck: Option<Random>,
    upsets: Upsets,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let slots = 1 + random.below(4) as u32;
        let grace = GracePeriods {
            cancel: Duration::from_millis(random.below(100)),
            kill: Duration::from_millis(random.below(100)),
        };
        let results = Results::new(seed);
        let config = SchedulerConfig {
            slots,
            kill_grace_period: grace.kill,
            max_items_per_worker: random.maybe(|random| 1 + random.below(20) as u32),
            max_worker_age: random.maybe(|random| Duration::from_millis(10 + random.below(500))),
            idle_timeout: random.maybe(|random| Duration::from_millis(10 + random.below(500))),
            max_result_bytes: results.limit(),
            seed,
            ..SchedulerConfig::default()
        };
        let bad_slot = (random.below(3) == 0).then(|| SlotId(random.below(slots.into()) as u32));
        Self {
            random,
            state: PoolState::new(config),
            grace,
            now: Time::ZERO,
            slots,
            most_slots: slots,
            workers: BTreeMap::new(),
            jobs: BTreeMap::new(),
            last_job: 0,
            said: Vec::new(),
            readiness: Readiness::Starting,
            code: (0..NUM_FUNCTIONS).map(FunctionId).collect(),
            old_workers: Vec::new(),
            restarts: false,
            failed_items: Vec::new(),
            results,
            bad_slot,
            bad_row: 0,
            held: BTreeMap::new(),
            suspects: BTreeSet::new(),
            finished_in: BTreeMap::new(),
            failed_starts: 0,
            has_hung: false,
            luck: None,
            upsets: Upsets::default(),
        }
    }

    /// The same, with workers that stand still, and some of which nobody knows what they had begun.
    pub(crate) fn with_upsets(seed: u64) -> Self {
        Self { luck: Some(Random::new(seed.wrapping_mul(9_176_741))), ..Self::new(seed) }
    }

    /// Lets `steps` random things happen, then lets everything come to rest. Returns what befell workers.
    pub(crate) fn run(mut self, steps: u32) -> Upsets {
        self.apply(Event::TimePassed);
        for _ in 0..steps {
            self.step();
        }
        self.come_to_rest();
        self.upsets
    }

    fn step(&mut self) {
        if self.upset() {
            return;
        }
        match self.random.below(100) {
            0..=11 => self.submit(),
            12..=16 => self.feed_a_stream(),
            17..=24 => self.read_a_stream(),
            25..=26 => self.cancel_a_job(),
            27..=29 => self.let_a_reader_give_back(),
            30..=62 => self.let_a_worker_work(),
            63..=72 => self.let_a_worker_start(),
            73..=76 => self.crash_a_worker(),
            77..=84 => self.answer_a_recall(),
            85..=88 => self.let_a_worker_stop(),
            89 if self.random.below(4) == 0 => self.change_code(),
            89 => self.find_a_large_worker(),
            90..=92 => self.repeat_something_old(),
            93 => self.resize(),
            94 => {
                if self.random.below(40) == 0 {
                    self.apply(Event::DrainRequested);
                } else if self.random.below(3) == 0 {
                    self.held.clear();
                    self.change_code();
                    self.restarts = !self.is_draining();
                    // A slot that was held back starts a new one.
                    self.old_workers = self.workers.keys().copied().collect();
                    self.apply(Event::RestartRequested);
                }
            }
            _ => self.let_time_pass(),
        }
    }

    fn submit(&mut self) {
        self.last_job += 1;
        let random = &mut self.random;
        let window = random.maybe(|random| 1 + random.below(30) as u32);
        let delivery = match random.below(3) {
            0 => Delivery::Whole,
            1 => Delivery::Ordered { window },
            _ => Delivery::Unordered { window },
        };
        let function = FunctionId(random.below(NUM_FUNCTIONS.into()) as u32);
        let num_items = if random.below(4) == 0 { 1 } else { random.below(60) };
        let mut spec = JobSpec::new(JobId(self.last_job), function, num_items);
        spec.input_closed = delivery == Delivery::Whole || random.below(2) == 0;
        spec.has_common = random.below(3) == 0;
        spec.delivery = delivery;
        spec.max_answer_bytes = self.results.answer_limit();
        spec.options.chunk_size = random.maybe(|random| 1 + random.below(12) as u32).and_then(NonZeroU32::new);
        spec.item_bytes = 1 << random.below(22);
        spec.options.on_error = Some(if random.below(3) == 0 { OnError::FailFast } else { OnError::Collect });
        spec.options.max_attempts = NonZeroU32::new(1 + random.below(4) as u32);
        spec.options.item_timeout = random.maybe(|random| Duration::from_millis(1 + random.below(200)));
        spec.deadline = random.maybe(|random| {
            let most = 1 << random.below(25);
            self.now.after(Duration::from_micros(random.below(most)))
        });
        spec.options.priority = random.below(17) as i32 - 8;
        let mut job = ModelJob::new(spec.clone());
        // Few of them kill, and few of their items.
        job.vice = self.vice();
        for item in &mut job.items {
            item.vice = if self.random.below(10) == 0 { self.vice() } else { Vice::None };
        }
        self.jobs.insert(spec.id, job);
        self.apply(Event::JobSubmitted(spec));
    }

    fn vice(&mut self) -> Vice {
        match self.random.below(30) {
            0 => Vice::KillBefore,
            1 => Vice::KillAfter,
            _ => Vice::None,
        }
    }

    fn open_streams(&self) -> Vec<JobId> {
        self.jobs.iter().filter(|(_, job)| !job.spec.input_closed && job.ended.is_none()).map(|(&id, _)| id).collect()
    }

    fn feed_a_stream(&mut self) {
        let Some(id) = self.random.pick(&self.open_streams()) else { return };
        let job = self.jobs.get_mut(&id).unwrap();
        let count = self.random.below(10);
        if count == 0 {
            job.spec.input_closed = true;
            return self.apply(Event::InputClosed { job: id });
        }
        job.spec.num_items += count;
        job.items.resize_with(job.items.len() + count as usize, Default::default);
        let item_bytes = 1 << self.random.below(22);
        self.apply(Event::ItemsAdded { job: id, count, item_bytes });
    }

    fn read_a_stream(&mut self) {
        let ids: Vec<JobId> = self.jobs.iter().filter(|(_, job)| job.ended.is_none()).map(|(&id, _)| id).collect();
        let Some(id) = self.random.pick(&ids) else { return };
        let job = self.jobs.get_mut(&id).unwrap();
        let ready = job.delivered.len() as u64;
        job.taken += self.random.below(ready - job.taken + 1);
        let total = job.taken;
        self.apply(Event::ResultsTaken { job: id, total });
    }

    fn cancel_a_job(&mut self) {
        let ids: Vec<JobId> = self.jobs.iter().filter(|(_, job)| job.ended.is_none()).map(|(&id, _)| id).collect();
        if let Some(id) = self.random.pick(&ids) {
            self.apply(Event::JobCancelled { job: id });
            assert!(self.jobs[&id].ended == Some(Ended::Failed), "a cancelled job ends at once");
        }
    }

    fn repeat_something_old(&mut self) {
        let Some(event) = self.random.pick(&self.said) else { return };
        let is_stale = match &event {
            Event::WorkerExited { worker, .. }
            | Event::MemoryHigh { worker }
            | Event::WorkerStopping { worker, .. } => !self.workers.contains_key(worker),
            Event::ItemsFinished { worker, chunk, .. }
            | Event::ItemExpired { worker, chunk, .. }
            | Event::ItemsLost { worker, chunk, .. }
            | Event::Recalled { worker, chunk, .. } => {
                self.workers.get(worker).is_none_or(|worker| worker.chunks.iter().all(|active| active.id != *chunk))
            }
            _ => false,
        };
        if is_stale {
            // Time has passed, and that may have its own effects: let it pass first.
            self.apply(Event::TimePassed);
            let mut effects = Vec::new();
            self.state.apply(self.now, event, &mut effects);
            assert_eq!(effects, [], "something stale changed something");
        }
    }

    fn resize(&mut self) {
        self.held.clear();
        self.bad_row = 0;
        self.slots = 1 + self.random.below(5) as u32;
        self.most_slots = self.most_slots.max(self.slots);
        self.workers.values_mut().for_each(|worker| worker.saw_resize = true);
        self.apply(Event::Resized { slots: self.slots });
    }

    fn let_time_pass(&mut self) {
        let later = self.now.after(Duration::from_micros(self.random.below(100_000)));
        self.now = match self.next_wakeup() {
            Some(at) if self.random.below(2) == 0 => at.max(self.now),
            _ => later,
        };
        self.wake_up();
    }

    /// Returns when the pool, or the session of a worker, has something to do.
    fn next_wakeup(&self) -> Option<Time> {
        self.workers.values().filter_map(SimWorker::next_look).chain(self.state.next_wakeup()).min()
    }

    fn wake_up(&mut self) {
        self.apply(Event::TimePassed);
        let due = self.workers.iter().filter(|(_, worker)| worker.next_look().is_some_and(|at| at <= self.now));
        for id in due.map(|(&id, _)| id).collect::<Vec<_>>() {
            self.look_at_items(id);
        }
    }

    /// Applies an event that may be repeated later.
    fn say(&mut self, event: Event) {
        if self.said.len() < 200 {
            self.said.push(event.clone());
        }
        self.apply(event);
    }

    fn apply(&mut self, event: Event) {
        let mut effects = Vec::new();
        let count = match event {
            Event::ItemsFinished { count, .. } | Event::ItemsLost { count, .. } => Some(count),
            _ => None,
        };
        self.expect_nothing();
        self.state.apply(self.now, event, &mut effects);
        let mut cancelled = Vec::new();
        for effect in effects {
            self.check(count, effect, &mut cancelled);
        }
        let running: usize = self.workers.values().filter(|worker| !worker.chunks.is_empty()).count();
        assert!(running <= self.most_slots as usize, "more items run than there are slots");
        self.recount();
        for worker in cancelled {
            self.look_at_items(worker);
        }
    }

    /// No more faults and no more jobs: everything that there is must end by itself, soon.
    fn come_to_rest(&mut self) {
        self.bad_slot = None;
        let mut stalled = self.some_readers();
        for round in 0.. {
            for id in self.open_streams() {
                self.jobs.get_mut(&id).unwrap().spec.input_closed = true;
                self.apply(Event::InputClosed { job: id });
            }
            for id in self.workers.keys().copied().collect::<Vec<_>>() {
                self.make_worker_behave(id);
            }
            let ids: Vec<JobId> = self.jobs.iter().filter(|(_, job)| job.ended.is_none()).map(|(&id, _)| id).collect();
            self.let_readers_read(&mut stalled);
            let is_due = |worker: &SimWorker| worker.is_large && worker.has_finished;
            let has_large = self.workers.values().any(is_due) && !self.is_draining();
            let is_busy = self.workers.values().any(|worker| !worker.chunks.is_empty());
            let is_at_rest = ids.is_empty() && !has_large && !is_busy && !self.restarts;
            if is_at_rest {
                break;
            }
            // With `max_items_per_worker` of 1, each item takes a few rounds.
            assert!(round < 20_000, "jobs {ids:?} hang: {:#?}", self.state);
            if let Some(at) = self.next_wakeup() {
                self.now = at.max(self.now).min(self.now.after(Duration::from_millis(50)));
                self.wake_up();
            }
        }
        assert!(self.jobs.values().all(|job| job.ended.is_some()), "every job has ended");
        self.let_readers_read(&mut stalled);
        assert_eq!(self.state.held_result_bytes(), 0, "nobody holds results");
        self.apply(Event::DrainRequested);
        while !self.workers.is_empty() {
            let id = *self.workers.keys().next().unwrap();
            assert!(self.workers[&id].is_stopping, "a worker is left over after the drain");
            self.exit(id);
        }
        assert_eq!(self.readiness, Readiness::Stopped, "a drained pool stops");
        assert_eq!(self.state.next_wakeup(), None, "a stopped pool waits for nothing");
    }
}
