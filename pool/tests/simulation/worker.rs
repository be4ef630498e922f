//! A worker that a seed moves: it starts or does not, runs items fast or slowly or for ever, raises, dies at any point,
//! and hears what it is told late, or only when its item has ended. It keeps the contract of the supervisor, whatever it
//! does: results in order, one answer to a recall, `Exited` once and last; and that of a worker: an item that is told to
//! end raises, if it listens, and no other does.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use procpool_pool::supervisor::{COMMAND_CAPACITY, WorkerCommand, WorkerEvent, WorkerEventKind, WorkerSpawner};
use procpool_pool::{ExitUsage, FunctionInfo, WorkerExit};
use procpool_scheduler::{ChunkId, GracePeriods, ItemWatch, RunningItem, WorkerId};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use self::chunks::SimChunk;
use self::session::{Luck, Still};
use crate::ledger::Ledger;
use crate::random::Random;
use crate::upset::Upset;

mod chunks;
mod session;

/// The type of the error in an item that was told to end.
pub(crate) const CANCELLED: &str = "Cancelled";
const FOR_EVER: Duration = Duration::from_secs(1_000_000);

/// Starts workers from a seed.
pub(crate) struct SimSpawner {
    pub(crate) seed: u64,
    pub(crate) ledger: Ledger,
    /// Workers in it die when they get a chunk, while there are faults.
    pub(crate) bad_slot: Option<u32>,
    /// Sessions panic, and the like.
    pub(crate) has_upsets: bool,
}

impl WorkerSpawner for SimSpawner {
    fn spawn(
        &self,
        worker: WorkerId,
        grace: GracePeriods,
        events: mpsc::Sender<WorkerEvent>,
    ) -> mpsc::Sender<WorkerCommand> {
        let (sender, commands) = mpsc::channel(COMMAND_CAPACITY);
        self.ledger.worker_starts();
        let random = Random::new(self.seed.wrapping_mul(1_000_003).wrapping_add(worker.generation));
        let worker = SimWorker {
            id: worker,
            events,
            commands,
            random,
            ledger: self.ledger.clone(),
            chunks: VecDeque::new(),
            recalled: BTreeSet::new(),
            grows_at: None,
            dies_at: None,
            is_large: false,
            commons: BTreeSet::new(),
            functions: &[],
            inbox: VecDeque::new(),
            reads_at: Instant::now(),
            is_stopping: false,
            is_in_bad_slot: self.bad_slot == Some(worker.slot.0),
            luck: Luck::new(self.seed, worker.generation, self.has_upsets),
            driver: sender.downgrade(),
            is_ready: false,
            is_ending: false,
            is_being_killed: false,
            has_panicked: false,
            dropped: None,
            still: None,
            num_begun: 0,
            resumed_at: None,
            has_lost_item: false,
            watch: ItemWatch::new(grace),
            epoch: Instant::now(),
            cancelled: BTreeSet::new(),
        };
        tokio::spawn(worker.live());
        sender
    }
}

#[expect(clippy::struct_excessive_bools, reason = "they have nothing to do with each other")]
struct SimWorker {
    id: WorkerId,
    events: mpsc::Sender<WorkerEvent>,
    commands: mpsc::Receiver<WorkerCommand>,
    random: Random,
    ledger: Ledger,
    chunks: VecDeque<SimChunk>,
    /// Those that were answered for.
    recalled: BTreeSet<ChunkId>,
    /// When it will be found to hold too much memory, or die, if it has not begun its chunk by then.
    grows_at: Option<Instant>,
    dies_at: Option<Instant>,
    is_large: bool,
    commons: BTreeSet<u64>,
    /// What it has registered.
    functions: &'static [&'static str],
    /// What it was told and has not read yet, and when it will; but never while it is deaf.
    inbox: VecDeque<Frame>,
    reads_at: Instant,
    is_stopping: bool,
    is_in_bad_slot: bool,
    luck: Luck,
    /// Its end of the commands, for as long as it has one.
    driver: mpsc::WeakSender<WorkerCommand>,
    is_ready: bool,
    /// Its session was told to end it.
    is_ending: bool,
    is_being_killed: bool,
    has_panicked: bool,
    /// What its session was about to do when it panicked.
    dropped: Option<WorkerCommand>,
    still: Option<Still>,
    num_begun: u64,
    /// What it had begun when it was found to stand still.
    resumed_at: Option<u64>,
    /// The driver will find that it ended with an item at hand.
    has_lost_item: bool,
    /// That of its session, and zero of its time.
    watch: ItemWatch,
    epoch: Instant,
    /// The chunks that nobody waits for, as far as its session has heard.
    cancelled: BTreeSet<ChunkId>,
}

