//! Which functions there are, while workers are not alike: during a restart with new code, or after a crash when the code
//! on disk has changed.
//!
//! What can run nowhere is not waited for. A slot that is being refilled counts with what its last worker could run: the
//! next one mostly can, too, and if not, it is known as soon as that one is ready or has failed to start.

use std::collections::BTreeSet;

use super::PoolState;
use crate::event::JobFailure;
use crate::id::{FunctionId, FunctionSet, JobId, SlotId};

impl PoolState {
    /// Tells whether some worker can run a function, or one that is being started is expected to; and while no worker is
    /// up, of which anything may come.
    pub fn may_have(&self, function: FunctionId) -> bool {
        !self.is_lost(function)
    }

    /// Tells whether there are workers, and none that can run a function, now or soon.
    pub(crate) fn is_lost(&self, function: FunctionId) -> bool {
        !self.slots.iter().any(|slot| slot.functions.has(function)) && self.has_worker_up()
    }

    /// From now on a slot is good for these functions.
    pub(super) fn set_functions(&mut self, slot: SlotId, functions: FunctionSet) {
        let before = std::mem::replace(&mut self.slot_mut(slot).functions, functions);
        if before == self.slot_mut(slot).functions {
            return;
        }
        self.level_queue();
    }

    /// Forgets what the functions took that no worker and no job has any more: there may be new ones with every version of
    /// the code. To be asked for when a worker is ready.
    pub(super) fn forget_run_times(&mut self) {
        let (slots, jobs) = (&self.slots, &self.jobs);
        let is_needed = |function: FunctionId| {
            slots.iter().any(|slot| slot.functions.has(function))
                || jobs.values().any(|job| job.spec.function == function)
        };
        self.run_times.retain(is_needed);
    }

    /// Jobs have waited for different workers, and now may share them. Nobody catches up on the others.
    fn level_queue(&mut self) {
        for (&id, job) in self.jobs.iter_mut().filter(|(_, job)| job.queued) {
            self.queue.remove(job.spec.function, id, job.virtual_time);
            job.virtual_time = self.queue.add(job.spec.function, id, job.virtual_time);
        }
    }

    /// Fails the jobs of functions that no worker has any more. To be asked for when a worker has come or gone.
    pub(super) fn fail_lost_jobs(&mut self) {
        let functions: BTreeSet<FunctionId> = self.jobs.values().map(|job| job.spec.function).collect();
        let lost: BTreeSet<FunctionId> = functions.into_iter().filter(|&function| self.is_lost(function)).collect();
        if lost.is_empty() {
            return;
        }
        let jobs = self.jobs.iter().filter(|(_, job)| lost.contains(&job.spec.function));
        let jobs: Vec<(JobId, bool)> = jobs.map(|(&id, job)| (id, job.started)).collect();
        for (id, started) in jobs {
            self.fail_job(id, JobFailure::NoFunction { started });
        }
    }
}

#[cfg(test)]
#[path = "functions_tests.rs"]
mod tests;
