//! What is to happen when. The driver only asks for the next moment: there are no stale timers to be told apart.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{JobId, SlotId, WorkerId};
use crate::time::Time;

/// What a timer is for. There is at most one timer a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TimerKey {
    /// The job's deadline.
    Deadline(JobId),
    /// An item of the job may be tried again.
    Retry(JobId),
    /// The worker should be ready by now.
    Start(WorkerId),
    /// The worker has lived long enough to have proved itself.
    Proof(WorkerId),
    /// The worker should be gone by now.
    StopGrace(WorkerId),
    /// The worker is as old as it may get.
    Age(WorkerId),
    /// The worker has been idle for too long.
    Idle(WorkerId),
    /// The worker holds too much memory, and another slot is being refilled.
    Memory(WorkerId),
    /// The slot may start a worker again.
    Restart(SlotId),
    /// A slot is idle, and a chunk elsewhere may be late.
    Rebalance,
    /// What workers of one slot died with is not left to the others any more.
    Reconsider,
    /// A restart waits for a worker that is busy, and may choose another.
    Rollout,
}

/// The timers that are set.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_time: BTreeSet<(Time, TimerKey)>,
    by_key: BTreeMap<TimerKey, Time>,
}

impl Timers {
    /// Sets a timer, or moves it.
    pub(crate) fn set(&mut self, key: TimerKey, at: Time) {
        self.clear(key);
        self.by_key.insert(key, at);
        self.by_time.insert((at, key));
    }

    /// Clears a timer; it need not be set.
    pub(crate) fn clear(&mut self, key: TimerKey) {
        if let Some(at) = self.by_key.remove(&key) {
            self.by_time.remove(&(at, key));
        }
    }

    /// Clears every timer of a worker.
    pub(crate) fn clear_worker(&mut self, worker: WorkerId) {
        use TimerKey::{Age, Idle, Memory, Proof, Start, StopGrace};
        for key in [Start, Proof, StopGrace, Age, Idle, Memory] {
            self.clear(key(worker));
        }
    }

    pub(crate) fn is_set(&self, key: TimerKey) -> bool {
        self.by_key.contains_key(&key)
    }

    /// Returns when the next timer is due.
    pub(crate) fn next(&self) -> Option<Time> {
        self.by_time.first().map(|&(at, _)| at)
    }

    /// Takes the next timer that is due, if one is.
    pub(crate) fn pop_due(&mut self, now: Time) -> Option<TimerKey> {
        let &(at, key) = self.by_time.first()?;
        if at > now {
            return None;
        }
        self.clear(key);
        Some(key)
    }

    /// Returns what timers are set for.
    pub(crate) fn keys(&self) -> impl Iterator<Item = TimerKey> + '_ {
        self.by_key.keys().copied()
    }
}
