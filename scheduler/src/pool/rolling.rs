//! Replacing workers one slot at a time and between items: all of them, or one that has been used up.
//!
//! A worker that is to go is given nothing more, and goes when it is idle, if every other slot has a worker that is up.
//! If not, it goes on working until its turn comes.
//!
//! A restart takes idle workers first. While every old worker is busy, one of them is given nothing more; if it has not
//! become idle after a while, another, too: an item that never ends keeps its own worker, and no other.

use std::time::Duration;

use super::PoolState;
use crate::event::{Effect, StopReason};
use crate::id::{ChunkId, WorkerId};
use crate::timer::TimerKey;
use crate::worker::{ActiveChunk, Slot, Worker};

/// How long a worker that is to be replaced may be busy before another one is chosen, too.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long recycling waits when another slot is being refilled.
const RECYCLE_DELAY: Duration = Duration::from_millis(500);

impl PoolState {
    /// Wants every worker replaced that there is now.
    pub(super) fn request_restart(&mut self) {
        if !self.is_draining() {
            self.restart_up_to = Some(self.last_generation);
            self.end_holds();
        }
    }

    /// Goes on with a restart: while every slot has a worker that works, one of the old ones may go. A slot that is held
    /// back has none, and is in nobody's way.
    pub(super) fn continue_restart(&mut self) {
        let Some(up_to) = self.restart_up_to else { return };
        if self.is_draining() {
            return self.end_restart(Effect::RestartGivenUp);
        }
        if !self.kept_slots().all(Slot::is_whole) {
            // Whoever is chosen next is chosen at once.
            return self.timers.clear(TimerKey::Rollout);
        }
        if self.workers().all(|worker| worker.id.generation > up_to) {
            return self.end_restart(Effect::RestartFinished);
        }
        let staying = |worker: &&Worker| worker.id.generation <= up_to && worker.is_up() && worker.retire.is_none();
        // An idle one, or else the one whose work began last: that is least likely to take for ever.
        let rank = |worker: &&Worker| (worker.is_idle(), worker.chunks.front().map(|chunk| chunk.dispatched_at));
        let next = self.workers().filter(staying).max_by_key(rank);
        let Some((next, is_idle)) = next.map(|worker| (worker.id, worker.is_idle())) else { return };
        if !is_idle {
            if self.timers.is_set(TimerKey::Rollout) {
                return;
            }
            self.timers.set(TimerKey::Rollout, self.now.after(PATIENCE));
        }
        self.retire(next, StopReason::Restart);
    }

    fn end_restart(&mut self, effect: Effect) {
        self.restart_up_to = None;
        self.timers.clear(TimerKey::Rollout);
        for slot in self.slot_ids() {
            let slot = self.slot_mut(slot);
            let is_removed = slot.removed;
            if let Some(worker) = &mut slot.worker
                && worker.is_up()
                && worker.retire == Some(StopReason::Restart)
            {
                // That its slot was given up is still a reason.
                worker.retire = is_removed.then_some(StopReason::Resize);
            }
        }
        self.emit(effect);
    }

    /// Lets a worker finish the item that it runs, and stops it; what has not begun runs elsewhere.
    pub(super) fn retire(&mut self, id: WorkerId, reason: StopReason) {
        let Some(worker) = self.worker_mut(id).filter(|worker| worker.is_up()) else { return };
        worker.retire = Some(reason);
        let chunks: Vec<ChunkId> = worker.chunks.iter().map(|chunk| chunk.id).collect();
        for chunk in chunks {
            self.recall(id, chunk);
        }
        self.stop_if_unneeded(id);
    }

    /// A worker holds too much memory.
    pub(super) fn memory_is_high(&mut self, id: WorkerId) {
        let Some(worker) = self.worker_mut(id).filter(|worker| worker.is_up()) else { return };
        worker.is_large = true;
        self.recycle_if_large(id, false);
    }

    /// Replaces a worker that holds too much memory, but only after an item that has run. What it is about to begin may be
    /// what makes it large, and would make the next one as large, and so on for ever. `after_item`: it has just run one.
    pub(super) fn recycle_if_large(&mut self, id: WorkerId, after_item: bool) {
        let Some(worker) = self.worker_mut(id).filter(|worker| worker.is_large) else { return };
        let has_begun = worker.chunks.front().is_none_or(|chunk| chunk.finished > 0);
        let is_due = worker.finished_items > 0 && (after_item || has_begun);
        if is_due && !self.timers.is_set(TimerKey::Memory(id)) {
            self.recycle(id, TimerKey::Memory(id), StopReason::Memory);
        }
    }

