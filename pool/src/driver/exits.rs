//! What a worker leaves when it is gone: counts, a line in the log, and what its items are told.

use procpool_scheduler::{StopReason, WorkerId, WorkerState};
use tracing::{info, warn};

use super::Driver;
use crate::error::{ExitUsage, WorkerExit, exit_reason};

/// How a worker ended.
pub(super) struct ExitReport {
    pub(super) exit: WorkerExit,
    pub(super) usage: ExitUsage,
    pub(super) pid: u32,
    pub(super) stderr_tail: String,
}

impl Driver {
    pub(super) fn bury(
        &mut self,
        worker: WorkerId,
        exit: WorkerExit,
        usage: ExitUsage,
        stderr_tail: String,
    ) -> ExitReport {
        let link = self.workers.remove(&worker);
        let (pid, is_ready, stop_reason) =
            link.map_or((0, false, None), |link| (link.pid, link.is_ready, link.stop_reason));
        let exit = if stop_reason == Some(StopReason::StartTimeout) { WorkerExit::StartTimeout } else { exit };
        *self.counts.worker_exits_total.entry(exit_reason(&exit, stop_reason)).or_default() += 1;
        if let Some(observation) = &mut self.observation {
            observation.worker_exited(worker, &exit, stop_reason);
        }
        let (worker_id, slot) = (worker.generation, worker.slot.0);
        let peak_rss_bytes = usage.peak_rss_bytes;
        let cpu_seconds = usage.cpu_time.map(|time| time.as_secs_f64());
        let was_told_to = stop_reason.filter(|&reason| reason != StopReason::StartTimeout);
        if let Some(reason) = was_told_to {
            info!(worker = worker_id, slot, pid, %exit, ?reason, peak_rss_bytes, cpu_seconds, "worker stopped");
        } else {
            warn!(
                worker = worker_id,
                slot,
                pid,
                %exit,
                was_ready = is_ready,
                peak_rss_bytes,
                cpu_seconds,
                "worker exited unexpectedly"
            );
        }
        let has_failed_to_start = !is_ready && was_told_to.is_none();
        let how = if has_failed_to_start { with_last_words(&exit, &stderr_tail) } else { exit.to_string() };
        let start_failure = has_failed_to_start.then(|| format!("a worker {how}"));
        self.note_progress(worker, start_failure.as_deref());
        if let Some(failure) = start_failure {
            self.publisher.status.send_modify(|status| status.start_failure = failure);
        }
        self.worker_changed(worker, pid, WorkerState::Exited, || how);
        ExitReport { exit, usage, pid, stderr_tail }
    }
}

fn with_last_words(exit: &WorkerExit, stderr_tail: &str) -> String {
    match stderr_tail.lines().rev().find(|line| !line.trim().is_empty()) {
        Some(last_words) => format!("{exit}: {last_words}"),
        None => exit.to_string(),
    }
}
