//! The exit of a worker: counts, a line in the log, and what its items are told.

use procpool_scheduler::{StopReason, WorkerId};
use tracing::{debug, info, warn};

use super::Driver;
use super::entries::ExitReport;
use super::report::Happening;
use crate::error::{ExitUsage, WorkerExit};

impl Driver {
    /// Forgets a worker that is gone: counts it, logs it, and returns what its items are told.
    pub(super) fn worker_exited(
        &mut self,
        worker: WorkerId,
        (exit, usage): (WorkerExit, ExitUsage),
        was_running: bool,
        stderr_tail: String,
    ) -> ExitReport {
        let link = self.workers.remove(&worker);
        let (pid, is_ready, stop_reason) =
            link.as_ref().map_or((0, false, None), |link| (link.pid, link.is_ready, link.stop_reason));
        let (has_had_work, has_results) = link.map_or((false, false), |link| (link.has_had_work, link.has_results));
        let exit = if stop_reason == Some(StopReason::StartTimeout) { WorkerExit::StartTimeout } else { exit };
        let was_told_to = stop_reason.filter(|&reason| reason != StopReason::StartTimeout);
        if let Some(reason) = was_told_to {
            let (worker, slot) = (worker.generation, worker.slot.0);
            let (peak_rss_bytes, cpu_seconds) = (usage.peak_rss_bytes, usage.cpu_time.map(|time| time.as_secs_f64()));
            info!(worker, slot, pid, %exit, ?reason, peak_rss_bytes, cpu_seconds, "worker stopped");
        } else {
            self.warn_of_loss(worker, pid, &exit, is_ready, usage);
        }
        let failure = (was_told_to.is_none() && !has_results).then(|| {
            let when = if is_ready { " before it had finished anything" } else { "" };
            let last_line = stderr_tail.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
            let separator = if last_line.is_empty() { "" } else { ": " };
            format!("{exit}{when}{separator}{last_line}")
        });
        let detail = failure.clone().unwrap_or_else(|| exit.to_string());
        // One that dies of an item has started, though it be its first item.
        let start_failure = failure.filter(|_| !was_running).map(|how| format!("a worker {how}"));
        if let Some(restart) = &self.restart {
            restart.note_exit(worker, self.workers.keys(), start_failure.as_deref());
        }
        // One that had work may have died of that, and others start well.
        if let Some(failure) = start_failure.filter(|_| !has_had_work) {
            self.publisher.status.send_modify(|status| status.start_failure = failure);
        }
        self.reporter.report(&Happening::WorkerExited { worker, pid, exit: &exit, stop_reason, detail });
        ExitReport { exit, usage, pid, stderr_tail }
    }

    /// A worker has finished an item: what starts failed of is over.
    pub(super) fn forget_start_failure(&self) {
        self.publisher.status.send_if_modified(|status| {
            let is_known = !status.start_failure.is_empty();
            status.start_failure.clear();
            is_known
        });
    }

    fn warn_of_loss(&mut self, worker: WorkerId, pid: u32, exit: &WorkerExit, was_ready: bool, usage: ExitUsage) {
        let (worker, slot) = (worker.generation, worker.slot.0);
        let WorkerExit::SpawnFailed { reason, by_shortage } = exit else {
            let (peak_rss_bytes, cpu_seconds) = (usage.peak_rss_bytes, usage.cpu_time.map(|time| time.as_secs_f64()));
            if exit.is_ours() {
                warn!(worker, slot, pid, %exit, was_ready, peak_rss_bytes, cpu_seconds, "worker killed");
            } else {
                warn!(worker, slot, pid, %exit, was_ready, peak_rss_bytes, cpu_seconds, "worker exited unexpectedly");
            }
            return;
        };
        // Every slot looks twice a second whether a shortage is over. It is said once.
        if *by_shortage && std::mem::replace(&mut self.is_short, true) {
            debug!(worker, slot, reason, "worker can still not be started");
        } else {
            warn!(worker, slot, reason, "worker could not be started");
        }
    }
}
