//! The owner of the pool's state: one task that turns what happens into events, applies them to the scheduler, and
//! carries out the effects. No locks, and nothing that it does waits for a worker or a caller.
//!
//! `loop { let input = select().await; self.handle(input) }`: only the first half is async. The shape is that of
//! crucible's upstairs. Effects are in [`effects`]; which item goes where is the scheduler's business alone.

mod admin;
mod commons;
mod effects;
mod entries;
mod exits;
mod functions;
mod jobs;
mod report;
mod restart;
mod results;
mod submit;
mod workers;

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use procpool_scheduler::{
    Effect, Event, FunctionId, GracePeriods, JobId, PoolState, Readiness, ResultSize, Time, WorkerId,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{Instrument as _, debug};

use self::entries::{JobEntry, Occasion, WorkerLink};
use self::report::Reporter;
use self::restart::RunningRestart;
use crate::config::PoolConfig;
use crate::error::{CallError, DumpFailure};
use crate::message::{AdminCommand, Command, Published, Publisher};
use crate::notify::{GivenBack, Notifications, Notifier};
use crate::observer::PoolObserver;
use crate::supervisor::{WorkerEvent, WorkerSpawner};

/// How many events of workers may wait for the driver; a worker that finds it full waits, not the driver.
const EVENT_CAPACITY: usize = 1024;
/// How many events are taken at a time.
const EVENT_BATCH: usize = 128;

/// Where the driver's inputs come from, besides the workers, and who watches it.
pub(crate) struct Inputs {
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) notifier: Arc<Notifier>,
    pub(crate) observer: Option<Arc<dyn PoolObserver>>,
}

/// Starts the driver of a pool. Returns its task, and where to read what it publishes.
pub(crate) fn spawn(
    config: &PoolConfig,
    spawner: Arc<dyn WorkerSpawner>,
    mut inputs: Inputs,
) -> (JoinHandle<()>, Published) {
    let (publisher, readers) = Publisher::new(config.processes.get());
    let (event_sender, events) = mpsc::channel(EVENT_CAPACITY);
    let driver = Driver {
        state: PoolState::new(config.scheduler()),
        epoch: Instant::now(),
        spawner,
        grace: config.grace(),
        event_sender,
        workers: BTreeMap::new(),
        jobs: BTreeMap::new(),
        function_ids: BTreeMap::new(),
        next_function: 0,
        publisher,
        reporter: Reporter::new(inputs.observer.take()),
        restart: None,
        effects: Vec::new(),
        notifier: Arc::clone(&inputs.notifier),
        recounts: BTreeMap::new(),
        has_dropped_commons: false,
        is_short: false,
    };
    #[expect(clippy::disallowed_methods, reason = "its owner is the PoolTask, which joins it")]
    let task = tokio::spawn(driver.run(inputs, events).in_current_span());
    (task, readers)
}

struct Driver {
    state: PoolState,
    /// Zero of the scheduler's time.
    epoch: Instant,
    spawner: Arc<dyn WorkerSpawner>,
    grace: GracePeriods,
    event_sender: mpsc::Sender<WorkerEvent>,
    workers: BTreeMap<WorkerId, WorkerLink>,
    jobs: BTreeMap<JobId, JobEntry>,
    /// Bounded by the registered functions: others are refused before they get here.
    function_ids: BTreeMap<Arc<str>, FunctionId>,
    /// The number that a new function gets.
    next_function: u32,
    publisher: Publisher,
    reporter: Reporter,
    restart: Option<RunningRestart>,
    effects: Vec<Effect>,
    /// What readers give results back with.
    notifier: Arc<Notifier>,
    /// How much more the results of jobs take than the scheduler has counted.
    recounts: BTreeMap<JobId, ResultSize>,
    /// Some worker has yet to be told that a common argument is not needed any more.
    has_dropped_commons: bool,
    /// The system had nothing to start a worker with, and no worker has been ready since.
    is_short: bool,
}

impl Driver {
    async fn run(mut self, mut inputs: Inputs, mut events: mpsc::Receiver<WorkerEvent>) {
        let mut alarm = pin!(tokio::time::sleep_until(self.epoch));
        let mut received = Vec::with_capacity(EVENT_BATCH);
        let mut has_callers = true;
        // The first workers start now.
        self.apply(Event::TimePassed, &Occasion::Nothing);
        while self.state.readiness() != Readiness::Stopped {
            let wakeup = self.state.next_wakeup().map(|at| self.epoch + at.elapsed());
            // To set a timer anew in each turn would cost more than the turn.
            if let Some(at) = wakeup.filter(|&at| at != alarm.deadline() || alarm.is_elapsed()) {
                alarm.as_mut().reset(at);
            }
            // Always in the same order, so that a simulation can be replayed; no source starves another, see below.
            tokio::select! {
                biased;
                // The driver holds a sender itself, so this never ends.
                _ = events.recv_many(&mut received, EVENT_BATCH) => {
                    received.drain(..).for_each(|event| self.handle_worker(event));
                }
                command = inputs.commands.recv(), if has_callers => if let Some(command) = command {
                    self.obey(command);
                } else {
                    // Every handle is gone.
                    has_callers = false;
                    self.apply_plain(Event::StopRequested);
                },
                notifications = inputs.notifier.notified() => self.take_notifications(notifications),
                () = alarm.as_mut(), if wakeup.is_some() => self.apply_plain(Event::TimePassed),
            }
            // Whatever came first, the others have a turn, too.
            self.take_notifications(inputs.notifier.take());
            if has_callers && let Ok(command) = inputs.commands.try_recv() {
                self.obey(command);
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

    fn obey(&mut self, command: Command) {
        match command {
            Command::Submit(submission) => self.submit(*submission),
            Command::AddItems { job, items } => self.add_items(job, items),
            Command::CloseInput { job } => self.apply_plain(Event::InputClosed { job }),
            Command::Administer(command) => self.administer(command),
        }
    }

    fn take_notifications(&mut self, notifications: Notifications) {
        for job in notifications.cancelled {
            self.apply_plain(Event::JobCancelled { job });
        }
        for (job, total) in notifications.taken {
            self.apply_plain(Event::ResultsTaken { job, total });
            self.publish_allowance(job);
        }
        for (job, GivenBack { bytes, count }) in notifications.given_back {
            self.apply_plain(Event::ResultsGivenBack { job, bytes, count });
        }
        if notifications.stop {
            self.apply_plain(Event::StopRequested);
        } else if notifications.drain {
            self.apply_plain(Event::DrainRequested);
        }
    }

    fn apply_plain(&mut self, event: Event) {
        self.apply(event, &Occasion::Nothing);
    }

    /// Applies an event, and tells what its results turned out to take.
    fn apply(&mut self, event: Event, occasion: &Occasion) {
        self.apply_one(event, occasion);
        while let Some((job, change)) = self.recounts.pop_first() {
            self.apply_one(Event::ResultsRecounted { job, change }, &Occasion::Nothing);
        }
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
