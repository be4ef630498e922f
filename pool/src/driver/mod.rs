//! The owner of the pool's state: one task that turns what happens into events, applies them to the scheduler, and
//! carries out the effects. No locks, and nothing that it does waits for a worker or a caller.
//!
//! `loop { let input = select().await; self.handle(input) }`: only the first half is async. The shape is that of
//! crucible's upstairs. Effects are in [`effects`]; which item goes where is the scheduler's business alone.

mod admin;
mod commons;
mod effects;
mod exits;
mod functions;
mod observation;
mod restart;
mod results;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use procpool_items::ItemSlab;
use procpool_scheduler::{
    Effect, Event, FunctionId, Hold, JobId, JobSpec, PoolState, Readiness, StopReason, Time, WorkerId,
};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{Instrument as _, debug};

use self::exits::ExitReport;
use self::observation::Observation;
use self::restart::RunningRestart;
use self::results::ResultWatch;
use crate::admission::AdmittedItems;
use crate::config::PoolConfig;
use crate::error::{CallError, DumpFailure, ExitUsage, WorkerExit};
use crate::function::FunctionTable;
use crate::mailbox::{Letters, Mailbox};
use crate::message::{AdminCommand, Command, Status, Submission};
use crate::observer::PoolObserver;
use crate::outlet::Outlet;
use crate::payload::{JobHeader, JobPayload};
use crate::results::ResultBudget;
use crate::snapshot::{EVENT_BUFFER, PoolCounts, PoolEvent};
use crate::supervisor::{ChunkResults, WorkerCommand, WorkerEvent, WorkerEventKind, WorkerSpawner};

/// How many events of workers may wait for the driver; a worker that finds it full waits, not the driver.
const EVENT_CAPACITY: usize = 1024;
/// How many events are taken at a time.
const EVENT_BATCH: usize = 128;

/// Where the driver's inputs come from, besides the workers, and who watches it.
pub(crate) struct Inputs {
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) observer: Option<Arc<dyn PoolObserver>>,
}

/// Where the driver publishes.
pub(crate) struct Publisher {
    status: watch::Sender<Status>,
    readiness: watch::Sender<Readiness>,
    functions: watch::Sender<Arc<FunctionTable>>,
}

/// Where what the driver publishes can be read.
pub(crate) struct Published {
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) readiness: watch::Receiver<Readiness>,
    pub(crate) functions: watch::Receiver<Arc<FunctionTable>>,
}

/// Returns both ends of what the driver of a pool with so many slots publishes.
pub(crate) fn channels(num_slots: u32) -> (Publisher, Published) {
    let status = Status { readiness: Readiness::Starting, start_failure: String::new(), num_slots };
    let (status, status_reader) = watch::channel(status);
    let (readiness, readiness_reader) = watch::channel(Readiness::Starting);
    let (functions, functions_reader) = watch::channel(Arc::default());
    let published = Published { status: status_reader, readiness: readiness_reader, functions: functions_reader };
    (Publisher { status, readiness, functions }, published)
}

/// Starts the driver of a pool.
pub(crate) fn spawn(
    config: &PoolConfig,
    spawner: Arc<dyn WorkerSpawner>,
    mut inputs: Inputs,
    publisher: Publisher,
) -> JoinHandle<()> {
    let (event_sender, events) = mpsc::channel(EVENT_CAPACITY);
    let driver = Driver {
        state: PoolState::new(config.scheduler()),
        epoch: Instant::now(),
        spawner,
        event_sender,
        workers: BTreeMap::new(),
        jobs: BTreeMap::new(),
        function_ids: BTreeMap::new(),
        next_function: 0,
        publisher,
        observation: inputs.observer.take().map(Observation::new),
        watchers: broadcast::Sender::new(EVENT_BUFFER),
        restart: None,
        counts: PoolCounts::default(),
        effects: Vec::new(),
        results: ResultWatch::new(ResultBudget::new(config, Arc::clone(&inputs.mailbox))),
        has_dropped_commons: false,
        is_short: false,
    };
    #[expect(clippy::disallowed_methods, reason = "its owner is the PoolTask, which joins it")]
    tokio::spawn(driver.run(inputs, events).in_current_span())
}

