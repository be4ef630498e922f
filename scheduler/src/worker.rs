//! One slot and the worker in it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::event::StopReason;
use crate::health::SlotHealth;
use crate::id::{ChunkId, FunctionId, FunctionSet, JobId, WorkerId};
use crate::job::History;
use crate::time::Time;

/// A place for a worker.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    pub(crate) worker: Option<Worker>,
    pub(crate) health: SlotHealth,
    /// How often in a row the system had nothing to start its worker with.
    pub(crate) shortages: u32,
    /// The pool was made smaller: no worker starts here any more.
    pub(crate) removed: bool,
    /// How many items its workers have finished.
    pub(crate) finished_items: u64,
    /// What its worker can run. While the slot is being refilled: what the last worker could, as the next may.
    pub(crate) functions: FunctionSet,
}

impl Slot {
    /// Tells whether its worker could begin a chunk at once.
    pub(crate) fn is_free(&self) -> bool {
        self.worker.as_ref().is_some_and(|worker| worker.is_idle() && worker.takes_chunks())
    }

    /// Returns the chunk that its worker runs, if that is all it has and the next may wait behind it.
    pub(crate) fn only_chunk(&self) -> Option<&ActiveChunk> {
        let worker = self.worker.as_ref().filter(|worker| worker.takes_chunks() && worker.chunks.len() == 1)?;
        worker.chunks.front().filter(|running| {
            !running.is_overdue()
                && !running.abandoned
                && !running.history.is_left_alone()
                && running.recalled_at.is_none()
                && !self.health.is_on_probation()
        })
    }

    /// Returns whether it is held and has no worker: it is not waited for.
    pub(crate) fn is_held(&self) -> bool {
        self.worker.is_none() && matches!(self.health, SlotHealth::Held(_)) && !self.removed
    }

    /// Returns whether it has a worker that works.
    pub(crate) fn is_whole(&self) -> bool {
        self.worker.as_ref().is_some_and(Worker::is_up) && self.health.trusts_ready()
    }
}

/// A worker process, from its start until it is reaped.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    pub(crate) phase: Phase,
    /// What it was given and has not finished; the first runs.
    pub(crate) chunks: VecDeque<ActiveChunk>,
    /// How many more items it may be given.
    pub(crate) quota: Option<u64>,
    pub(crate) finished_items: u64,
    pub(crate) ready_at: Option<Time>,
    /// It holds too much memory, and is to be replaced once it has run an item.
    pub(crate) is_large: bool,
    /// It gets no more chunks, and stops when it has none, if it is its turn.
    pub(crate) retire: Option<StopReason>,
}

/// Where a worker stands. Ready and Busy are one phase: it is busy when it has a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not ready yet. Starting => (Up | Stopping | exited)
    Starting,
    /// Up => (Stopping | exited)
    Up,
    /// Stopping => exited
    Stopping { stage: StopStage, reason: StopReason },
}

/// How hard a worker was asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopStage {
    /// By a frame.
    Asked,
    /// SIGTERM.
    Terminated,
    /// SIGKILL.
    Killed,
}

/// A chunk at a worker.
#[derive(Debug)]
pub(crate) struct ActiveChunk {
    pub(crate) id: ChunkId,
    pub(crate) job: JobId,
    pub(crate) function: FunctionId,
    /// The index in the job of the first item.
    pub(crate) first_index: u64,
    /// How many items the worker has still to account for: fewer after a recall.
    pub(crate) count: u32,
    /// How many of them it has finished.
    pub(crate) finished: u32,
    pub(crate) history: History,
    /// The job has ended: what comes is discarded.
    pub(crate) abandoned: bool,
    /// The caller chose the size: a chunk that runs is not taken apart.
    pub(crate) fixed_size: bool,
    /// A recall is under way since then.
    pub(crate) recalled_at: Option<Time>,
    pub(crate) time_limit: Option<Duration>,
    /// The items whose time was up before they finished, by rising offset; only the last may still run. Their answers,
    /// if any come, are dropped.
    pub(crate) expired: Vec<Expired>,
    /// The caller has gone: what runs should end soon.
    pub(crate) cancelled: bool,
    pub(crate) dispatched_at: Time,
    /// What the job was charged for it.
    pub(crate) charged: Duration,
    /// What it really cost so far.
    pub(crate) busy: Duration,
}

/// An item whose time was up before it finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expired {
    /// Its offset in the chunk.
    pub(crate) offset: u32,
    /// The limit that it passed.
    pub(crate) limit: Duration,
    /// It is tried again, but only when this execution has ended: there is never more than one.
    pub(crate) tried_again: bool,
}

impl ActiveChunk {
    /// Tells whether what runs should have ended.
    pub(crate) fn is_overdue(&self) -> bool {
        self.cancelled || self.expired.last().is_some_and(|expired| expired.offset >= self.finished)
    }

    /// Returns the expired item at this offset.
    pub(crate) fn expired_at(&self, offset: u32) -> Option<Expired> {
        self.expired.iter().copied().find(|expired| expired.offset == offset)
    }

    /// Returns the number of items that have not finished.
    pub(crate) fn remaining(&self) -> u32 {
        self.count - self.finished
    }
}

impl Worker {
    pub(crate) fn new(id: WorkerId) -> Self {
        Self {
            id,
            phase: Phase::Starting,
            chunks: VecDeque::with_capacity(2),
            quota: None,
            finished_items: 0,
            ready_at: None,
            is_large: false,
            retire: None,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.phase == Phase::Up
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.is_up() && self.chunks.is_empty()
    }

    /// Tells whether it may be given a chunk at all.
    pub(crate) fn takes_chunks(&self) -> bool {
        self.is_up() && self.retire.is_none() && self.quota != Some(0)
    }

    /// Returns the chunks that it may be asked for, since items have not begun, and their positions; the last first.
    pub(crate) fn divisible_chunks(&self) -> impl Iterator<Item = (usize, &ActiveChunk)> {
        let is_up = self.is_up();
        self.chunks.iter().enumerate().rev().filter(move |(position, chunk)| {
            let begun = u32::from(*position == 0);
            let can_be_asked = is_up && !chunk.abandoned && chunk.recalled_at.is_none();
            can_be_asked && chunk.remaining() > begun && !(chunk.fixed_size && begun == 1)
        })
    }

    /// Returns when it was last asked for a chunk that somebody waits for, if it has not answered.
    pub(crate) fn asked_at(&self) -> Option<Time> {
        self.chunks.iter().filter(|chunk| !chunk.abandoned).filter_map(|chunk| chunk.recalled_at).max()
    }

    /// Returns the position of a chunk.
    pub(crate) fn position(&self, chunk: ChunkId) -> Option<usize> {
        self.chunks.iter().position(|active| active.id == chunk)
    }
}
