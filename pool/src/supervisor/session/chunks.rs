//! The chunks that one worker was given, and which of their items have results. Pure bookkeeping, no I/O.
//!
//! Items carry a sequence number each, given out here in the order in which the worker is to run them; by it the
//! progress page names an item. Every result is checked here before anybody else sees it.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use procpool_ipc::proto;
use procpool_items::{ItemKind, ItemSlab};
use procpool_scheduler::{ChunkId, WatchedChunk};

use super::check;
use crate::supervisor::interface::{ChunkResults, ChunkRun};

/// How many finished chunks are remembered whose recall may still be answered.
const MAX_LATE_RECALLS: usize = 64;

/// The chunks that a worker has.
#[derive(Debug)]
pub(super) struct AssignedChunks {
    next_sequence: u64,
    /// In the order in which the worker got them. None of them is finished.
    chunks: VecDeque<Entry>,
    /// Chunks that finished while a recall was on its way: the answer to it means nothing any more.
    late_recalls: VecDeque<ChunkId>,
    /// The item that a worker without the progress page said it begins.
    started: Option<u64>,
}

/// Items of a chunk that have no result, by their offsets.
pub(super) type LostItems = (ChunkId, ItemKind, Range<u32>);

/// A chunk that the worker has.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) chunk: ChunkId,
    pub(super) job: u64,
    kind: ItemKind,
    first_index: u64,
    first_sequence: u64,
    /// When it was handed over, by the clock of the progress page.
    pub(super) given_at_ns: u64,
    /// The longest that one of its items may run.
    pub(super) time_limit: Option<Duration>,
    /// How long its items are, all together.
    num_bytes: usize,
    /// How many of its items the worker runs: all, or fewer after a recall.
    count: u32,
    /// How many sequence numbers it has.
    num_sequences: u32,
    /// How many results have come; they come in order.
    received: u32,
    recall: Recall,
    /// Nobody waits for it any more.
    is_cancelled: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recall {
    None,
    Asked,
    Answered,
}

/// An item of a chunk that the worker has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) chunk: ChunkId,
    pub(super) offset: u32,
}

impl Entry {
    fn sequences(&self) -> Range<u64> {
        self.first_sequence..self.first_sequence + u64::from(self.num_sequences)
    }

    fn is_finished(&self) -> bool {
        self.received == self.count
    }
}

impl AssignedChunks {
    pub(super) fn new() -> Self {
        Self { next_sequence: 1, chunks: VecDeque::new(), late_recalls: VecDeque::new(), started: None }
    }

    /// Adds a chunk that the worker gets now; returns the sequence number of its first item.
    pub(super) fn add(&mut self, run: &ChunkRun, now_ns: u64) -> u64 {
        let first_sequence = self.next_sequence;
        self.next_sequence += u64::from(run.count);
        self.chunks.push_back(Entry {
            chunk: run.chunk,
            job: run.job,
            kind: run.kind,
            first_index: run.first_index,
            first_sequence,
            given_at_ns: now_ns,
            time_limit: run.time_limit,
            num_bytes: run.parts.iter().map(bytes::Bytes::len).sum(),
            count: run.count,
            num_sequences: run.count,
            received: 0,
            recall: Recall::None,
            is_cancelled: false,
        });
        first_sequence
    }

    /// Notes that a chunk is recalled, and whether somebody still waits for it. `false` if it has finished, and there is
    /// nothing to recall.
    pub(super) fn recall(&mut self, chunk: ChunkId, is_cancelled: bool) -> bool {
        let Some(entry) = self.entry_mut(chunk) else { return false };
        entry.is_cancelled |= is_cancelled;
        if entry.recall == Recall::None {
            entry.recall = Recall::Asked;
        }
        true
    }

    /// Returns the chunk that the worker should be running.
    pub(super) fn front(&self) -> Option<&Entry> {
        self.chunks.front()
    }

