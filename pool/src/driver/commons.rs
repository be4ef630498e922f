//! Which worker has which common argument: it gets one with the first chunk of a job, and is told when the job has ended.

use procpool_scheduler::JobId;

use super::Driver;
use crate::supervisor::{COMMAND_CAPACITY, WorkerCommand};

impl Driver {
    /// The job has ended.
    pub(super) fn drop_common(&mut self, job: JobId) {
        for link in self.workers.values_mut() {
            if link.commons.remove(&job) {
                link.dropped_commons.push(job);
                self.has_dropped_commons = true;
            }
        }
    }

    /// Tells workers which jobs have ended, all at once: a thousand may end in one moment, and the channel to a worker is
    /// for what it can't do without. So it keeps half of its room.
    pub(super) fn tell_dropped_commons(&mut self) {
        if !self.has_dropped_commons {
            return;
        }
        self.has_dropped_commons = false;
        for link in self.workers.values_mut().filter(|link| !link.dropped_commons.is_empty()) {
            if !link.commands.is_closed() && link.commands.capacity() <= COMMAND_CAPACITY / 2 {
                // There is another turn when it has done something of what it was told.
                self.has_dropped_commons = true;
                continue;
            }
            let commons = link.dropped_commons.drain(..).map(|job| job.0).collect();
            // It may have ended, which the driver will hear of.
            let _ = link.commands.try_send(WorkerCommand::DropCommons(commons));
        }
    }
}
