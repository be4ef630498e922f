//! The world around the scheduler: callers, workers, time and bad luck, all from one seed.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use procpool_scheduler::{
    Cancel, ChunkId, Delivery, Dispatch, Effect, Event, FailureCause, FunctionId, FunctionSet, JobFailure, JobId,
    JobSpec, PoolState, Readiness, RunningItem, SchedulerConfig, StopReason, Time, WorkerId, WorkerState,
};

use crate::model::{Ended, ModelJob};
use crate::random::Random;

/// Those that jobs call. Not all workers have all of them.
const NUM_FUNCTIONS: u32 = 3;

/// A worker as it really is.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "that is what makes it naive")]
struct SimWorker {
    is_up: bool,
    /// What it can run, when it is up.
    functions: FunctionSet,
    chunks: VecDeque<SimChunk>,
    /// It was asked to stop, and will.
    is_stopping: bool,
    /// It was found to hold too much memory.
    is_large: bool,
    /// It was asked to stop for that.
    stops_for_memory: bool,
    /// Its slot may have been removed, and may have come back.
    saw_resize: bool,
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
    /// What workers can run that become ready from now on.
    code: Vec<FunctionId>,
    /// The workers that there were when they were last to be replaced.
    old_workers: Vec<WorkerId>,
    /// They are being replaced.
    restarts: bool,
    /// The items that failed with the event that is being applied, by rising index.
    failed_items: Vec<(JobId, u64)>,
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
            code: (0..NUM_FUNCTIONS).map(FunctionId).collect(),
            old_workers: Vec::new(),
            restarts: false,
            failed_items: Vec::new(),
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
            89 if self.random.below(4) == 0 => self.change_code(),
            89 => self.find_a_large_worker(),
            90..=92 => self.repeat_something_old(),
            93 => self.resize(),
            94 => {
                if self.random.below(40) == 0 {
                    self.apply(Event::DrainRequested);
                } else if self.random.below(3) == 0 {
                    self.change_code();
                    self.restarts = !self.is_draining();
                    self.old_workers = self.workers.keys().copied().collect();
                    self.apply(Event::RestartRequested);
                }
            }
            _ => self.let_time_pass(),
        }
    }

    /// Workers that start from now on know other functions, mostly all of them.
    fn change_code(&mut self) {
        let random = &mut self.random;
        self.code = (0..NUM_FUNCTIONS).map(FunctionId).filter(|_| random.below(4) > 0).collect();
    }

    fn start(&mut self, id: WorkerId) {
        let functions: FunctionSet = self.code.iter().copied().collect();
        let worker = self.workers.get_mut(&id).unwrap();
        (worker.is_up, worker.functions) = (true, functions.clone());
        self.apply(Event::WorkerReady { worker: id, functions });
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
            function: FunctionId(random.below(NUM_FUNCTIONS.into()) as u32),
            num_items: random.below(60),
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
        self.start(id);
    }

    /// A worker begins an item, or finishes some.
    fn let_a_worker_work(&mut self) {
        let busy: Vec<WorkerId> =
            self.workers.iter().filter(|(_, worker)| !worker.chunks.is_empty()).map(|(&id, _)| id).collect();
        let Some(id) = self.random.pick(&busy) else { return };
        let finished = self.random.below(8) as u32;
        self.work(id, finished);
    }

    /// The worker finishes up to `most` items of its first chunk, and begins the next if there is one. It may keep the
    /// results to itself for a while.
    fn work(&mut self, id: WorkerId, most: u32) {
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
                job.begin(index);
            }
            chunk.began_before = began.unwrap_or(self.now);
            let item = job.item(index);
            (item.runs, item.is_out, item.last_slot) = (false, false, Some(id.slot));
            item.fails = self.random.below(20) == 0;
            if item.fails {
                chunk.failed.push(offset);
            }
        }
        chunk.finished += count;
        let is_done = chunk.finished == chunk.count;
        if !is_done && chunk.began.is_none() && self.random.below(2) == 0 {
            chunk.began = Some(self.now);
            job.begin(chunk.first_index + u64::from(chunk.finished));
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
        let mut running = None;
        for chunk in &worker.chunks {
            let job = self.jobs.get_mut(&chunk.job).unwrap();
            for offset in chunk.finished..chunk.count {
                let item = job.item(chunk.first_index + u64::from(offset));
                if item.runs {
                    item.last_slot = Some(id.slot);
                }
                (item.runs, item.is_out) = (false, false);
            }
            if running.is_none() && chunk.began.is_some() {
                running = Some((chunk.id, chunk.finished));
            }
        }
        self.say(Event::WorkerExited { worker: id, running });
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

    /// Checks an effect and carries it out. `results`: how many came with the event.
    fn check(&mut self, results: Option<u32>, effect: Effect, probes: &mut Vec<WorkerId>) {
        match effect {
            Effect::SpawnWorker { worker } => {
                let is_free = self.workers.keys().all(|other| other.slot != worker.slot);
                assert!(is_free, "two workers in one slot");
                let sim = SimWorker { chunks: VecDeque::new(), ..SimWorker::default() };
                self.workers.insert(worker, sim);
            }
            Effect::Dispatch(dispatch) => self.take_chunk(&dispatch),
            Effect::Recall { worker, chunk, cancel } => {
                let worker = self.workers.get_mut(&worker).expect("a recall to a worker that is there");
                if let Some(active) = worker.chunks.iter_mut().find(|active| active.id == chunk) {
                    active.is_recalled = true;
                    active.cancels.push(cancel);
                }
            }
            Effect::Probe { worker } => probes.push(worker),
            Effect::Shutdown { worker: id, reason } => {
                self.check_turn(id, reason);
                let worker = self.workers.get_mut(&id).expect("a stop to a worker that is there");
                assert!(worker.chunks.is_empty(), "a busy worker was shut down");
                worker.is_stopping = true;
                if reason == StopReason::Memory {
                    assert!(worker.is_large, "a small worker was stopped for its memory");
                    worker.stops_for_memory = true;
                    let leaving = |worker: &&SimWorker| worker.stops_for_memory && !worker.saw_resize;
                    assert!(self.workers.values().filter(leaving).count() <= 1, "one at a time, if its slot stays");
                }
            }
            Effect::Terminate { worker: id, reason } | Effect::Kill { worker: id, reason } => {
                let worker = self.workers.get_mut(&id).expect("a stop to a worker that is there");
                if let StopReason::ItemTimeout | StopReason::Cancelled = reason
                    && let Some(chunk) = worker.chunks.front().filter(|chunk| chunk.began.is_some())
                {
                    let is_meant = |cancel: &Cancel| [Cancel::Item(chunk.finished), Cancel::Chunk].contains(cancel);
                    assert!(chunk.cancels.iter().any(is_meant), "an item was ended that had not been told to end");
                }
                worker.is_stopping = true;
            }
            Effect::StoreResults { job, first_index, skip, count } => {
                let all = results.expect("results come with results");
                assert!(skip + count <= all && count > 0, "more results than came");
                let job = self.jobs.get_mut(&job).unwrap();
                (first_index..first_index + u64::from(count)).for_each(|index| job.settle(index));
            }
            Effect::FailItem { job, index, attempt, cause } => {
                let job = self.jobs.get_mut(&job).unwrap();
                job.settle(index);
                let executions = job.item(index).executions;
                match cause {
                    FailureCause::WorkerDied | FailureCause::TimedOut { .. } => {
                        assert_eq!(attempt, job.spec.max_attempts, "an item was given up early");
                        assert_eq!(executions, attempt, "an attempt is an execution");
                    }
                    FailureCause::CrashLimit { crashes } => assert_eq!(crashes, 3),
                }
                if job.spec.fail_fast {
                    self.failed_items.insert(0, (job.spec.id, index));
                }
            }
            Effect::Deliver { job, first_index, count } => {
                self.jobs.get_mut(&job).unwrap().deliver(first_index, count);
            }
            Effect::CompleteJob { job } => self.jobs.get_mut(&job).unwrap().complete(),
            Effect::FailJob { job: id, failure } => {
                let job = self.jobs.get_mut(&id).unwrap();
                job.fail();
                if let JobFailure::DeadlineUnreachable { expected, remaining, .. } = failure {
                    assert!(expected > remaining, "a job was refused that could be done");
                    assert!(job.items.iter().all(|item| !item.is_out && item.executions == 0), "a refused job ran");
                    assert_eq!(job.spec.deadline.map(|deadline| deadline.since(self.now)), Some(remaining));
                }
                if let JobFailure::NoFunction { started } = failure {
                    let has_run = job.items.iter().any(|item| item.is_out || item.executions > 0);
                    assert!(started || !has_run, "it is said not to have run");
                    let function = job.spec.function;
                    let up = self.workers.values().filter(|worker| worker.is_up);
                    let (has, lacks): (Vec<_>, Vec<_>) = up.partition(|worker| worker.functions.has(function));
                    assert!(has.is_empty() && !lacks.is_empty(), "a job failed whose function a worker has");
                }
                if let JobFailure::ItemFailed { index } = failure {
                    assert!(job.spec.fail_fast, "a job that collects failed with an item");
                    // A late answer of an item whose time was up has no outcome, and ends nothing.
                    let counts = |&&(failed_job, failed): &&(JobId, u64)| {
                        failed_job == id && job.items[usize::try_from(failed).unwrap()].has_outcome
                    };
                    let first = self.failed_items.iter().find(counts);
                    assert_eq!(first, Some(&(id, index)), "the first failure to arrive ends the job");
                }
            }
            Effect::RestartFinished => {
                let is_gone = |worker: &WorkerId| !self.workers.contains_key(worker);
                assert!(self.old_workers.iter().all(is_gone), "an old worker is still there");
                assert!(std::mem::take(&mut self.restarts), "a restart ends once");
            }
            Effect::RestartGivenUp => {
                assert!(matches!(self.readiness, Readiness::Draining | Readiness::Stopped), "why not go on?");
                assert!(std::mem::take(&mut self.restarts), "a restart ends once");
            }
            Effect::ReadinessChanged(readiness) => self.readiness = readiness,
        }
    }

    fn is_draining(&self) -> bool {
        matches!(self.readiness, Readiness::Draining | Readiness::Stopped)
    }

    /// Workers that are replaced go one at a time: every other slot has one that is up.
    fn check_turn(&self, id: WorkerId, reason: StopReason) {
        use StopReason::{Idle, MaxAge, Memory, Restart};
        if !matches!(reason, Idle | MaxAge | Memory | Restart) || id.slot.0 >= self.slots {
            return;
        }
        let num_up = self.workers.iter().filter(|&(&other, worker)| {
            other != id && other.slot.0 < self.slots && worker.is_up && !worker.is_stopping
        });
        assert_eq!(num_up.count(), self.slots as usize - 1, "worker {id} was stopped while another slot had none");
    }

    fn take_chunk(&mut self, dispatch: &Dispatch) {
        assert!(dispatch.count > 0, "an empty chunk");
        let worker = self.workers.get(&dispatch.worker).expect("a chunk for a worker that is there");
        assert!(worker.is_up && !worker.is_stopping, "a chunk for a worker that takes none");
        if dispatch.attempt > 1 {
            self.check_slot_of_retry(dispatch);
        }
        let worker = self.workers.get_mut(&dispatch.worker).unwrap();
        let job = self.jobs.get_mut(&dispatch.job).unwrap();
        assert!(worker.functions.has(job.spec.function), "an item went to a worker that cannot run it");
        if let Some(chunk_size) = job.spec.chunk_size {
            assert!(dispatch.count <= chunk_size, "a chunk is larger than the caller said");
        }
        for index in dispatch.first_index..dispatch.first_index + u64::from(dispatch.count) {
            job.hand_out(index, self.most_slots);
        }
        worker.chunks.push_back(SimChunk {
            id: dispatch.chunk,
            job: dispatch.job,
            first_index: dispatch.first_index,
            count: dispatch.count,
            finished: 0,
            said: 0,
            failed: Vec::new(),
            began: None,
            began_before: Time::ZERO,
            is_recalled: false,
            cancels: Vec::new(),
        });
        assert!(worker.chunks.len() <= 2, "a worker has more than one chunk ahead");
    }

    /// An item that is tried again runs in another slot than the one where it failed, if another has nothing to do.
    fn check_slot_of_retry(&mut self, dispatch: &Dispatch) {
        assert_eq!(dispatch.count, 1, "an item that is tried again runs in a chunk of its own");
        let failed_at = self.jobs.get_mut(&dispatch.job).unwrap().item(dispatch.first_index).last_slot;
        if failed_at == Some(dispatch.worker.slot) {
            let snapshot = self.state.snapshot();
            let function = self.jobs[&dispatch.job].spec.function;
            let idle = snapshot.workers.iter().find(|worker| {
                let could = self.workers.get(&worker.id).is_some_and(|sim| sim.functions.has(function));
                let is_idle = worker.state == WorkerState::Ready && worker.running.is_none();
                is_idle && could && worker.id.slot != dispatch.worker.slot
            });
            assert!(idle.is_none(), "{idle:?} could have tried again what failed in {failed_at:?}");
        }
    }

    /// No more faults and no more jobs: everything that there is must end by itself, soon.
    fn come_to_rest(&mut self) {
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
            let has_large = self.workers.values().any(|worker| worker.is_large) && !self.is_draining();
            let is_busy = self.workers.values().any(|worker| !worker.chunks.is_empty());
            let is_at_rest = ids.is_empty() && !has_large && !is_busy && !self.restarts;
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
            self.start(id);
        }
    }
}