    /// Returns what there is to be watched of each chunk.
    pub(super) fn watched(&self) -> impl Iterator<Item = WatchedChunk> + Clone {
        self.chunks.iter().map(|entry| WatchedChunk {
            chunk: entry.chunk,
            time_limit: entry.time_limit,
            is_cancelled: entry.is_cancelled,
        })
    }

    /// Returns how long the items are that the worker has, all together.
    pub(super) fn num_bytes(&self) -> usize {
        self.chunks.iter().map(|entry| entry.num_bytes).sum()
    }

    /// Checks results against what the worker has, and counts them in.
    ///
    /// # Errors
    ///
    /// What is wrong with them, as a fragment of a sentence about the worker.
    pub(super) fn take_results(&mut self, results: proto::Results) -> Result<ChunkResults, String> {
        let chunk = ChunkId(results.chunk);
        let Some(index) = self.chunks.iter().position(|entry| entry.chunk == chunk) else {
            return Err(format!("sent results for chunk {chunk}, which it does not have"));
        };
        // A chunk that is being recalled may be passed over: its answer and the next chunk's results can cross.
        if let Some(earlier) = self.chunks.range(..index).find(|earlier| earlier.recall != Recall::Asked) {
            return Err(format!("sent results for chunk {chunk} before those of chunk {}", earlier.chunk));
        }
        let entry = &mut self.chunks[index];
        if results.first != entry.received {
            return Err(format!(
                "sent results of chunk {chunk} from offset {} instead of {}",
                results.first, entry.received
            ));
        }
        let left = entry.count - entry.received;
        if results.count == 0 || results.count > left {
            return Err(format!("sent {} results for chunk {chunk}, which has {left} left", results.count));
        }
        let end = results.first + results.count;
        match ItemSlab::count(entry.kind, &results.items) {
            Ok(found) if found == results.count as usize => {}
            Ok(found) => return Err(format!("announced {} results for chunk {chunk} and sent {found}", results.count)),
            Err(error) => return Err(format!("sent malformed results for chunk {chunk}: {error}")),
        }
        let failures = check::failures(results.failures, results.first..end)
            .map_err(|problem| format!("sent results for chunk {chunk} with {problem}"))?;
        entry.received = end;
        self.forget_finished();
        Ok(ChunkResults {
            chunk,
            first: results.first,
            count: results.count,
            failures,
            busy: Duration::from_nanos(results.busy_ns),
            items: results.items,
        })
    }

    /// Checks the answer to a recall. `None` if the chunk has finished in the meantime.
    ///
    /// # Errors
    ///
    /// What is wrong with it, as a fragment of a sentence about the worker.
    pub(super) fn take_recalled(&mut self, recalled: &proto::Recalled) -> Result<Option<Position>, String> {
        let chunk = ChunkId(recalled.chunk);
        let offset = recalled.first_not_begun;
        let Some(entry) = self.entry_mut(chunk) else {
            return match self.late_recalls.iter().position(|&late| late == chunk) {
                Some(index) => {
                    self.late_recalls.remove(index);
                    Ok(None)
                }
                None => Err(format!("gave back chunk {chunk}, which it does not have")),
            };
        };
        if entry.recall != Recall::Asked {
            return Err(format!("gave back chunk {chunk} without being asked"));
        }
        if offset < entry.received || offset > entry.count {
            return Err(format!(
                "gave back chunk {chunk} from offset {offset}, after {} of {} results",
                entry.received, entry.count
            ));
        }
        entry.recall = Recall::Answered;
        entry.count = offset;
        self.forget_finished();
        Ok(Some(Position { chunk, offset }))
    }

    /// Checks the word of a worker without the progress page that an item begins.
    ///
    /// # Errors
    ///
    /// What is wrong with it, as a fragment of a sentence about the worker.
    pub(super) fn take_started(&mut self, started: &proto::Started) -> Result<(), String> {
        let chunk = ChunkId(started.chunk);
        match self.entry_mut(chunk) {
            Some(entry) if started.offset == entry.received && started.offset < entry.count => {
                self.started = Some(entry.first_sequence + u64::from(started.offset));
                Ok(())
            }
            _ => Err(format!("began item {} of chunk {chunk} out of turn", started.offset)),
        }
    }