    /// A worker has been used up: replaces it.
    pub(super) fn recycle(&mut self, id: WorkerId, key: TimerKey, reason: StopReason) {
        let has_turn = self.others_are_up(id) && !self.workers().any(|other| other.id != id && self.leaves_soon(other));
        let Some(worker) = self.worker_mut(id).filter(|worker| worker.is_up()) else { return };
        // Whoever is leaving may not do so: its slot was to go, and that can be taken back.
        if worker.retire.is_some() || !has_turn {
            return self.recycle_later(key);
        }
        if reason == StopReason::Memory {
            // What it holds grows with every item: what has not begun runs elsewhere.
            return self.retire(id, reason);
        }
        worker.retire = Some(reason);
        self.stop_if_unneeded(id);
    }

    /// Tells whether a worker is to go, and is not busy with something that takes long.
    fn leaves_soon(&self, worker: &Worker) -> bool {
        let is_soon = |chunk: &ActiveChunk| self.now.since(chunk.dispatched_at) < PATIENCE;
        worker.is_up() && worker.retire.is_some() && worker.chunks.front().is_none_or(is_soon)
    }

    fn recycle_later(&mut self, key: TimerKey) {
        let delay = self.rng.jitter(RECYCLE_DELAY);
        self.timers.set(key, self.now.after(delay));
    }

    /// The slot that large workers may have been waiting for has a worker again: the oldest of them is next, before
    /// younger ones that grow as fast can be in its way.
    pub(super) fn hasten_recycling(&mut self) {
        let waiting = self.timers.keys().filter_map(|key| match key {
            TimerKey::Memory(worker) => Some(worker),
            _ => None,
        });
        if let Some(oldest) = waiting.min_by_key(|worker| worker.generation) {
            self.timers.set(TimerKey::Memory(oldest), self.now);
        }
    }

    /// Stops an idle worker that is to be replaced, or starts to count how long it is idle.
    pub(super) fn stop_if_unneeded(&mut self, id: WorkerId) {
        let Some(worker) = self.worker_mut(id).filter(|worker| worker.is_idle()) else { return };
        let (retire, quota, has_worked) = (worker.retire.take(), worker.quota, worker.finished_items > 0);
        let is_removed = self.slots[id.slot.0 as usize].removed;
        let may_leave = |reason| !waits_for_its_turn(reason) || is_removed || self.others_are_up(id);
        let used_up = (quota == Some(0)).then_some(StopReason::MaxItems);
        if let Some(reason) = retire.filter(|&reason| may_leave(reason)).or(used_up) {
            return self.shut_down(id, reason);
        }
        match retire {
            Some(StopReason::MaxAge) => self.recycle_later(TimerKey::Age(id)),
            Some(StopReason::Idle) => self.recycle_later(TimerKey::Idle(id)),
            Some(StopReason::Memory) => self.recycle_later(TimerKey::Memory(id)),
            // A restart goes on by itself.
            _ => {}
        }
        if let Some(timeout) = self.config.idle_timeout.filter(|_| has_worked)
            && !self.timers.is_set(TimerKey::Idle(id))
        {
            let timeout = self.rng.jitter(timeout);
            self.timers.set(TimerKey::Idle(id), self.now.after(timeout));
        }
    }

    /// Returns the slots that are to have a worker now. One that is held back has none, and is in nobody's way.
    fn kept_slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter(|slot| !slot.removed && !slot.is_held())
    }

    /// Tells whether every other slot has a worker that works.
    fn others_are_up(&self, id: WorkerId) -> bool {
        self.kept_slots().all(|slot| slot.is_whole() || slot.worker.as_ref().is_some_and(|worker| worker.id == id))
    }
}

/// Tells whether a worker goes only when every other slot has a worker that is up.
fn waits_for_its_turn(reason: StopReason) -> bool {
    matches!(reason, StopReason::MaxAge | StopReason::Idle | StopReason::Memory | StopReason::Restart)
}

#[cfg(test)]
#[path = "rolling_tests.rs"]
mod tests;
