//! A worker that a seed moves: it starts or does not, runs items fast or slowly or for ever, raises, dies at any point,
//! and hears what it is told late, or only when its item has ended. It keeps the contract of the supervisor, whatever it
//! does: results in order, one answer to a recall, `Exited` once and last; and that of a worker: an item that is told to
//! end raises, if it listens, and no other does.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use procpool_items::{ItemKind, ItemSlab, SlabBuilder};
use procpool_pool::supervisor::{
    COMMAND_CAPACITY, ChunkResults, ChunkRun, WorkerCommand, WorkerEvent, WorkerEventKind, WorkerSpawner,
};
use procpool_pool::{ExitUsage, FunctionInfo, ItemFailure, WorkerExit};
use procpool_scheduler::{Cancel, ChunkId, RunningItem, WorkerId};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use crate::ledger::{Finish, ItemKey, Kills, Ledger, result_of};
use crate::random::Random;

/// The type of the error in an item that was told to end.
pub(crate) const CANCELLED: &str = "Cancelled";
const FOR_EVER: Duration = Duration::from_secs(1_000_000);

/// Starts workers from a seed.
pub(crate) struct SimSpawner {
    pub(crate) seed: u64,
    pub(crate) ledger: Ledger,
    /// Workers in it die when they get a chunk, while there are faults.
    pub(crate) bad_slot: Option<u32>,
}

impl WorkerSpawner for SimSpawner {
    fn spawn(&self, worker: WorkerId, events: mpsc::Sender<WorkerEvent>) -> mpsc::Sender<WorkerCommand> {
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
        };
        tokio::spawn(worker.live());
        sender
    }
}

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
    inbox: VecDeque<WorkerCommand>,
    reads_at: Instant,
    is_stopping: bool,
    is_in_bad_slot: bool,
}

/// A chunk as a worker has it.
struct SimChunk {
    run: ChunkRun,
    items: ItemSlab,
    /// How many it will run; fewer than it was given after a recall.
    count: u32,
    finished: u32,
    sent: u32,
    /// Results that are not sent yet: whether each was raised.
    pending: Vec<Finish>,
    /// The item at `finished` runs.
    running: Option<Execution>,
    /// When the last item began.
    began: Instant,
    /// It receives and decodes the chunk until then.
    received_at: Instant,
}

/// An item that runs.
#[derive(Clone, Copy)]
struct Execution {
    due: Instant,
    fate: Fate,
    /// The worker reads nothing until it has ended.
    is_deaf: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Returns,
    Raises,
    RaisesCancelled,
    Dies,
}

