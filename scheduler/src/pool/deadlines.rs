//! What happens because time passes: deadlines, and workers that do not stop when asked. The time limits of items are
//! watched where they run, by [`crate::ItemWatch`].

use super::PoolState;
use super::parameters::FailedAt;
use crate::event::{Effect, FailureCause, JobFailure, StopReason};
use crate::health::Finding;
use crate::id::{ChunkId, JobId, WorkerId};
use crate::timer::TimerKey;
use crate::worker::{Expired, Phase, StopStage};

impl PoolState {
    pub(super) fn fire_timers(&mut self) {
        while let Some(key) = self.timers.pop_due(self.now) {
            match key {
                TimerKey::Deadline(job) => self.deadline_passed(job),
                TimerKey::Retry(job) => self.arm_retry(job),
                TimerKey::Start(worker) => self.kill(worker, StopReason::StartTimeout),
                TimerKey::Proof(worker) => self.slot_works(worker.slot, Finding::Proof),
                TimerKey::StopGrace(worker) => self.escalate(worker),
                TimerKey::Age(worker) => self.recycle(worker, key, StopReason::MaxAge),
                TimerKey::Idle(worker) => self.recycle(worker, key, StopReason::Idle),
                TimerKey::Memory(worker) => self.recycle_if_large(worker, false),
                TimerKey::Restart(slot) => self.spawn_worker(slot),
                // `dispatch` and `continue_restart` follow and look again.
                TimerKey::Rebalance | TimerKey::Reconsider | TimerKey::Rollout => {}
            }
        }
    }

    fn deadline_passed(&mut self, job: JobId) {
        match self.jobs.get(&job).map(|job| job.started) {
            Some(started) => self.fail_job(job, JobFailure::DeadlineExceeded { started }),
            // What was let finish when another item failed has not.
            None => self.abandon_everywhere(job, true),
        }
    }

    /// The time of an item is up, and its worker was told; the rest of its chunk was asked back with that.
    pub(super) fn item_expired(&mut self, id: WorkerId, chunk: ChunkId, offset: u32) {
        let now = self.now;
        let Some(worker) = self.slots.get_mut(id.slot.0 as usize).and_then(|slot| slot.worker.as_mut()) else { return };
        let Some(active) = worker.chunks.iter_mut().find(|active| worker.id == id && active.id == chunk) else {
            return;
        };
        let Some(limit) = active.time_limit.filter(|_| (active.finished..active.count).contains(&offset)) else {
            return;
        };
        if active.expired.last().is_some_and(|last| last.offset >= offset) {
            return;
        }
        let max_attempts = self.jobs.get(&active.job).map_or(1, |job| job.spec.max_attempts());
        let (job, index, history) = (active.job, active.first_index + u64::from(offset), active.history);
        let tried_again = history.attempt < max_attempts;
        active.expired.push(Expired { offset, limit, tried_again });
        active.recalled_at = Some(now);
        self.recall_behind(id, chunk);
        if !tried_again {
            self.item_failed(FailedAt { job, index, worker: id }, history, FailureCause::TimedOut { limit });
        }
    }

    /// Nothing may begin behind an item that should end: no signal may hit it.
    pub(super) fn recall_behind(&mut self, id: WorkerId, chunk: ChunkId) {
        let Some(worker) = self.worker_mut(id).filter(|worker| worker.is_up()) else { return };
        let behind = worker.chunks.iter().skip_while(|active| active.id != chunk).skip(1);
        for chunk in behind.map(|active| active.id).collect::<Vec<_>>() {
            self.recall(id, chunk);
        }
    }

    /// A worker got SIGTERM for an item. Whoever has sent it sees to its end.
    pub(super) fn worker_is_stopping(&mut self, id: WorkerId, reason: StopReason) {
        let Some(worker) = self.worker_mut(id).filter(|worker| worker.is_up()) else { return };
        worker.phase = Phase::Stopping { stage: StopStage::Terminated, reason };
        self.timers.clear_worker(id);
    }

    /// Asks an idle worker to exit.
    pub(super) fn shut_down(&mut self, id: WorkerId, reason: StopReason) {
        self.stop_worker(id, StopStage::Asked, reason);
    }

    /// Sends SIGTERM to a worker.
    pub(super) fn terminate(&mut self, id: WorkerId, reason: StopReason) {
        self.stop_worker(id, StopStage::Terminated, reason);
    }

    /// Sends SIGKILL to a worker.
    pub(super) fn kill(&mut self, id: WorkerId, reason: StopReason) {
        self.stop_worker(id, StopStage::Killed, reason);
    }

    fn stop_worker(&mut self, id: WorkerId, stage: StopStage, reason: StopReason) {
        let Some(worker) = self.worker_mut(id) else { return };
        worker.phase = Phase::Stopping { stage, reason };
        self.timers.clear_worker(id);
        if stage != StopStage::Killed {
            self.timers.set(TimerKey::StopGrace(id), self.now.after(self.config.kill_grace_period));
        }
        self.emit(match stage {
            StopStage::Asked => Effect::Shutdown { worker: id, reason },
            StopStage::Terminated => Effect::Terminate { worker: id, reason },
            StopStage::Killed => Effect::Kill { worker: id, reason },
        });
    }

    /// A worker that was to stop has not.
    fn escalate(&mut self, id: WorkerId) {
        let Some(worker) = self.worker_mut(id) else { return };
        match worker.phase {
            Phase::Stopping { stage: StopStage::Asked, reason } => self.terminate(id, reason),
            Phase::Stopping { stage: StopStage::Terminated, reason } => self.kill(id, reason),
            Phase::Starting | Phase::Up | Phase::Stopping { stage: StopStage::Killed, .. } => {}
        }
    }
}

#[cfg(test)]
#[path = "deadlines_tests.rs"]
mod tests;
