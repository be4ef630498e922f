//! When an item has to end, and how it is made to: its time limit, the cancel of its call, the grace period, SIGTERM,
//! SIGKILL.
//!
//! Whoever looks after a worker owns one of these, next to the page that says what runs, and does what it says at once:
//! what it decides by is never older than the look. It is pure: time and what runs are arguments, so that both simulations
//! run it, too.
//!
//! # How an item ends
//!
//! An item is *overdue* when its time is up or nobody waits for its chunk any more. It has been told to end by then, and
//! has the grace period to do so; then the worker gets SIGTERM, and SIGKILL when the next grace period is over. No signal
//! is for another item than the one that is seen to run:
//!
//! - What begins after an overdue item has all of its own time and its own grace period, after SIGTERM, too.
//! - A worker that has survived SIGTERM and runs an item that may go on is killed when that has ended.
//! - Of a chunk that nobody waits for, all items are meant, and so is one that has yet to begin: the worker should have
//!   given it back.
//!
//! Nothing may begin behind an overdue item; to see to that is the scheduler's business.

use std::time::Duration;

use crate::event::StopReason;
use crate::id::ChunkId;
use crate::time::Time;

/// How long to wait until the next look where nothing tells of the right moment: a worker that has survived SIGTERM runs an
/// item that may go on, or there was no room to tell that the time of one is up.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The least time between two looks, however short a time limit is.
const MIN_LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// How long what should end may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GracePeriods {
    /// From the moment when an item is overdue to SIGTERM.
    pub cancel: Duration,
    /// From there to SIGKILL.
    pub kill: Duration,
}

/// A chunk that a worker has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchedChunk {
    /// Its name.
    pub chunk: ChunkId,
    /// The longest that one of its items may run.
    pub time_limit: Option<Duration>,
    /// Nobody waits for it any more, and the worker was told.
    pub is_cancelled: bool,
}

/// The item that a worker runs. It may have ended a moment ago, if nothing has begun since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunningItem {
    /// Its chunk.
    pub chunk: ChunkId,
    /// Its offset in the chunk.
    pub offset: u32,
    /// How long it has been running.
    pub running_for: Duration,
}

/// What is to be done about an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemAction {
    /// The time of the item that runs is up: it is to be told, and then [`ItemWatch::expire`] called. Or
    /// [`ItemWatch::look_later`], if that can't be done now.
    Expire,
    /// The worker gets SIGTERM.
    Terminate(StopReason),
    /// The worker gets SIGKILL.
    Kill,
}

/// Watches the items of one worker.
#[derive(Debug)]
pub struct ItemWatch {
    grace: GracePeriods,
    /// The last item that was told that its time is up.
    expired: Option<(ChunkId, u32)>,
    /// What should have ended, and how long it may go on by itself.
    overdue: Option<(Overdue, Time)>,
    /// When the worker is killed that got SIGTERM for an item.
    kill_at: Option<Time>,
    next_look: Option<Time>,
}

/// What should have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Overdue {
    /// An item whose time is up.
    Item(ChunkId, u32),
    /// Whatever runs of a chunk.
    Chunk(ChunkId),
}

impl ItemWatch {
    /// Returns the watch of a worker that has nothing to run.
    pub fn new(grace: GracePeriods) -> Self {
        Self { grace, expired: None, overdue: None, kill_at: None, next_look: None }
    }

    /// Returns when to call [`ItemWatch::look`] at the latest.
    pub fn next_look(&self) -> Option<Time> {
        self.next_look
    }

    /// Returns whether the worker got SIGTERM for an item.
    pub fn has_terminated(&self) -> bool {
        self.kill_at.is_some()
    }

    /// The worker was given a chunk.
    pub fn chunk_given(&mut self, now: Time, time_limit: Option<Duration>) {
        if let Some(limit) = time_limit {
            self.look_by(now.after(limit));
        }
    }

    /// Looks at what the worker has, in its order, and what it runs. Returns what is to be done.
    pub fn look(
        &mut self,
        now: Time,
        mut chunks: impl Iterator<Item = WatchedChunk> + Clone,
        running: Option<RunningItem>,
    ) -> Option<ItemAction> {
        self.next_look = None;
        // Only the page tells when the next item begins, and nobody is told of that.
        let wait = |chunk: WatchedChunk| if chunk.is_cancelled { Some(self.grace.cancel) } else { chunk.time_limit };
        if let Some(soonest) = chunks.clone().filter_map(wait).min() {
            self.look_by(now.after(soonest.max(MIN_LOOK_INTERVAL)));
        }
        let at_hand = match running {
            Some(running) => chunks.find(|chunk| chunk.chunk == running.chunk),
            None => chunks.next(),
        };
        let overdue = match (at_hand, running) {
            (Some(WatchedChunk { chunk, is_cancelled: true, .. }), _) => Overdue::Chunk(chunk),
            (Some(at_hand), Some(RunningItem { chunk, offset, running_for })) => {
                let left = at_hand.time_limit.map(|limit| limit.saturating_sub(running_for));
                if self.expired == Some((chunk, offset)) {
                    Overdue::Item(chunk, offset)
                } else if left == Some(Duration::ZERO) {
                    return Some(ItemAction::Expire);
                } else {
                    if let Some(left) = left {
                        self.look_by(now.after(left.max(MIN_LOOK_INTERVAL)));
                    }
                    return self.look_at_survivor(now, true);
                }
            }
            _ => return self.look_at_survivor(now, false),
        };
        self.look_at_overdue(now, overdue)
    }

    fn look_at_overdue(&mut self, now: Time, overdue: Overdue) -> Option<ItemAction> {
        let known = self.overdue.filter(|(known, _)| *known == overdue);
        let (_, until) = *self.overdue.insert(known.unwrap_or_else(|| (overdue, now.after(self.grace.cancel))));
        if now < until {
            self.look_by(until);
            return None;
        }
        if self.has_terminated() {
            return Some(ItemAction::Kill);
        }
        let kill_at = now.after(self.grace.kill);
        (self.kill_at, self.overdue) = (Some(kill_at), Some((overdue, kill_at)));
        self.look_by(kill_at);
        Some(ItemAction::Terminate(match overdue {
            Overdue::Item(..) => StopReason::ItemTimeout,
            Overdue::Chunk(_) => StopReason::Cancelled,
        }))
    }

    /// Nothing is overdue. But the worker may have been told to end, by SIGTERM. `runs`: an item that may go on.
    fn look_at_survivor(&mut self, now: Time, runs: bool) -> Option<ItemAction> {
        self.overdue = None;
        let kill_at = self.kill_at?;
        if now >= kill_at && !runs {
            return Some(ItemAction::Kill);
        }
        self.look_by(if now < kill_at { kill_at } else { now.after(LOOK_INTERVAL) });
        None
    }

    /// The item that runs has been told that its time is up.
    pub fn expire(&mut self, now: Time, item: RunningItem) {
        self.expired = Some((item.chunk, item.offset));
        let until = now.after(self.grace.cancel);
        self.overdue = Some((Overdue::Item(item.chunk, item.offset), until));
        self.look_by(until);
    }

    /// Nothing can be done at present about what the last look found.
    pub fn look_later(&mut self, now: Time) {
        self.next_look = Some(now.after(LOOK_INTERVAL));
    }

    fn look_by(&mut self, at: Time) {
        self.next_look = Some(self.next_look.map_or(at, |known| known.min(at)));
    }
}

#[cfg(test)]
#[path = "item_watch_tests.rs"]
mod tests;
