//! Starting workers again where they were lost: at once, later, or one slot after the other.
//!
//! Three things make workers die, and each is answered in its own way:
//!
//! - *An item.* Its caller waits, so the slot is filled again at once, and after at most a second if that goes on.
//! - *What all workers have in common*: a program that does not start, or that ends soon after it was ready with nothing
//!   to do. One slot
//!   tries, ever more slowly, and the others wait for it. Without any success the pool is degraded.
//! - *One slot*: a broken device, a full directory of its own. While the others work it is held back, for it would
//!   drain the queue: who fails at once is always free.
//!
//! And the system may have nothing to start a worker with, for a moment: that is looked at twice a second.

use std::time::Duration;

use super::PoolState;
use super::parameters::Loss;
use crate::event::{Effect, JobFailure, Readiness, StopReason};
use crate::health::{Finding, PROOF_TIME, SlotHealth, shortage_backoff};
use crate::id::{FunctionId, FunctionSet, SlotId, WorkerId};
use crate::timer::TimerKey;
use crate::worker::{Phase, Slot, Worker};

impl PoolState {
    pub(super) fn spawn_worker(&mut self, slot: SlotId) {
        let unneeded = self.stopping || self.is_draining() && self.jobs.is_empty();
        let entry = self.slot_mut(slot);
        if entry.removed || entry.worker.is_some() || unneeded {
            return;
        }
        self.last_generation += 1;
        let worker = WorkerId { slot, generation: self.last_generation };
        self.slot_mut(slot).worker = Some(Worker::new(worker));
        self.timers.set(TimerKey::Start(worker), self.now.after(self.config.worker_start_timeout));
        self.emit(Effect::SpawnWorker { worker });
    }

    /// A worker is ready. That is proof enough that its slot works, unless the one before it was ready, too, and died at
    /// once.
    pub(super) fn slot_is_ready(&mut self, id: WorkerId) {
        let slot = self.slot_mut(id.slot);
        slot.shortages = 0;
        let has_proved_itself = slot.health.trusts_ready();
        self.timers.set(TimerKey::Proof(id), self.now.after(PROOF_TIME));
        if has_proved_itself {
            self.slot_works(id.slot, Finding::Proof);
        } else if self.readiness == Readiness::Starting {
            self.set_readiness(Readiness::Ready);
        }
    }

    /// The worker of a slot has proved itself: those may start that waited for it.
    pub(super) fn slot_works(&mut self, slot: SlotId, finding: Finding) {
        self.start_failures.forget();
        self.set_readiness(Readiness::Ready);
        let before = self.note(slot, finding);
        if before.failing_since().is_none() {
            return;
        }
        self.start_failures.end_tries();
        for other in self.slot_ids() {
            if self.slots[other.0 as usize].health.failing_since().is_some() {
                self.note(other, Finding::StartsWorkElsewhere);
                self.timers.clear(TimerKey::Restart(other));
                self.spawn_worker(other);
            }
        }
    }

    /// The worker of a slot has finished an item, which is the best proof of all.
    pub(super) fn slot_has_finished_an_item(&mut self, slot: SlotId) {
        self.loss_streak.forget(slot);
        if self.slots[slot.0 as usize].health.was_held() {
            self.emit(Effect::SlotHealed { slot });
        }
        self.slot_works(slot, Finding::ItemFinished);
    }

    /// Changes the health of a slot; returns what it was.
    fn note(&mut self, slot: SlotId, finding: Finding) -> SlotHealth {
        let health = &mut self.slot_mut(slot).health;
        let after = health.after(finding);
        std::mem::replace(health, after)
    }

    /// A slot starts anew, whatever was known of it.
    pub(super) fn forget_losses(&mut self, slot: SlotId) {
        self.loss_streak.forget(slot);
        let slot = self.slot_mut(slot);
        (slot.health, slot.shortages) = (SlotHealth::Sound, 0);
    }

    /// A worker is gone, and was taken out of its slot. Fills the slot again, or sees to it that this is done later.
    pub(super) fn fill_again(&mut self, worker: &Worker, loss: Loss) {
        let slot = worker.id.slot;
        let delay = match worker.phase {
            Phase::Starting | Phase::Stopping { reason: StopReason::StartTimeout, .. } => {
                self.start_failed(slot, worker.phase != Phase::Starting, loss)
            }
            Phase::Up => self.worker_lost(worker, loss),
            Phase::Stopping { .. } => {
                if worker.ready_at.is_some() {
                    // It lived until it was told to stop.
                    self.slot_works(slot, Finding::Proof);
                }
                Some(Duration::ZERO)
            }
        };
        // Whoever comes next soon can do what this one could, mostly. Nobody waits for what may never come.
        let entry = self.slot_mut(slot);
        if worker.ready_at.is_none() || delay.is_none() || entry.is_held() || entry.removed {
            self.set_functions(slot, FunctionSet::default());
        }
        match delay {
            Some(Duration::ZERO) => self.spawn_worker(slot),
            Some(delay) => self.start_later(slot, delay),
            None => {}
        }
        self.continue_starts();
    }

    fn start_later(&mut self, slot: SlotId, delay: Duration) {
        if !self.slot_mut(slot).removed && !self.stopping {
            self.timers.set(TimerKey::Restart(slot), self.now.after(delay));
        }
    }

