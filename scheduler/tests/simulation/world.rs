//! The world around the scheduler: callers, workers, time and bad luck, all from one seed.

mod check;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use procpool_scheduler::{
    Cancel, ChunkId, Delivery, Event, FunctionId, JobId, JobSpec, PoolState, Readiness, RunningItem, SchedulerConfig,
    SlotId, Time, WorkerId,
};

use crate::model::{Ended, ModelJob};
use crate::random::Random;

/// A worker as it really is.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "that is what makes it naive")]
struct SimWorker {
    is_up: bool,
    chunks: VecDeque<SimChunk>,
    /// It was asked to stop, and will.
    is_stopping: bool,
    /// It was found to hold too much memory.
    is_large: bool,
    /// It was asked to stop for that.
    stops_for_memory: bool,
    /// Its slot may have been removed, and may have come back.
    saw_resize: bool,
    has_finished: bool,
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
    /// Which of its items were told to end.
    cancels: Vec<Cancel>,
}

/// The scheduler and everything around it.
pub(crate) struct World {
    random: Random,
    state: PoolState,
    now: Time,
    slots: u32,
    most_slots: u32,
    workers: BTreeMap<WorkerId, SimWorker>,
    jobs: BTreeMap<JobId, ModelJob>,
    last_job: u64,
    /// What was said once, to be said again when it is stale.
    said: Vec<Event>,
    readiness: Readiness,
    /// The workers that there were when they were last to be replaced.
    old_workers: Vec<WorkerId>,
    /// The items that failed with the event that is being applied, by rising index.
    failed_items: Vec<(JobId, u64)>,
    /// Workers in it die as soon as they get a chunk.
    bad_slot: Option<SlotId>,
    /// How often in a row that happened while others were up, and no worker died elsewhere.
    bad_row: u32,
    /// Until when slots get no worker, at the least.
    held: BTreeMap<SlotId, Time>,
    /// How many starts failed since an item was finished.
    failed_starts: u32,
    /// Some worker did not become ready in time.
    has_hung: bool,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let slots = 1 + random.below(4) as u32;
        let config = SchedulerConfig {
            slots,
            cancel_grace_period: Duration::from_millis(random.below(100)),
            kill_grace_period: Duration::from_millis(random.below(100)),
            max_items_per_worker: random.maybe(|random| 1 + random.below(20) as u32),
            max_worker_age: random.maybe(|random| Duration::from_millis(10 + random.below(500))),
            idle_timeout: random.maybe(|random| Duration::from_millis(10 + random.below(500))),
            seed,
            ..SchedulerConfig::default()
        };
        let bad_slot = (random.below(3) == 0).then(|| SlotId(random.below(slots.into()) as u32));
        Self {
            random,
            state: PoolState::new(config),
            now: Time::ZERO,
            slots,
            most_slots: slots,
            workers: BTreeMap::new(),
            jobs: BTreeMap::new(),
            last_job: 0,
            said: Vec::new(),
            readiness: Readiness::Starting,
            old_workers: Vec::new(),
            failed_items: Vec::new(),
            bad_slot,
            bad_row: 0,
            held: BTreeMap::new(),
            failed_starts: 0,
            has_hung: false,
        }
    }

    /// Lets `steps` random things happen, then lets everything come to rest.
    pub(crate) fn run(mut self, steps: u32) {
        self.apply(Event::TimePassed);
        for _ in 0..steps {
            self.step();
        }
        self.come_to_rest();
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..=11 => self.submit(),
            12..=16 => self.feed_a_stream(),
            17..=24 => self.read_a_stream(),
            25..=26 => self.cancel_a_job(),
            27..=62 => self.let_a_worker_work(),
            63..=72 => self.let_a_worker_start(),
            73..=76 => self.crash_a_worker(),
            77..=84 => self.answer_a_recall(),
            85..=88 => self.let_a_worker_stop(),
            89 => self.find_a_large_worker(),
            90..=92 => self.repeat_something_old(),
            93 => self.resize(),
            94 => {
                if self.random.below(40) == 0 {
                    self.apply(Event::DrainRequested);
                } else if self.random.below(3) == 0 {
                    self.held.clear();
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
        let spec = JobSpec {
            id: JobId(self.last_job),
            function: FunctionId(random.below(3) as u32),
            num_items: if random.below(4) == 0 { 1 } else { random.below(60) },
            input_closed: delivery == Delivery::Whole || random.below(2) == 0,
            delivery,
            chunk_size: random.maybe(|random| 1 + random.below(12) as u32),
            item_bytes: 1 << random.below(22),
            fail_fast: random.below(3) == 0,
            max_attempts: 1 + random.below(4) as u32,
            item_timeout: random.maybe(|random| Duration::from_millis(1 + random.below(200))),
            deadline: random.maybe(|random| {
                let most = 1 << random.below(25);
                self.now.after(Duration::from_micros(random.below(most)))
            }),
            priority: random.below(17) as i32 - 8,
        };
        self.jobs.insert(spec.id, ModelJob::new(spec.clone()));
        self.apply(Event::JobSubmitted(spec));
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

    fn let_a_worker_start(&mut self) {
        let starting: Vec<WorkerId> =
            self.workers.iter().filter(|(_, worker)| !worker.is_up && !worker.is_stopping).map(|(&id, _)| id).collect();
        let Some(id) = self.random.pick(&starting) else { return };
        if self.random.below(10) == 0 {
            return self.exit(id);
        }
        self.workers.get_mut(&id).unwrap().is_up = true;
        self.apply(Event::WorkerReady { worker: id });
    }

    /// A worker begins an item, or finishes some.
    fn let_a_worker_work(&mut self) {
        let busy: Vec<WorkerId> =
            self.workers.iter().filter(|(_, worker)| !worker.chunks.is_empty()).map(|(&id, _)| id).collect();
        let in_bad_slot = busy.iter().find(|worker| Some(worker.slot) == self.bad_slot);
        // Who fails at once is faster than who works.
        let Some(id) = in_bad_slot.copied().or_else(|| self.random.pick(&busy)) else { return };
        let finished = self.random.below(8) as u32;
        self.work(id, finished);
    }

    /// The worker finishes up to `most` items of its first chunk, and begins the next if there is one. It may keep the
    /// results to itself for a while.
    fn work(&mut self, id: WorkerId, most: u32) {
        if self.bad_slot == Some(id.slot) {
            return self.exit(id);
        }
        let holds_back = self.random.below(4) == 0;
        let worker = self.workers.get_mut(&id).unwrap();
        let Some(chunk) = worker.chunks.front_mut() else { return };
        let job = self.jobs.get_mut(&chunk.job).unwrap();
        let first = chunk.finished;
        let count = most.min(chunk.count - chunk.finished);
        for offset in first..first + count {
            let index = chunk.first_index + u64::from(offset);
            let began = chunk.began.take();
            if began.is_none() {
                job.begin(index, id);
            }
            chunk.began_before = began.unwrap_or(self.now);
            let item = job.item(index);
            (item.runs, item.is_out) = (false, false);
            item.fails = self.random.below(20) == 0;
            if item.fails {
                chunk.failed.push(offset);
            }
        }
        chunk.finished += count;
        let is_done = chunk.finished == chunk.count;
        if !is_done && chunk.began.is_none() && self.random.below(2) == 0 {
            chunk.began = Some(self.now);
            job.begin(chunk.first_index + u64::from(chunk.finished), id);
        }
        if is_done || !holds_back {
            self.say_results(id);
        }
    }

    /// The worker says what of its first chunk has finished, and forgets the chunk if that is all of it.
    fn say_results(&mut self, id: WorkerId) {
        let worker = self.workers.get_mut(&id).unwrap();
        let Some(chunk) = worker.chunks.front_mut() else { return };
        let (first, count, failed) = (chunk.said, chunk.finished - chunk.said, std::mem::take(&mut chunk.failed));
        chunk.said = chunk.finished;
        let (id_of_chunk, job, job_first) = (chunk.id, chunk.job, chunk.first_index);
        if chunk.finished == chunk.count {
            worker.chunks.pop_front();
        }
        if count > 0 {
            worker.has_finished = true;
            self.failed_starts = 0;
            self.failed_items = failed.iter().map(|&offset| (job, job_first + u64::from(offset))).collect();
            let busy = Duration::from_micros(self.random.below(3000));
            self.say(Event::ItemsFinished { worker: id, chunk: id_of_chunk, first, count, failed, busy });
            self.failed_items.clear();
        }
    }

    fn crash_a_worker(&mut self) {
        let all: Vec<WorkerId> = self.workers.keys().copied().collect();
        if let Some(id) = self.random.pick(&all) {
            self.exit(id);
        }
    }

    /// A worker that is up holds too much memory, for the first time or still.
    fn find_a_large_worker(&mut self) {
        let up: Vec<WorkerId> = self.workers.iter().filter(|(_, worker)| worker.is_up).map(|(&id, _)| id).collect();
        if let Some(id) = self.random.pick(&up) {
            self.workers.get_mut(&id).unwrap().is_large = true;
            self.say(Event::MemoryHigh { worker: id });
        }
    }

    fn let_a_worker_stop(&mut self) {
        let stopping: Vec<WorkerId> =
            self.workers.iter().filter(|(_, worker)| worker.is_stopping).map(|(&id, _)| id).collect();
        if let Some(id) = self.random.pick(&stopping) {
            self.exit(id);
        }
    }

    fn exit(&mut self, id: WorkerId) {
        // What had finished is found in the journal.
        self.say_results(id);
        let worker = self.workers.remove(&id).unwrap();
        let others = self.workers.iter().filter(|(other, _)| other.slot.0 < self.slots).map(|(_, worker)| worker);
        let mut others = others.filter(|worker| worker.is_up && !worker.is_stopping);
        let others_are_up = others.next().is_some();
        if !self.workers.values().any(|worker| worker.is_up && !worker.is_stopping) {
            self.held.clear();
        }
        let mut running = None;
        for chunk in &worker.chunks {
            let job = self.jobs.get_mut(&chunk.job).unwrap();
            for offset in chunk.finished..chunk.count {
                let item = job.item(chunk.first_index + u64::from(offset));
                (item.runs, item.is_out) = (false, false);
            }
            if running.is_none() && chunk.began.is_some() {
                running = Some((chunk.id, chunk.finished));
            }
        }
        let has_died = worker.is_up && !worker.is_stopping;
        if let Some(first) = worker.chunks.front().filter(|chunk| has_died && chunk.began.is_none()) {
            let job = self.jobs.get_mut(&first.job).unwrap();
            job.item(first.first_index + u64::from(first.finished)).fruitless.push((id.slot, others_are_up));
        }
        if has_died && self.bad_slot != Some(id.slot) {
            self.bad_row = 0;
        } else if has_died && others_are_up && !worker.has_finished {
            self.bad_row += 1;
        }
        self.failed_starts += u32::from(!worker.is_stopping && !worker.has_finished && running.is_none());
        let by_shortage = !worker.is_up && self.random.below(4) == 0;
        self.say(Event::WorkerExited { worker: id, running, by_shortage });
        assert!(self.bad_row < 3, "slot {:?} is still given items", self.bad_slot);
    }

    fn answer_a_recall(&mut self) {
        let asked: Vec<(WorkerId, ChunkId)> = self
            .workers
            .iter()
            .flat_map(|(&id, worker)| worker.chunks.iter().map(move |chunk| (id, chunk)))
            .filter(|(_, chunk)| chunk.is_recalled)
            .map(|(id, chunk)| (id, chunk.id))
            .collect();
        if let Some((id, chunk)) = self.random.pick(&asked) {
            self.answer_recall(id, chunk);
        }
    }

    fn answer_recall(&mut self, id: WorkerId, chunk: ChunkId) {
        let worker = self.workers.get_mut(&id).unwrap();
        let position = worker.chunks.iter().position(|active| active.id == chunk).unwrap();
        let active = &mut worker.chunks[position];
        let first_not_begun = active.finished + u32::from(active.began.is_some());
        let job = self.jobs.get_mut(&active.job).unwrap();
        for offset in first_not_begun..active.count {
            job.item(active.first_index + u64::from(offset)).is_out = false;
        }
        active.count = first_not_begun;
        active.is_recalled = false;
        if active.said == active.count {
            worker.chunks.remove(position);
        }
        self.say(Event::Recalled { worker: id, chunk, first_not_begun });
    }

    fn repeat_something_old(&mut self) {
        let Some(event) = self.random.pick(&self.said) else { return };
        let is_stale = match &event {
            Event::WorkerExited { worker, .. } | Event::MemoryHigh { worker } => !self.workers.contains_key(worker),
            Event::ItemsFinished { worker, chunk, .. } | Event::Recalled { worker, chunk, .. } => {
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
        self.now = match self.state.next_wakeup() {
            Some(at) if self.random.below(2) == 0 => at.max(self.now),
            _ => later,
        };
        self.apply(Event::TimePassed);
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
        let count = if let Event::ItemsFinished { count, .. } = event { Some(count) } else { None };
        self.state.apply(self.now, event, &mut effects);
        let mut probes = Vec::new();
        for effect in effects {
            self.check(count, effect, &mut probes);
        }
        let running: usize = self.workers.values().filter(|worker| !worker.chunks.is_empty()).count();
        assert!(running <= self.most_slots as usize, "more items run than there are slots");
        for worker in probes {
            self.answer_probe(worker);
        }
    }

    fn answer_probe(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get(&id) else { return };
        let running = worker.chunks.front().and_then(|chunk| {
            // Without a result, nobody can tell whether the item that was begun last has ended.
            let held_back = chunk.finished.checked_sub(1).filter(|&offset| offset >= chunk.said);
            let (offset, began) = match chunk.began {
                Some(began) => (chunk.finished, began),
                None => (held_back?, chunk.began_before),
            };
            Some(RunningItem { chunk: chunk.id, offset, running_for: self.now.since(began) })
        });
        self.apply(Event::Progress { worker: id, running });
    }

    /// No more faults and no more jobs: everything that there is must end by itself, soon.
    fn come_to_rest(&mut self) {
        self.bad_slot = None;
        for round in 0.. {
            for id in self.open_streams() {
                self.jobs.get_mut(&id).unwrap().spec.input_closed = true;
                self.apply(Event::InputClosed { job: id });
            }
            for id in self.workers.keys().copied().collect::<Vec<_>>() {
                self.make_worker_behave(id);
            }
            let ids: Vec<JobId> = self.jobs.iter().filter(|(_, job)| job.ended.is_none()).map(|(&id, _)| id).collect();
            for &id in &ids {
                let job = self.jobs.get_mut(&id).unwrap();
                job.taken = job.delivered.len() as u64;
                let total = job.taken;
                self.apply(Event::ResultsTaken { job: id, total });
            }
            let is_draining = matches!(self.readiness, Readiness::Draining | Readiness::Stopped);
            let has_large = self.workers.values().any(|worker| worker.is_large) && !is_draining;
            let is_at_rest =
                ids.is_empty() && !has_large && self.workers.values().all(|worker| worker.chunks.is_empty());
            if is_at_rest {
                break;
            }
            // With `max_items_per_worker` of 1, each item takes a few rounds.
            assert!(round < 20_000, "jobs {ids:?} hang: {:#?}", self.state);
            if let Some(at) = self.state.next_wakeup() {
                self.now = at.max(self.now).min(self.now.after(Duration::from_millis(50)));
                self.apply(Event::TimePassed);
            }
        }
        assert!(self.jobs.values().all(|job| job.ended.is_some()), "every job has ended");
        self.apply(Event::DrainRequested);
        while !self.workers.is_empty() {
            let id = *self.workers.keys().next().unwrap();
            assert!(self.workers[&id].is_stopping, "a worker is left over after the drain");
            self.exit(id);
        }
        assert_eq!(self.readiness, Readiness::Stopped, "a drained pool stops");
        assert_eq!(self.state.next_wakeup(), None, "a stopped pool waits for nothing");
    }

    fn make_worker_behave(&mut self, id: WorkerId) {
        let recalled: Vec<ChunkId> = self.workers[&id].chunks.iter().filter(|c| c.is_recalled).map(|c| c.id).collect();
        for chunk in recalled {
            self.answer_recall(id, chunk);
        }
        for _ in 0..3 {
            if self.workers.contains_key(&id) {
                self.work(id, u32::MAX);
            }
        }
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if worker.is_stopping {
            self.exit(id);
        } else if !worker.is_up {
            worker.is_up = true;
            self.apply(Event::WorkerReady { worker: id });
        }
    }
}
