//! A worker that a seed moves: it starts or does not, runs items fast or slowly or for ever, raises, dies at any point,
//! and hears commands late. It keeps the contract of the supervisor, whatever it does: results in order, one answer to
//! a recall, `Exited` once and last.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use procpool_items::{ItemKind, ItemSlab, SlabBuilder};
use procpool_pool::supervisor::{
    COMMAND_CAPACITY, ChunkResults, ChunkRun, WorkerCommand, WorkerEvent, WorkerEventKind, WorkerSpawner,
};
use procpool_pool::{ExitUsage, FunctionInfo, ItemFailure, WorkerExit};
use procpool_scheduler::{ChunkId, WorkerId};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use crate::ledger::{Finish, ItemKey, Ledger};
use crate::random::Random;

const FOR_EVER: Duration = Duration::from_secs(1_000_000);

/// Starts workers from a seed.
pub(crate) struct SimSpawner {
    pub(crate) seed: u64,
    pub(crate) ledger: Ledger,
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
            commons: BTreeSet::new(),
            functions: &[],
            is_stopping: false,
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
    commons: BTreeSet<u64>,
    /// What it has registered.
    functions: &'static [&'static str],
    is_stopping: bool,
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
}

/// An item that runs.
#[derive(Clone, Copy)]
struct Execution {
    began: Instant,
    due: Instant,
    fate: Fate,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Returns,
    Raises,
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
            return WorkerExit::SpawnFailed("no luck".to_owned());
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
        self.say(WorkerEventKind::Hello { pid: 1000, sdk: "simulated".to_owned(), functions }).await;
        if self.fault(4) {
            return WorkerExit::Code(1);
        }
        self.say(WorkerEventKind::Ready).await;
        loop {
            if let Some(exit) = self.begin_next() {
                return exit;
            }
            let due = self.chunks.front().and_then(|chunk| chunk.running).map(|execution| execution.due);
            if due.is_none() && self.is_stopping {
                return WorkerExit::Code(0);
            }
            let command = tokio::select! {
                biased;
                () = sleep_until(due.unwrap_or_else(|| Instant::now() + FOR_EVER)) => None,
                command = self.commands.recv() => Some(command),
            };
            match command {
                None => {
                    if let Some(exit) = self.end_item().await {
                        return exit;
                    }
                }
                Some(None | Some(WorkerCommand::Kill)) => return WorkerExit::Signal(9),
                Some(Some(command)) => {
                    if self.chance(20) {
                        // It is busy with something else.
                        let delay = Duration::from_micros(self.random.below(3000));
                        sleep(delay).await;
                    }
                    if let Some(exit) = self.obey(command).await {
                        return exit;
                    }
                }
            }
        }
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
        if self.fault(1) {
            // Between two items.
            return Some(WorkerExit::Signal(11));
        }
        let chunk = self.chunks.front()?;
        let key = chunk.key(chunk.finished);
        let rules = self.ledger.rules(key.0);
        assert_eq!(chunk.run.common.is_some(), rules.has_common, "an item of job {} has its common argument", key.0);
        self.ledger.begin(key, chunk.run.attempt);
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
        let began = Instant::now();
        self.chunks.front_mut()?.running = Some(Execution { began, due: began + time, fate });
        None
    }

    /// The item's time has come.
    async fn end_item(&mut self) -> Option<WorkerExit> {
        let flushes = self.chance(50);
        let chunk = self.chunks.front_mut().unwrap();
        let finish = match chunk.running.unwrap().fate {
            Fate::Returns => Finish::Returned,
            Fate::Raises => Finish::Raised,
            Fate::Dies => return Some(WorkerExit::Signal(11)),
        };
        chunk.running = None;
        self.ledger.finish(chunk.key(chunk.finished), finish);
        chunk.finished += 1;
        chunk.pending.push(finish);
        let is_last = chunk.finished == chunk.count;
        if flushes || is_last || finish == Finish::Raised {
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
        for (offset, finish) in (first..).zip(chunk.pending.drain(..)) {
            match finish {
                Finish::Returned => results.push(&[&chunk.items.item(offset as usize)[..], b"!"].concat()),
                Finish::Raised => {
                    results.push(b"");
                    let failure =
                        ItemFailure::Raised { kind: String::new(), message: "no".to_owned(), traceback: String::new() };
                    failures.push((offset, failure));
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
        self.ledger.trace(|| format!("{} is told {command:?}", self.id.generation));
        match command {
            WorkerCommand::Run(run) => self.take_chunk(run),
            WorkerCommand::Recall { chunk, cancel } => self.give_back(chunk, cancel).await,
            WorkerCommand::DropCommons(commons) => {
                for common in commons {
                    assert!(self.commons.remove(&common), "it was never told of common argument {common}");
                }
            }
            WorkerCommand::Probe => {
                if let Some(first) = self.chunks.front()
                    && let Some(execution) = first.running
                {
                    let (chunk, offset) = (first.run.chunk, first.finished);
                    let running_for = execution.began.elapsed();
                    self.say(WorkerEventKind::Progress { chunk, offset, running_for, stack: String::new() }).await;
                }
            }
            WorkerCommand::Shutdown => self.is_stopping = true,
            WorkerCommand::Terminate if self.chance(70) => return Some(WorkerExit::Signal(15)),
            WorkerCommand::Terminate | WorkerCommand::Dump(_) => {}
            WorkerCommand::Kill => return Some(WorkerExit::Signal(9)),
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
        self.chunks.push_back(SimChunk { run, items, count, finished: 0, sent: 0, pending: Vec::new(), running: None });
        assert!(self.chunks.len() <= 2, "a worker has at most two chunks");
    }

    async fn give_back(&mut self, id: ChunkId, cancel: bool) {
        let ends_early = cancel && self.chance(60);
        let Some(place) = self.chunks.iter().position(|chunk| chunk.run.chunk == id) else { return };
        let chunk = &mut self.chunks[place];
        if ends_early && let Some(execution) = &mut chunk.running {
            // The function listens.
            execution.due = Instant::now();
        }
        if !self.recalled.insert(id) {
            return;
        }
        let begun = chunk.finished + u32::from(chunk.running.is_some());
        chunk.count = begun;
        let is_over = chunk.finished == begun;
        if place == 0 && !chunk.pending.is_empty() {
            self.flush().await;
        }
        self.say(WorkerEventKind::Recalled { chunk: id, first_not_begun: begun }).await;
        if is_over {
            self.chunks.remove(place);
        }
    }
}