    /// A worker was lost before it was ready. Returns how long to wait; `None`: until it is this slot's turn.
    fn start_failed(&mut self, slot: SlotId, has_hung: bool, loss: Loss) -> Option<Duration> {
        self.count_failed_start(has_hung);
        if loss.by_shortage {
            let slot = self.slot_mut(slot);
            slot.shortages += 1;
            let before = slot.shortages - 1;
            return Some(shortage_backoff(before, &mut self.rng));
        }
        self.await_turn(slot);
        None
    }

    /// A worker that had been ready was lost, and not because we stopped it. Returns how long to wait; `None`: until it
    /// is this slot's turn.
    fn worker_lost(&mut self, worker: &Worker, loss: Loss) -> Option<Duration> {
        let slot = worker.id.slot;
        self.loss_streak.lost_worker(slot);
        if worker.finished_items > 0 {
            return Some(Duration::ZERO);
        }
        // It has not proved itself, and there is no item to blame. So it might as well not have been ready. But with
        // something at hand it may have died of that, and others need the slot.
        let died_young = loss.begun.is_none() && worker.ready_at.is_some_and(|at| self.now.since(at) < PROOF_TIME);
        let is_failed_start = died_young && worker.chunks.is_empty();
        let is_slots_fault = loss.begun.is_none_or(|function| self.works_elsewhere(function));
        let was_held = self.note(slot, Finding::LostWorker { died_young }).was_held();
        let is_bad = is_slots_fault && (self.loss_streak.blame_slot() || was_held);
        if is_failed_start {
            self.count_failed_start(false);
        }
        let mut others = self.slots.iter().filter(|slot| !slot.removed).filter_map(|slot| slot.worker.as_ref());
        let others_work = others.any(Worker::is_up);
        if is_bad && others_work {
            self.note(slot, Finding::Hold);
            let wait = self.slots[slot.0 as usize].health.hold_time(&mut self.rng);
            self.emit(Effect::SlotHeld { slot, wait });
            return Some(wait);
        }
        let delay = self.slots[slot.0 as usize].health.crash_backoff(&mut self.rng);
        if is_failed_start && !delay.is_zero() {
            self.await_turn(slot);
            return None;
        }
        Some(delay)
    }

    /// Tells whether a function has finished an item at some time, or runs somewhere. If not, whoever dies of it may well
    /// die of it anywhere.
    fn works_elsewhere(&self, function: FunctionId) -> bool {
        let mut running = self.workers().filter(|worker| worker.is_up()).filter_map(|worker| worker.chunks.front());
        self.run_times.average(function).is_some() || running.any(|chunk| chunk.function == function)
    }

    /// Remembers a failed start. Too many of them without any success, and the pool is degraded: nobody should wait.
    fn count_failed_start(&mut self, has_hung: bool) {
        // One that hung for the whole start timeout tells as much as several that failed at once.
        if (self.start_failures.record(self.now) || has_hung) && !self.has_worker_up() {
            self.set_readiness(Readiness::Degraded);
            self.fail_all_jobs(|started| JobFailure::Degraded { started });
        }
    }

    /// The starts of this slot fail: it tries again when it is its turn.
    fn await_turn(&mut self, slot: SlotId) {
        let now = self.now;
        if self.failing_slots().next().is_none() {
            self.start_failures.end_tries();
        }
        if self.note(slot, Finding::StartFailed { at: now }).failing_since().is_some() {
            self.start_failures.tried_in_vain();
        }
        if self.has_worker_up() {
            return;
        }
        // Nobody does the work of a slot that is held back any more, so it tries like the others.
        for held in self.slot_ids() {
            if self.slots[held.0 as usize].is_held() {
                self.note(held, Finding::StartFailed { at: now });
                self.timers.clear(TimerKey::Restart(held));
            }
        }
    }

    /// Of the slots whose starts fail, has one try if none does: the one that has waited for longest.
    pub(super) fn continue_starts(&mut self) {
        let tries = |(id, slot): (SlotId, &Slot)| slot.worker.is_some() || self.timers.is_set(TimerKey::Restart(id));
        if self.failing_slots().any(tries) {
            return;
        }
        if let Some((next, _)) = self.failing_slots().min_by_key(|(_, slot)| slot.health.failing_since()) {
            let delay = self.start_failures.backoff(&mut self.rng);
            self.start_later(next, delay);
        }
    }

    fn failing_slots(&self) -> impl Iterator<Item = (SlotId, &Slot)> {
        self.slot_ids()
            .zip(self.slots.iter())
            .filter(|(_, slot)| !slot.removed && slot.health.failing_since().is_some())
    }

    /// Has the slots that are held back try at once: somebody may have mended them.
    pub(super) fn end_holds(&mut self) {
        for held in self.slot_ids() {
            if self.slots[held.0 as usize].is_held() {
                self.forget_losses(held);
                self.timers.clear(TimerKey::Restart(held));
                self.spawn_worker(held);
            }
        }
    }

    pub(super) fn has_worker_up(&self) -> bool {
        self.workers().any(Worker::is_up)
    }

    /// Tells whether there is a slot besides this one that could run the function and show whose fault a death is: its
    /// workers start and work, as far as is known, or one is up that has yet to prove it.
    pub(super) fn has_other_slot(&self, slot: SlotId, function: FunctionId) -> bool {
        let is_up = |slot: &Slot| slot.worker.as_ref().is_some_and(Worker::is_up);
        let has_hope = |slot: &Slot| is_up(slot) || !slot.is_held() && slot.health.failing_since().is_none();
        let usable = |slot: &Slot| !slot.removed && slot.functions.has(function) && has_hope(slot);
        self.slot_ids().zip(self.slots.iter()).any(|(other, entry)| other != slot && usable(entry))
    }
}
