//! What a simulated process does with what it is given: it takes chunks, runs their items one after the other, sends
//! results, and gives back what has not begun.

use std::time::Duration;

use bytes::Bytes;
use procpool_items::{ItemKind, ItemSlab, SlabBuilder};
use procpool_pool::supervisor::{ChunkResults, ChunkRun, WorkerCommand, WorkerEventKind};
use procpool_pool::{ItemFailure, WorkerExit};
use procpool_scheduler::{ChunkId, RunningItem};
use tokio::time::Instant;

use super::{CANCELLED, FOR_EVER, Frame, SimWorker};
use crate::ledger::{Finish, ItemKey, Kills, result_of};

/// A chunk as a worker has it.
pub(super) struct SimChunk {
    run: ChunkRun,
    items: ItemSlab,
    /// How many it will run; fewer than it was given after a recall.
    count: u32,
    finished: u32,
    sent: u32,
    /// Results that are not sent yet: whether each was raised.
    pending: Vec<Finish>,
    /// The item at `finished` runs.
    pub(super) running: Option<Execution>,
    /// When the last item began.
    began: Instant,
    /// It receives and decodes the chunk until then.
    pub(super) received_at: Instant,
}

/// An item that runs.
#[derive(Clone, Copy)]
pub(super) struct Execution {
    pub(super) due: Instant,
    fate: Fate,
    /// The worker reads nothing until it has ended.
    pub(super) is_deaf: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Returns,
    Raises,
    RaisesCancelled,
    Dies,
}

/// Which item of a chunk should end, if it runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cancel {
    Nothing,
    Item(u32),
    Chunk,
}

impl SimChunk {
    fn key(&self, offset: u32) -> ItemKey {
        key_in(&self.items, offset as usize)
    }

    pub(super) fn run(&self) -> &ChunkRun {
        &self.run
    }

    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Returns the item that runs, and where it is.
    pub(super) fn running_item(&self) -> Option<(ChunkId, u32, ItemKey)> {
        self.running.map(|_| (self.run.chunk, self.finished, self.key(self.finished)))
    }

    /// Returns the item that runs or would be next, and whether it has begun.
    pub(super) fn at_hand(&self) -> (ItemKey, bool) {
        (self.key(self.finished), self.running.is_some())
    }

    /// Returns the items without a result, and where the first of them is.
    pub(super) fn without_results(self) -> (ChunkId, u32, Vec<ItemKey>) {
        (self.run.chunk, self.sent, (self.sent..self.count).map(|offset| self.key(offset)).collect())
    }

    /// Returns what runs, as far as the page tells.
    pub(super) fn page(&self) -> Option<RunningItem> {
        // Whether the item that was begun last has ended cannot be told as long as its result is not sent.
        let offset = if self.running.is_some() { self.finished } else { self.finished.checked_sub(1)? };
        (offset >= self.sent).then(|| RunningItem { chunk: self.run.chunk, offset, running_for: self.began.elapsed() })
    }
}

/// Returns the items of a chunk.
pub(super) fn items_of(run: &ChunkRun) -> ItemSlab {
    ItemSlab::parse(ItemKind::Blobs, run.parts.concat().into()).unwrap()
}

/// Returns the item at an offset.
pub(super) fn key_in(items: &ItemSlab, offset: usize) -> ItemKey {
    let text = items.item(offset);
    let (job, index) = std::str::from_utf8(&text).unwrap().split_once(':').unwrap();
    (job.parse().unwrap(), index.parse().unwrap())
}

impl SimWorker {
    /// Begins the next item, if none runs and there is one.
    pub(super) fn begin_next(&mut self) -> Option<WorkerExit> {
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
        self.num_begun += 1;
        let began = Instant::now();
        let chunk = self.chunks.front_mut()?;
        chunk.began = began;
        chunk.running = Some(Execution { due: began + time, fate, is_deaf });
        None
    }

    /// The worker is made to end: the item that runs must have had all the time that it may have.
    pub(super) fn check_end(&self) {
        let Some(chunk) = self.chunks.front().filter(|chunk| chunk.running.is_some()) else { return };
        self.ledger.check_end(chunk.key(chunk.finished), chunk.began, chunk.run.time_limit);
    }

    /// The item's time has come.
    pub(super) async fn end_item(&mut self) -> Option<WorkerExit> {
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
    pub(super) async fn flush(&mut self) {
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
                        ItemFailure::Raised {
                            kind,
                            message: "no".to_owned(),
                            traceback: String::new(),
                            data: Bytes::new(),
                        },
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
    pub(super) async fn obey(&mut self, frame: Frame) -> Option<WorkerExit> {
        self.ledger.trace(|| format!("{} reads {frame:?}", self.id.generation));
        let command = match frame {
            Frame::Command(command) => command,
            Frame::Expired { chunk, offset } => {
                self.give_back(chunk, Cancel::Item(offset)).await;
                return None;
            }
        };
        match command {
            WorkerCommand::Run(run) => {
                self.take_chunk(run);
                if self.is_in_bad_slot && !self.ledger.is_calm() {
                    self.ledger.slot_is_bad();
                    return Some(WorkerExit::Signal(7));
                }
            }
            WorkerCommand::Recall { chunk, cancel } => {
                self.give_back(chunk, if cancel { Cancel::Chunk } else { Cancel::Nothing }).await;
            }
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
        let items = items_of(&run);
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