struct Driver {
    state: PoolState,
    /// Zero of the scheduler's time.
    epoch: Instant,
    spawner: Arc<dyn WorkerSpawner>,
    event_sender: mpsc::Sender<WorkerEvent>,
    workers: BTreeMap<WorkerId, WorkerLink>,
    jobs: BTreeMap<JobId, JobEntry>,
    /// Bounded by the registered functions: others are refused before they get here.
    function_ids: BTreeMap<Arc<str>, FunctionId>,
    /// The number that a new function gets.
    next_function: u32,
    publisher: Publisher,
    /// `None`: nobody watches.
    observation: Option<Observation>,
    watchers: broadcast::Sender<PoolEvent>,
    restart: Option<RunningRestart>,
    counts: PoolCounts,
    effects: Vec<Effect>,
    results: ResultWatch,
    /// Some worker has yet to be told that a common argument is not needed any more.
    has_dropped_commons: bool,
    /// The system had nothing to start a worker with, and no worker has been ready since.
    is_short: bool,
}

/// What the driver knows of a worker.
struct WorkerLink {
    commands: mpsc::Sender<WorkerCommand>,
    started_at: Instant,
    /// 0 until its process was started.
    pid: u32,
    is_ready: bool,
    /// What it can run; empty until it said Hello.
    functions: Arc<FunctionTable>,
    has_results: bool,
    /// It was given a chunk.
    has_had_work: bool,
    /// Why we made it stop, if we did.
    stop_reason: Option<StopReason>,
    /// The jobs whose common argument it has. Bounded by the jobs.
    commons: BTreeSet<JobId>,
    /// The jobs that have ended and whose common argument it still has.
    dropped_commons: Vec<JobId>,
}

/// What the driver knows of a job.
struct JobEntry {
    payload: JobPayload,
    outlet: Outlet,
    max_answer_bytes: Option<u64>,
    /// Why its results are not kept any more: it is about to fail.
    refusal: Option<CallError>,
    /// What the scheduler was told.
    hold: Hold,
}

/// One thing that happened.
enum Input {
    Workers,
    Command(Command),
    Letters(Letters),
    /// Every handle is gone.
    NoCallers,
    TimePassed,
}

/// What came with the event that is being applied, for its effects.
enum Occasion {
    Nothing,
    Results(ChunkResults),
    /// The stacks of a worker whose item has run for too long.
    Stack(String),
    Exit(ExitReport),
}

impl Occasion {
    /// Returns how the worker ended of which something fails.
    fn exit(&self) -> ExitReport {
        match self {
            Self::Exit(report) => report.clone(),
            // The scheduler fails nothing of a death but at the exit. Should it, that is no reason to end the pool.
            Self::Nothing | Self::Results(_) | Self::Stack(_) => ExitReport {
                exit: WorkerExit::GivenUp { reason: "it was lost" },
                usage: ExitUsage::default(),
                pid: 0,
                stderr_tail: String::new(),
            },
        }
    }
}

impl Driver {
    async fn run(mut self, mut inputs: Inputs, mut events: mpsc::Receiver<WorkerEvent>) {
        let mut batch = VecDeque::with_capacity(EVENT_BATCH);
        let mut received = Vec::with_capacity(EVENT_BATCH);
        let mut has_callers = true;
        // The first workers start now.
        self.apply(Event::TimePassed, &Occasion::Nothing);
        while self.state.readiness() != Readiness::Stopped {
            let wakeup = self.state.next_wakeup().map(|at| self.epoch + at.elapsed());
            // Always in the same order, so that a simulation can be replayed; no source starves another, see below.
            let input = tokio::select! {
                biased;
                // The driver holds a sender itself, so this never ends.
                _ = events.recv_many(&mut received, EVENT_BATCH) => Input::Workers,
                command = inputs.commands.recv(), if has_callers => command.map_or(Input::NoCallers, Input::Command),
                letters = inputs.mailbox.collect() => Input::Letters(letters),
                () = sleep_until(wakeup) => Input::TimePassed,
            };
            has_callers &= !matches!(input, Input::NoCallers);
            batch.extend(received.drain(..));
            self.handle(input);
            while let Some(event) = batch.pop_front() {
                self.handle_worker(event);
            }
            // Whatever came first, the others have a turn, too.
            self.read(inputs.mailbox.take());
            if has_callers && let Ok(command) = inputs.commands.try_recv() {
                self.handle(Input::Command(command));
            }
            self.tell_dropped_commons();
        }
        debug!("every worker is gone");
        // Whoever was not heard hears that nothing of its call has started. Nobody can ask for anything any more.
        inputs.commands.close();
        while let Some(command) = inputs.commands.recv().await {
            refuse(command);
        }
    }

