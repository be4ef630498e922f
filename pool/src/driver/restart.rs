//! The restart of all workers that is under way, and who waits for it. However many ask, there is one.

use procpool_scheduler::{Event, Readiness, WorkerId};
use tokio::sync::watch;
use tracing::{info, warn};

use super::Driver;
use crate::snapshot::{PoolEvent, Restart, RestartProgress};

/// A restart that is under way.
pub(super) struct RunningRestart {
    /// The youngest worker that is to be replaced.
    up_to: u64,
    progress: watch::Sender<RestartProgress>,
}

impl Driver {
    /// Has every worker replaced that there is now; `None` if the pool is ending. If there is a restart already, it goes
    /// on until these are replaced, too.
    pub(super) fn begin_restart(&mut self) -> Option<Restart> {
        if matches!(self.state.readiness(), Readiness::Draining | Readiness::Stopped) {
            return None;
        }
        let num_workers = u32::try_from(self.workers.len()).unwrap_or(u32::MAX);
        let up_to = self.workers.keys().map(|worker| worker.generation).max().unwrap_or(0);
        info!(workers = num_workers, "workers are being replaced");
        let begun = || RunningRestart { up_to, progress: watch::Sender::default() };
        let running = self.restart.get_or_insert_with(begun);
        running.up_to = up_to;
        running.progress.send_modify(|progress| progress.num_left = num_workers);
        let restart = Restart { num_workers, progress: running.progress.subscribe() };
        self.tell_watchers(|| PoolEvent::RestartBegan { num_workers });
        self.apply_plain(Event::RestartRequested);
        Some(restart)
    }

    /// A worker is gone. `start_failure`: how, if it did not become ready.
    pub(super) fn note_progress(&mut self, worker: WorkerId, start_failure: Option<&str>) {
        let Some(RunningRestart { up_to, progress }) = &self.restart else { return };
        let num_left = self.workers.keys().filter(|worker| worker.generation <= *up_to).count();
        let new_failure = start_failure.filter(|_| worker.generation > *up_to);
        progress.send_modify(|progress| {
            progress.num_left = u32::try_from(num_left).unwrap_or(u32::MAX);
            if let Some(failure) = new_failure {
                failure.clone_into(&mut progress.start_failure);
            }
        });
    }

    pub(super) fn end_restart(&mut self, is_complete: bool) {
        if is_complete {
            info!("workers have been replaced");
        } else {
            warn!("workers have not been replaced: the pool is ending");
        }
        self.tell_watchers(|| PoolEvent::RestartEnded { is_complete });
        if let Some(running) = self.restart.take() {
            running.progress.send_modify(|progress| progress.end = Some(is_complete));
        }
    }
}