/// What a worker has to read.
#[derive(Debug)]
enum Frame {
    /// What the driver says.
    Command(WorkerCommand),
    /// The time of this item is up.
    Expired { chunk: ChunkId, offset: u32 },
}

impl SimWorker {
    fn chance(&mut self, percent: u64) -> bool {
        self.random.below(100) < percent
    }

    /// Chance of a fault, while there are any.
    fn fault(&mut self, percent: u64) -> bool {
        self.chance(percent) && !self.ledger.is_calm()
    }

    async fn live(mut self) {
        let exit = self.work().await;
        self.ledger.slot_is_unable(self.id.slot.0);
        let (exit, running) = self.report_exit(exit).await;
        self.lose_what_is_at_hand();
        self.ledger.worker_is_gone();
        // Until the driver has heard of it, it may give it something.
        self.ledger.goes_deaf();
        self.say(WorkerEventKind::Exited { exit, usage: ExitUsage::default(), running, stderr_tail: String::new() })
            .await;
        self.hear_the_rest().await;
    }

    async fn say(&self, kind: WorkerEventKind) {
        self.ledger.trace(|| format!("{} says {kind:?}", self.id.generation));
        // The driver ends before its workers only when nobody is interested any more.
        let _ = self.events.send(WorkerEvent { worker: self.id, kind }).await;
    }

    /// Starts and runs what comes, until it ends; returns how.
    async fn work(&mut self) -> WorkerExit {
        let delay = Duration::from_millis(self.random.below(50));
        sleep(delay).await;
        if let Some(exit) = self.may_panic() {
            return exit;
        }
        if self.fault(8) {
            return WorkerExit::SpawnFailed { reason: "no luck".to_owned(), by_shortage: self.chance(50) };
        }
        if self.fault(4) {
            // It never says anything.
            return self.wait_for_the_end().await;
        }
        self.functions = self.ledger.functions();
        let functions = self.functions.iter().map(|&name| FunctionInfo {
            name: name.to_owned(),
            signature: String::new(),
            doc: String::new(),
            example: String::new(),
            idempotent: name == "again",
            takes_common: true,
        });
        let functions = functions.collect();
        self.say(WorkerEventKind::Hello { pid: 0, sdk: "simulated".to_owned(), functions }).await;
        if self.fault(4) {
            return WorkerExit::Code(1);
        }
        if let Some(exit) = self.may_stand_still().await {
            return exit;
        }
        self.is_ready = true;
        self.ledger.slot_is_able(self.id.slot.0, self.functions);
        self.say(WorkerEventKind::Ready).await;
        loop {
            if let Some(exit) = self.may_panic() {
                return exit;
            }
            if let Some(exit) = self.may_get_stuck().await {
                return exit;
            }
            if let Some(exit) = self.may_stand_still().await {
                return exit;
            }
            // What is there to be read is read before the next item begins.
            let has_read = self.inbox.is_empty() || Instant::now() < self.reads_at;
            if has_read && let Some(exit) = self.begin_next() {
                return exit;
            }
            let running = self.chunks.front().and_then(|chunk| chunk.running);
            if running.is_none() && self.is_stopping {
                return WorkerExit::Code(0);
            }
            let unbegun =
                self.chunks.front().filter(|chunk| chunk.running.is_none() && Instant::now() < chunk.received_at);
            let received_at = unbegun.map(|chunk| chunk.received_at);
            let until = |at: Option<Instant>| sleep_until(at.unwrap_or_else(|| Instant::now() + FOR_EVER));
            let may_read = !self.inbox.is_empty() && running.is_none_or(|execution| !execution.is_deaf);
            tokio::select! {
                biased;
                () = sleep_until(self.reads_at), if may_read => {
                    let frame = self.inbox.pop_front().unwrap();
                    self.read_later();
                    if let Some(exit) = self.obey(frame).await {
                        return exit;
                    }
                }
                () = sleep_until(running.map_or_else(|| Instant::now() + FOR_EVER, |execution| execution.due)) => {
                    if let Some(exit) = self.end_item().await {
                        return exit;
                    }
                }
                () = until(self.dies_at), if received_at.is_some() => {
                    self.ledger.note(Upset::DeadBeforeBegun);
                    return WorkerExit::Signal(9);
                }
                () = until(self.grows_at), if received_at.is_some() => {
                    self.grows_at = None;
                    self.ledger.note(Upset::LargeBeforeBegun);
                    if !std::mem::replace(&mut self.is_large, true) {
                        self.say(WorkerEventKind::MemoryHigh).await;
                    }
                }
                () = until(received_at) => {}
                () = until(self.next_look()) => {
                    if let Some(exit) = self.look_at_items().await {
                        return exit;
                    }
                }
                command = self.commands.recv() => {
                    if let Some(exit) = self.hear(command).await {
                        return exit;
                    }
                }
            }
        }
    }

