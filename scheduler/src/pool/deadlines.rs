//! What happens because time passes: deadlines, time limits of items, grace periods.

use std::time::Duration;

use super::PoolState;
use super::parameters::FailedAt;
use crate::event::{Cancel, Effect, FailureCause, JobFailure, RunningItem, StopReason};
use crate::health::Finding;
use crate::id::{ChunkId, JobId, WorkerId};
use crate::timer::TimerKey;
use crate::worker::{Expired, Phase, StopStage};

/// How often a worker that survived SIGTERM is asked whether an item runs there that was not meant.
const RECHECK_INTERVAL: Duration = Duration::from_millis(100);

impl PoolState {
    pub(super) fn fire_timers(&mut self) {
        while let Some(key) = self.timers.pop_due(self.now) {
            match key {
                TimerKey::Deadline(job) => self.deadline_passed(job),
                TimerKey::Retry(job) => self.arm_retry(job),
                TimerKey::Start(worker) => self.kill(worker, StopReason::StartTimeout),
                TimerKey::Proof(worker) => self.slot_works(worker.slot, Finding::Proof),
                TimerKey::CancelGrace(worker) => self.cancel_grace_passed(worker),
                TimerKey::StopGrace(worker) => self.escalate(worker),
                TimerKey::ItemTimeout(worker) => self.probe(worker),
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

    /// The time limit of what a worker runs may have passed: only the worker's page tells since when it runs.
    fn probe(&mut self, id: WorkerId) {
        if self.worker_mut(id).is_some_and(|worker| worker.is_up()) {
            self.emit(Effect::Probe { worker: id });
            self.watch_time_limit(id);
        }
    }

    /// Sets the timer for the chunk that runs, if it has a time limit and there is none yet.
    pub(super) fn watch_time_limit(&mut self, id: WorkerId) {
        let key = TimerKey::ItemTimeout(id);
        let now = self.now;
        let Some(worker) = self.worker_mut(id) else { return };
        let shortest = worker.chunks.iter().filter(|chunk| !chunk.cancelled).filter_map(|chunk| chunk.time_limit).min();
        match shortest {
            Some(limit) if !self.timers.is_set(key) => self.timers.set(key, now.after(limit)),
            Some(_) => {}
            None => self.timers.clear(key),
        }
    }

    /// The answer to a probe.
    pub(super) fn progress(&mut self, id: WorkerId, running: Option<RunningItem>) {
        let Some(worker) = self.worker_mut(id) else { return };
        let mut may_go_on = false;
        if let Some(RunningItem { chunk, offset, .. }) = running
            && let Some(position) = worker.position(chunk)
        {
            // Items run one after the other: what comes before this one has ended.
            worker.chunks.iter_mut().take(position).for_each(|earlier| earlier.passed = earlier.count);
            let active = &mut worker.chunks[position];
            active.passed = active.passed.max(offset);
            // Also if its call has failed with another item: then it is let finish.
            may_go_on = !active.cancelled;
        }
        self.watch_overdue(id);
        let Some(worker) = self.worker_mut(id) else { return };
        if std::mem::take(&mut worker.grace_is_over) {
            match (worker.phase, worker.overdue()) {
                (Phase::Up, Some((_, reason))) => {
                    return self.stop_worker(id, StopStage::Terminated, reason, true);
                }
                // SIGTERM did not end it, and it began another item before it read that it should give that back. This
                // one may take its time, too.
                (Phase::Stopping { stage: StopStage::Terminated, .. }, None) if may_go_on => {
                    self.timers.set(TimerKey::StopGrace(id), self.now.after(RECHECK_INTERVAL));
                }
                (Phase::Stopping { stage: StopStage::Terminated, reason }, _) => {
                    self.stop_worker(id, StopStage::Killed, reason, true);
                    return self.slot_mut(id.slot).worker.iter_mut().for_each(|worker| worker.grace_is_over = true);
                }
                // It has begun another one since it was asked, and was not killed.
                (Phase::Stopping { stage: StopStage::Killed, reason }, overdue) if running.is_some() => {
                    worker.phase = Phase::Stopping { stage: StopStage::Terminated, reason };
                    let again = if overdue.is_none() { RECHECK_INTERVAL } else { self.config.cancel_grace_period };
                    self.timers.set(TimerKey::StopGrace(id), self.now.after(again));
                }
                _ => {}
            }
        }
        if let Some(running) = running {
            self.check_time_limit(id, running);
        }
    }

    fn check_time_limit(&mut self, id: WorkerId, RunningItem { chunk, offset, running_for }: RunningItem) {
        let now = self.now;
        let Some(worker) = self.slots.get_mut(id.slot.0 as usize).and_then(|slot| slot.worker.as_mut()) else { return };
        let Some(position) = worker.position(chunk) else { return };
        let active = &mut worker.chunks[position];
        let max_attempts = self.jobs.get(&active.job).map_or(1, |job| job.spec.max_attempts);
        let Some(limit) = active.time_limit.filter(|_| active.overdue().is_none()) else { return };
        if offset < active.finished || offset >= active.count {
            return;
        }
        if running_for < limit {
            let at = now.after(limit.saturating_sub(running_for));
            return self.timers.set(TimerKey::ItemTimeout(id), at);
        }
        let (job, index, history) = (active.job, active.first_index + u64::from(offset), active.history);
        let tried_again = history.attempt < max_attempts;
        active.expired.push(Expired { offset, limit, tried_again });
        active.recalled_at = Some(now);
        let is_up = worker.is_up();
        self.emit(Effect::Recall { worker: id, chunk, cancel: Cancel::Item(offset) });
        self.watch_overdue(id);
        if !is_up {
            // SIGTERM was for another item, and did not end the worker: this one has its own grace period.
            self.timers.set(TimerKey::StopGrace(id), now.after(self.config.cancel_grace_period));
        }
        if !tried_again {
            self.item_failed(FailedAt { job, index, worker: id }, history, FailureCause::TimedOut { limit });
        }
    }

    /// Sets or clears the timer for a worker whose item should end by itself. Nothing may begin behind such an item: no
    /// kill may hit the next one.
    pub(super) fn watch_overdue(&mut self, id: WorkerId) {
        let key = TimerKey::CancelGrace(id);
        let deadline = self.now.after(self.config.cancel_grace_period);
        let Some(worker) = self.worker_mut(id).filter(|worker| worker.is_up()) else { return };
        let Some((position, reason)) = worker.overdue() else {
            (worker.grace_is_over, worker.grace_of) = (false, None);
            return self.timers.clear(key);
        };
        let chunk = worker.chunks[position].id;
        let is_another = worker.grace_of.replace((chunk, reason)) != Some((chunk, reason));
        worker.grace_is_over &= !is_another;
        let grace_is_over = worker.grace_is_over;
        let behind: Vec<ChunkId> = worker.chunks.iter().skip(position + 1).map(|chunk| chunk.id).collect();
        if is_another || !grace_is_over && !self.timers.is_set(key) {
            self.timers.set(key, deadline);
        }
        for chunk in behind {
            self.recall(id, chunk);
        }
    }

    /// What should have ended by itself has not, as far as is known. Its result may be on its way, or held back by the
    /// item after it; so the worker's page is asked before anybody is ended.
    fn cancel_grace_passed(&mut self, id: WorkerId) {
        let Some(worker) = self.worker_mut(id) else { return };
        worker.grace_is_over = true;
        self.emit(Effect::Probe { worker: id });
    }

    /// Asks an idle worker to exit.
    pub(super) fn shut_down(&mut self, id: WorkerId, reason: StopReason) {
        self.stop_worker(id, StopStage::Asked, reason, false);
    }

    /// Sends SIGTERM to a worker.
    pub(super) fn terminate(&mut self, id: WorkerId, reason: StopReason) {
        self.stop_worker(id, StopStage::Terminated, reason, false);
    }

    /// Sends SIGKILL to a worker.
    pub(super) fn kill(&mut self, id: WorkerId, reason: StopReason) {
        self.stop_worker(id, StopStage::Killed, reason, false);
    }

    /// `if_unchanged`: it is meant for what the worker was just said to run, and for nothing that begins after that.
    fn stop_worker(&mut self, id: WorkerId, stage: StopStage, reason: StopReason, if_unchanged: bool) {
        let Some(worker) = self.worker_mut(id) else { return };
        worker.phase = Phase::Stopping { stage, reason };
        worker.grace_is_over = false;
        self.timers.clear_worker(id);
        if stage != StopStage::Killed {
            self.timers.set(TimerKey::StopGrace(id), self.now.after(self.config.kill_grace_period));
        }
        self.emit(match stage {
            StopStage::Asked => Effect::Shutdown { worker: id, reason },
            StopStage::Terminated => Effect::Terminate { worker: id, reason, if_unchanged },
            StopStage::Killed => Effect::Kill { worker: id, reason, if_unchanged },
        });
    }

    /// A worker that was to stop has not.
    fn escalate(&mut self, id: WorkerId) {
        let Some(worker) = self.worker_mut(id) else { return };
        match worker.phase {
            Phase::Stopping { stage: StopStage::Asked, reason } => self.terminate(id, reason),
            Phase::Stopping { stage: StopStage::Terminated, reason } => {
                let was_for_an_item = matches!(reason, StopReason::ItemTimeout | StopReason::Cancelled);
                if !was_for_an_item || worker.chunks.is_empty() {
                    return self.kill(id, reason);
                }
                // As before SIGTERM: what it runs by now may be another item.
                worker.grace_is_over = true;
                self.emit(Effect::Probe { worker: id });
            }
            Phase::Starting | Phase::Up | Phase::Stopping { stage: StopStage::Killed, .. } => {}
        }
    }
}

#[cfg(test)]
#[path = "deadlines_tests.rs"]
mod tests;