impl SimChunk {
    fn key(&self, offset: u32) -> ItemKey {
        let text = self.items.item(offset as usize);
        let (job, index) = std::str::from_utf8(&text).unwrap().split_once(':').unwrap();
        (job.parse().unwrap(), index.parse().unwrap())
    }
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
        // What has finished is known, even if the process is not there any more to say so.
        if let Some(chunk) = self.chunks.front_mut()
            && !chunk.pending.is_empty()
        {
            self.flush().await;
        }
        let running = self.chunks.front().filter(|chunk| chunk.running.is_some());
        let running = running.map(|chunk| (chunk.run.chunk, chunk.finished, chunk.key(chunk.finished)));
        if let Some((_, _, key)) = running {
            self.ledger.abort(key);
        }
        if let Some(first) = self.chunks.front().filter(|first| first.finished < first.count) {
            let key = first.key(first.finished);
            self.ledger.lose_with(key);
            if first.running.is_none() {
                self.ledger.lose_before(key, self.id.slot.0);
            }
        }
        let running = running.map(|(chunk, offset, _)| (chunk, offset));
        self.ledger.worker_is_gone();
        self.say(WorkerEventKind::Exited { exit, usage: ExitUsage::default(), running, stderr_tail: String::new() })
            .await;
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
        if self.fault(8) {
            self.ledger.start_fails();
            return WorkerExit::SpawnFailed { reason: "no luck".to_owned(), by_shortage: self.chance(50) };
        }
        if self.fault(4) {
            // It never says anything.
            self.ledger.start_fails();
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
            self.ledger.start_fails();
            return WorkerExit::Code(1);
        }
        self.say(WorkerEventKind::Ready).await;
        loop {
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
                    let command = self.inbox.pop_front().unwrap();
                    self.read_later();
                    if let Some(exit) = self.obey(command).await {
                        return exit;
                    }
                }
                () = sleep_until(running.map_or_else(|| Instant::now() + FOR_EVER, |execution| execution.due)) => {
                    if let Some(exit) = self.end_item().await {
                        return exit;
                    }
                }
                () = until(self.dies_at), if received_at.is_some() => return WorkerExit::Signal(9),
                () = until(self.grows_at), if received_at.is_some() => {
                    self.grows_at = None;
                    if !std::mem::replace(&mut self.is_large, true) {
                        self.say(WorkerEventKind::MemoryHigh).await;
                    }
                }
                () = until(received_at) => {}
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
        match command {
            None => return Some(WorkerExit::Signal(9)),
            Some(WorkerCommand::Kill) => {
                self.check_end();
                return Some(WorkerExit::Signal(9));
            }
            Some(WorkerCommand::Terminate) => {
                self.check_end();
                if self.chance(70) {
                    return Some(WorkerExit::Signal(15));
                }
            }
            Some(WorkerCommand::Probe) => {
                let running = self.page();
                self.say(WorkerEventKind::Progress { running, stack: String::new() }).await;
            }
            Some(WorkerCommand::Dump(_)) => {}
            Some(command) => {
                if self.inbox.is_empty() {
                    self.read_later();
                }
                self.inbox.push_back(command);
            }
        }
        None
    }

    /// Returns what runs, as far as the page tells.
    fn page(&self) -> Option<RunningItem> {
        let chunk = self.chunks.front()?;
        // Whether the item that was begun last has ended cannot be told as long as its result is not sent.
        let offset = if chunk.running.is_some() { chunk.finished } else { chunk.finished.checked_sub(1)? };
        (offset >= chunk.sent).then(|| RunningItem {
            chunk: chunk.run.chunk,
            offset,
            running_for: chunk.began.elapsed(),
        })
    }

    /// The worker is made to end: the item that runs must have had all the time that it may have.
    fn check_end(&self) {
        let Some(chunk) = self.chunks.front().filter(|chunk| chunk.running.is_some()) else { return };
        self.ledger.check_end(chunk.key(chunk.finished), chunk.began, chunk.run.time_limit);
    }

    async fn wait_for_the_end(&mut self) -> WorkerExit {
        loop {
            match self.commands.recv().await {
                None | Some(WorkerCommand::Kill) => return WorkerExit::Signal(9),
                Some(WorkerCommand::Terminate) if self.chance(70) => return WorkerExit::Signal(15),
                Some(_) => {}
            }
        }
    }

    /// Begins the next item, if none runs and there is one.
    fn begin_next(&mut self) -> Option<WorkerExit> {
        if self.is_stopping || self.chunks.front()?.running.is_some() {
            return None;
        }
        if Instant::now() < self.chunks.front()?.received_at {
            return None;
        }
        (self.grows_at, self.dies_at) = (None, None);
        if self.fault(1) {
            // Between two items.
            return Some(WorkerExit::Signal(11));
        }
        let chunk = self.chunks.front()?;
        let key = chunk.key(chunk.finished);
        let rules = self.ledger.rules(key.0);
        if rules.kills == Some(Kills::Before) {
            return Some(WorkerExit::Signal(11));
        }
        assert_eq!(chunk.run.common.is_some(), rules.has_common, "an item of job {} has its common argument", key.0);
        self.ledger.begin(key, chunk.run.attempt, self.id.generation);
        let can_hang = rules.may_hang;
        let (mut time, mut fate) = (Duration::from_micros(self.random.below(3000)), Fate::Returns);
        if self.fault(3) {
            time = Duration::from_millis(self.random.below(3000));
        }
        if self.chance(4) {
            fate = Fate::Raises;
        }
        if self.fault(3) {
            fate = Fate::Dies;
        } else if can_hang && self.fault(3) {
            time = FOR_EVER;
        }
        if rules.kills == Some(Kills::After) {
            (time, fate) = (Duration::ZERO, Fate::Dies);
        }
        let is_deaf = self.chance(10);
        let began = Instant::now();
        let chunk = self.chunks.front_mut()?;
        chunk.began = began;
        chunk.running = Some(Execution { due: began + time, fate, is_deaf });
        None
    }

    /// The item's time has come.
    async fn end_item(&mut self) -> Option<WorkerExit> {
        let flushes = self.chance(50);
        let chunk = self.chunks.front_mut().unwrap();
        let finish = match chunk.running.unwrap().fate {
            Fate::Returns => Finish::Returned,
            Fate::Raises => Finish::Raised,
            Fate::RaisesCancelled => Finish::RaisedCancelled,
            Fate::Dies => return Some(WorkerExit::Signal(11)),
        };
        chunk.running = None;
        self.ledger.finish(chunk.key(chunk.finished), self.id.slot.0, finish);
        chunk.finished += 1;
        chunk.pending.push(finish);
        let is_last = chunk.finished == chunk.count;
        if flushes || is_last || finish != Finish::Returned {
            self.flush().await;
        }
        if is_last {
            self.chunks.pop_front();
        }
        None
    }

    /// Sends the results of the first chunk that are not sent yet.
    async fn flush(&mut self) {
        let chunk = self.chunks.front_mut().unwrap();
        let (mut results, mut failures) = (SlabBuilder::new(), Vec::new());
        let first = chunk.sent;
        for (offset, finish) in (first..).zip(std::mem::take(&mut chunk.pending)) {
            match finish {
                Finish::Returned => {
                    let (job, index) = chunk.key(offset);
                    results.push(result_of(job, index).as_bytes());
                }
                Finish::Raised | Finish::RaisedCancelled => {
                    results.push(b"");
                    let kind = if finish == Finish::Raised { "Error" } else { CANCELLED }.to_owned();
                    failures.push((
                        offset,
                        ItemFailure::Raised { kind, message: "no".to_owned(), traceback: String::new() },
                    ));
                }
            }
            chunk.sent += 1;
        }
        let count = chunk.sent - first;
        let busy = Duration::from_micros(300) * count;
        let chunk = chunk.run.chunk;
        self.say(WorkerEventKind::Results(ChunkResults { chunk, first, count, failures, busy, items: results.take() }))
            .await;
    }

    /// Does as it is told; returns how it ended if it did.
    async fn obey(&mut self, command: WorkerCommand) -> Option<WorkerExit> {
        self.ledger.trace(|| format!("{} reads {command:?}", self.id.generation));
        match command {
            WorkerCommand::Run(run) => {
                self.take_chunk(run);
                if self.is_in_bad_slot && !self.ledger.is_calm() {
                    return Some(WorkerExit::Signal(7));
                }
            }
            WorkerCommand::Recall { chunk, cancel } => self.give_back(chunk, cancel).await,
            WorkerCommand::DropCommons(commons) => {
                for common in commons {
                    assert!(self.commons.remove(&common), "it was never told of common argument {common}");
                }
            }
            WorkerCommand::Shutdown => self.is_stopping = true,
            other => panic!("{other:?} is not for the worker to read"),
        }
        None
    }

    fn take_chunk(&mut self, run: ChunkRun) {
        assert!(!self.is_stopping, "no Run follows a Shutdown");
        assert!(self.functions.contains(&&*run.function), "a worker is given only what it has registered");
        if let Some(common) = &run.common {
            let is_told = common.argument.is_some();
            assert_eq!(self.commons.insert(common.common), is_told, "it is told of a common argument once");
        }
        let items = ItemSlab::parse(ItemKind::Blobs, run.parts.concat().into()).unwrap();
        assert_eq!(items.len(), run.count as usize);
        let count = run.count;
        let (pending, began) = (Vec::new(), Instant::now());
        let mut received_at = began;
        if self.fault(15) {
            // It has much to receive.
            let most = self.random.pick(&[3_000, 300_000]).unwrap();
            let mut within = || began + Duration::from_micros(self.random.below(most));
            (received_at, self.grows_at, self.dies_at) = (within(), Some(within()), Some(within()));
            self.dies_at = self.dies_at.filter(|_| self.chance(20));
            self.grows_at = self.grows_at.filter(|_| self.chance(50));
        }
        let chunk = SimChunk { run, items, count, finished: 0, sent: 0, pending, running: None, began, received_at };
        self.ledger.hand_out(chunk.key(0));
        self.chunks.push_back(chunk);
        assert!(self.chunks.len() <= 2, "a worker has at most two chunks");
    }

    async fn give_back(&mut self, id: ChunkId, cancel: Cancel) {
        let listens = self.chance(60);
        let Some(place) = self.chunks.iter().position(|chunk| chunk.run.chunk == id) else { return };
        let chunk = &mut self.chunks[place];
        let is_meant = match cancel {
            Cancel::Nothing => false,
            Cancel::Item(offset) => offset == chunk.finished,
            Cancel::Chunk => true,
        };
        if is_meant
            && listens
            && let Some(execution) = &mut chunk.running
        {
            (execution.due, execution.fate) = (Instant::now(), Fate::RaisesCancelled);
        }
        if !self.recalled.insert(id) {
            return;
        }
        let begun = chunk.finished + u32::from(chunk.running.is_some());
        chunk.count = begun;
        let is_over = chunk.finished == begun;
        if begun == 0 {
            self.ledger.give_back(chunk.key(0));
        }
        if place == 0 && !chunk.pending.is_empty() {
            self.flush().await;
        }
        self.say(WorkerEventKind::Recalled { chunk: id, first_not_begun: begun }).await;
        if is_over {
            self.chunks.remove(place);
        }
    }
}