    fn read_later(&mut self) {
        let is_busy = self.chance(20);
        let delay = if is_busy { self.random.below(3000) } else { 0 };
        self.reads_at = Instant::now() + Duration::from_micros(delay);
    }

    /// What the worker is told waits to be read; everything else is between its process and the supervisor.
    async fn hear(&mut self, command: Option<WorkerCommand>) -> Option<WorkerExit> {
        self.ledger.trace(|| format!("{} is sent {command:?}", self.id.generation));
        if command.is_none() {
            // The driver had something to say that the channel had no room for.
            self.ledger.note(Upset::ChannelFull(self.moment()));
            self.ledger.goes_deaf();
            return Some(WorkerExit::Signal(9));
        }
        if let Some(exit) = self.may_panic() {
            self.dropped = command;
            return Some(exit);
        }
        match command? {
            WorkerCommand::Kill => return Some(self.get_sigkill()),
            WorkerCommand::Terminate => return self.get_sigterm(),
            WorkerCommand::Dump(_) => {}
            command => {
                if matches!(command, WorkerCommand::Shutdown) {
                    self.end();
                }
                if let WorkerCommand::Run(run) = &command {
                    self.note_given(run);
                }
                let cancelled = match command {
                    WorkerCommand::Recall { chunk, cancel: true } => Some(chunk),
                    _ => None,
                };
                self.send(Frame::Command(command));
                if let Some(chunk) = cancelled {
                    self.cancelled.insert(chunk);
                    return self.look_at_items().await;
                }
            }
        }
        None
    }

    /// Sends the process something to read.
    fn send(&mut self, frame: Frame) {
        if self.inbox.is_empty() {
            self.read_later();
        }
        self.inbox.push_back(frame);
    }

    fn get_sigterm(&mut self) -> Option<WorkerExit> {
        self.check_end();
        self.end();
        self.go_on();
        if self.chance(70) {
            return Some(WorkerExit::Signal(15));
        }
        None
    }

    /// Its session was told to end it: it takes nothing any more.
    fn end(&mut self) {
        self.is_ending = true;
        self.ledger.slot_is_unable(self.id.slot.0);
    }

    fn get_sigkill(&mut self) -> WorkerExit {
        self.check_end();
        self.is_being_killed = true;
        if self.still == Some(Still::Stopped) {
            self.ledger.note(Upset::StoppedAndKilled);
        }
        self.may_panic().unwrap_or(WorkerExit::Signal(9))
    }

    fn running(&self) -> Option<RunningItem> {
        self.chunks.front().and_then(SimChunk::page)
    }

    async fn wait_for_the_end(&mut self) -> WorkerExit {
        loop {
            match self.commands.recv().await {
                None | Some(WorkerCommand::Kill) => return WorkerExit::Signal(9),
                Some(WorkerCommand::Terminate) if self.chance(70) => {
                    return WorkerExit::Signal(15);
                }
                Some(_) => {}
            }
        }
    }
}
