//! The restart of all workers that is under way, and who waits for it. However many ask, there is one.

use procpool_scheduler::WorkerId;
use tokio::sync::watch;

use crate::snapshot::{Restart, RestartProgress};

/// A restart that is under way.
#[derive(Default)]
pub(super) struct RunningRestart {
    /// The youngest worker that is to be replaced.
    up_to: u64,
    progress: watch::Sender<RestartProgress>,
}

impl RunningRestart {
    /// Extends the restart to all of these workers; returns it for one more who waits.
    pub(super) fn extend<'a>(&mut self, workers: impl Iterator<Item = &'a WorkerId>) -> Restart {
        let mut num_workers = 0;
        for worker in workers {
            num_workers += 1;
            self.up_to = self.up_to.max(worker.generation);
        }
        self.progress.send_modify(|progress| progress.num_left = num_workers);
        Restart { num_workers, progress: self.progress.subscribe() }
    }

    /// A worker is gone, and these are left. `start_failure`: how it ended, if it did not become ready.
    pub(super) fn note_exit<'a>(
        &self,
        exited: WorkerId,
        left: impl Iterator<Item = &'a WorkerId>,
        start_failure: Option<&str>,
    ) {
        let num_left = left.filter(|worker| worker.generation <= self.up_to).count();
        let new_failure = start_failure.filter(|_| exited.generation > self.up_to);
        self.progress.send_modify(|progress| {
            progress.num_left = u32::try_from(num_left).unwrap_or(u32::MAX);
            if let Some(failure) = new_failure {
                failure.clone_into(&mut progress.start_failure);
            }
        });
    }

    pub(super) fn end(&self, is_complete: bool) {
        self.progress.send_modify(|progress| progress.end = Some(is_complete));
    }
}