    fn handle(&mut self, input: Input) {
        match input {
            Input::Workers => {}
            Input::Command(Command::Submit(submission)) => self.submit(*submission),
            Input::Command(Command::AddItems { job, items }) => self.add_items(job, items),
            Input::Command(Command::CloseInput { job }) => self.apply_plain(Event::InputClosed { job }),
            Input::Command(Command::Administer(command)) => self.administer(command),
            Input::Letters(letters) => self.read(letters),
            Input::NoCallers => self.apply_plain(Event::StopRequested),
            Input::TimePassed => self.apply_plain(Event::TimePassed),
        }
    }

    fn submit(&mut self, submission: Submission) {
        let Submission { job, call, common, items, outlet, .. } = submission;
        if submission.is_abandoned.load(Ordering::Acquire) {
            // One end of a stream may still be there.
            return outlet.fail(CallError::Cancelled);
        }
        let function: Arc<str> = call.function.into();
        let function_id = self.function_id(&function);
        let (account, hold) = self.results.open_account(job, &outlet);
        let spec = JobSpec {
            id: job,
            hold,
            function: function_id,
            num_items: items.as_ref().map_or(0, |items| items.slab.len() as u64),
            input_closed: submission.input_closed,
            delivery: submission.delivery,
            chunk_size: call.options.chunk_size.map(std::num::NonZeroU32::get),
            item_bytes: items.as_ref().map_or(0, |items| mean_bytes(&items.slab)),
            has_common: common.is_some(),
            fail_fast: submission.fail_fast,
            max_attempts: submission.max_attempts,
            item_timeout: submission.item_timeout,
            deadline: call.deadline.map(|deadline| Time::from_start(deadline.saturating_duration_since(self.epoch))),
            priority: call.options.priority,
        };
        debug!(
            job = job.0,
            function = &*function,
            items = spec.num_items,
            request_id = call.options.request_id,
            "job submitted"
        );
        self.tell_watchers(|| PoolEvent::JobStarted {
            job: job.0,
            function: function.to_string(),
            num_items: spec.num_items,
        });
        let header = JobHeader {
            function,
            content_type: call.content_type.into(),
            style: call.style,
            trace: Arc::new(call.trace),
        };
        let mut payload = JobPayload::new(header, common, account);
        if let Some(items) = items {
            payload.add(items);
        }
        if let Some(observation) = &mut self.observation {
            observation.job_submitted(job, payload.num_unfinished() > 0);
        }
        self.counts.jobs_total += 1;
        let max_answer_bytes = call.options.max_answer_bytes;
        self.jobs.insert(job, JobEntry { payload, outlet, max_answer_bytes, refusal: None, hold });
        self.apply_plain(Event::JobSubmitted(spec));
        self.publish_allowance(job);
    }

    fn add_items(&mut self, job: JobId, items: AdmittedItems) {
        let Some(entry) = self.jobs.get_mut(&job) else { return };
        let (count, item_bytes) = (items.slab.len() as u64, mean_bytes(&items.slab));
        entry.payload.add(items);
        if let Some(observation) = &mut self.observation {
            observation.items_added(job);
        }
        self.apply_plain(Event::ItemsAdded { job, count, item_bytes });
    }