    /// Returns the sequence number of the item that a worker without the progress page began last; 0 if none.
    pub(super) fn started(&self) -> u64 {
        self.started.unwrap_or(0)
    }

    /// Finds the item with this sequence number, if it has no result yet.
    pub(super) fn locate(&self, sequence: u64) -> Option<(&Entry, Position)> {
        let entry = self.chunks.iter().find(|entry| entry.sequences().contains(&sequence))?;
        let offset = u32::try_from(sequence - entry.first_sequence).ok()?;
        let is_running = (entry.received..entry.count).contains(&offset);
        is_running.then_some((entry, Position { chunk: entry.chunk, offset }))
    }

    /// Returns the index in the caller's list of the item with this sequence number, if it is the only one that can have
    /// printed something since the last results came: it has begun, and all before it have their results.
    pub(super) fn only_suspect(&self, begun: u64) -> Option<u64> {
        let (entry, position) = self.locate(begun)?;
        let is_only = entry.received == position.offset && self.front().is_some_and(|front| front.chunk == entry.chunk);
        is_only.then(|| entry.first_index + u64::from(position.offset))
    }

    /// Takes the results that a dead worker left in its journal, but for those that it had sent. `None` if there are
    /// none that make sense.
    pub(super) fn take_journal(&mut self, first_sequence: u64, journal: bytes::Bytes) -> Option<ChunkResults> {
        let entry = self.chunks.iter_mut().find(|entry| entry.sequences().contains(&first_sequence))?;
        let first = u32::try_from(first_sequence - entry.first_sequence).ok()?;
        let slab = ItemSlab::parse(entry.kind, journal).ok()?;
        let end = first.checked_add(u32::try_from(slab.len()).ok()?)?;
        // A journal that starts later than the results that we have lacks some; one that ends later has too many.
        if first > entry.received || end <= entry.received || end > entry.count {
            return None;
        }
        let known = (entry.received - first) as usize;
        let results = ChunkResults {
            chunk: entry.chunk,
            first: entry.received,
            count: end - entry.received,
            failures: Vec::new(),
            busy: Duration::ZERO,
            // Without those that are known.
            items: bytes::Bytes::copy_from_slice(&slab.range(known..slab.len())),
        };
        entry.received = end;
        self.forget_finished();
        Some(results)
    }

    /// Takes out the items before the one with this sequence number that have no result, one range a chunk: a worker
    /// begins items in order, so these had begun, and their results are lost. Call it when the worker is dead.
    pub(super) fn take_lost(&mut self, begun: u64) -> Vec<LostItems> {
        let mut lost = Vec::new();
        for entry in &mut self.chunks {
            let before = begun.saturating_sub(entry.first_sequence).min(u64::from(entry.count));
            let before = u32::try_from(before).unwrap_or(entry.count);
            // What was being recalled and had not begun was passed over.
            let was_passed_over = entry.recall == Recall::Asked && begun >= entry.sequences().end;
            if before > entry.received && !was_passed_over {
                lost.push((entry.chunk, entry.kind, entry.received..before));
                entry.received = before;
            }
        }
        self.forget_finished();
        lost
    }

    /// Takes out everything that has no result, begun or not, asked back or not: nobody knows.
    pub(super) fn take_all(&mut self) -> Vec<LostItems> {
        self.chunks.drain(..).map(|entry| (entry.chunk, entry.kind, entry.received..entry.count)).collect()
    }

    fn entry_mut(&mut self, chunk: ChunkId) -> Option<&mut Entry> {
        self.chunks.iter_mut().find(|entry| entry.chunk == chunk)
    }

    fn forget_finished(&mut self) {
        let late_recalls = &mut self.late_recalls;
        self.chunks.retain(|entry| {
            if entry.is_finished() && entry.recall == Recall::Asked {
                late_recalls.push_back(entry.chunk);
            }
            !entry.is_finished()
        });
        while self.late_recalls.len() > MAX_LATE_RECALLS {
            self.late_recalls.pop_front();
        }
    }
}