    fn read(&mut self, letters: Letters) {
        for job in letters.cancelled {
            self.apply_plain(Event::JobCancelled { job });
        }
        for (job, total) in letters.taken {
            self.apply_plain(Event::ResultsTaken { job, total });
            self.publish_allowance(job);
        }
        if letters.results_given_back {
            self.look_at_held_streams();
        }
        if letters.stop {
            self.apply_plain(Event::StopRequested);
        } else if letters.drain {
            self.apply_plain(Event::DrainRequested);
        }
    }

    fn handle_worker(&mut self, WorkerEvent { worker, kind }: WorkerEvent) {
        match kind {
            WorkerEventKind::Started { pid } => {
                if let Some(link) = self.workers.get_mut(&worker) {
                    link.pid = pid;
                }
            }
            WorkerEventKind::Hello { pid, sdk, functions } => self.greet(worker, pid, &sdk, functions),
            WorkerEventKind::Ready => self.welcome(worker),
            WorkerEventKind::Progress { running, stack } => {
                self.apply(Event::Progress { worker, running }, &Occasion::Stack(stack));
            }
            WorkerEventKind::Results(results) => {
                if let Some(observation) = &mut self.observation {
                    observation.results_came(&results);
                }
                self.expect_results(worker, &results);
                let event = self.event_of(worker, &results);
                self.apply(event, &Occasion::Results(results));
            }
            WorkerEventKind::Recalled { chunk, first_not_begun } => {
                if let Some(observation) = &mut self.observation {
                    observation.chunk_given_back(chunk, first_not_begun);
                }
                self.apply_plain(Event::Recalled { worker, chunk, first_not_begun });
            }
            WorkerEventKind::MemoryHigh => self.apply_plain(Event::MemoryHigh { worker }),
            WorkerEventKind::Exited { exit, usage, running, stderr_tail } => {
                let by_shortage = matches!(exit, WorkerExit::SpawnFailed { by_shortage: true, .. });
                let report = self.bury(worker, (exit, usage), running.is_some(), stderr_tail);
                self.apply(Event::WorkerExited { worker, running, by_shortage }, &Occasion::Exit(report));
                self.publish_functions();
            }
        }
    }

    fn event_of(&mut self, worker: WorkerId, results: &ChunkResults) -> Event {
        let &ChunkResults { chunk, first, count, busy, .. } = results;
        if results.are_lost() {
            return Event::ItemsLost { worker, chunk, first, count };
        }
        if let Some(link) = self.workers.get_mut(&worker)
            && !std::mem::replace(&mut link.has_results, true)
        {
            self.forget_start_failure();
        }
        let failed = results.failures.iter().map(|&(offset, _)| offset).collect();
        Event::ItemsFinished { worker, chunk, first, count, failed, busy }
    }

    fn apply_plain(&mut self, event: Event) {
        self.apply(event, &Occasion::Nothing);
    }

    /// Applies an event, and does what follows from its results.
    fn apply(&mut self, event: Event, occasion: &Occasion) {
        self.apply_one(event, occasion);
        self.look_at_results();
    }

    /// Applies an event and carries out its effects. None of these may apply another event.
    fn apply_one(&mut self, event: Event, occasion: &Occasion) {
        let now = Time::from_start(self.epoch.elapsed());
        let mut effects = std::mem::take(&mut self.effects);
        self.state.apply(now, event, &mut effects);
        for effect in effects.drain(..) {
            self.execute(effect, occasion);
        }
        self.effects = effects;
    }
}

/// Answers what came too late. To drop the sender of an answer is to say that the pool has stopped, for all but these.
fn refuse(command: Command) {
    match command {
        Command::Submit(submission) => submission.outlet.fail(CallError::Draining { started: false }),
        Command::Administer(AdminCommand::Dump { answer, .. }) => {
            // Whoever asked may be gone.
            let _ = answer.send(Err(DumpFailure::PoolStopped));
        }
        _ => {}
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn mean_bytes(slab: &ItemSlab) -> u64 {
    (slab.bytes().len() / slab.len().max(1)) as u64
}
