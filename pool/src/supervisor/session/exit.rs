//! Reaps a dead worker, and reports what it had finished, what it was doing, and how it ended.

use std::os::unix::process::ExitStatusExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitStatus;
use std::sync::Arc;

use futures_util::FutureExt as _;

use super::chunks::LostItems;
use super::frames::failed_results;
use super::{KillCause, PANIC_REASON, Session};
use crate::error::{ExitUsage, ItemFailure, WorkerExit};
use crate::supervisor::interface::{ChunkResults, WorkerEvent, WorkerEventKind};
use crate::supervisor::process_group::Process;

/// SIGKILL.
const KILL: i32 = 9;
/// How much is read from a dead worker's socket. What it wrote itself is less, a socket's buffer; but a grandchild in a
/// group of its own may go on writing.
const MAX_LAST_BYTES: usize = 8 << 20;

/// How a process ended and what it had used, if that is not lost.
type End = std::io::Result<(ExitStatus, ExitUsage)>;

impl<P: Process> Session<P> {
    /// Reaps the worker, and reports to the driver what it left; neither waits for the other. The process must be dead.
    pub(super) async fn reap(mut self) {
        let process = Arc::clone(&self.process);
        // Before it is reaped.
        let end = catch_unwind(AssertUnwindSafe(|| self.end_of_process()));
        let tells = async {
            let told = match end {
                Ok(end) => AssertUnwindSafe(self.report_last_results(end)).catch_unwind().await,
                Err(panic) => Err(panic),
            };
            let exited = match told {
                Ok(exited) => exited,
                Err(_) => self.fail_all().await,
            };
            self.tell(exited).await;
        };
        // Should even this panic, the group is killed when the process is dropped.
        let (_, ()) = tokio::join!(AssertUnwindSafe(process.reap()).catch_unwind(), tells);
    }

    fn end_of_process(&self) -> End {
        let end = self.process.end();
        let is_orderly = self.running().is_none() && end.as_ref().is_ok_and(|(status, _)| status.code().is_some());
        if !is_orderly {
            // What it has started must not work on for an item that may soon be run elsewhere.
            self.process.kill();
        }
        end
    }

    /// Reports what the worker had finished; returns the last event.
    async fn report_last_results(&mut self, end: End) -> WorkerEventKind {
        self.read_output(|output, context| output.read_present(context));
        self.read_last_frames().await;
        let begun = self.begun();
        if let Some(results) = self.recover_journal() {
            self.tell(WorkerEventKind::Results(results)).await;
        }
        // These are neither in a frame nor in the journal.
        let detail = self.violation.as_deref().unwrap_or("began the next item without sending a result");
        let lost = self.chunks.take_lost(begun);
        self.fail_lost(lost, detail.to_owned()).await;
        let running = self.chunks.locate(begun).map(|(_, position)| (position.chunk, position.offset));
        let (exit, usage) = self.exit(end);
        tracing::debug!(
            worker = self.worker.generation,
            slot = self.worker.slot.0,
            pid = self.context.pid,
            was_running = running.is_some(),
            "worker {exit}"
        );
        self.note_front();
        let context = self.context;
        let stderr_tail = self.output.finish(|| context).await;
        WorkerEventKind::Exited { exit, usage, running, stderr_tail }
    }

    /// The report of its exit has panicked. Nobody knows what the worker had begun, and so all that it had fails. Returns the last
    /// event.
    async fn fail_all(&mut self) -> WorkerEventKind {
        tracing::error!(
            worker = self.worker.generation,
            slot = self.worker.slot.0,
            pid = self.context.pid,
            "the report of a worker's exit has panicked, which is a bug; everything that the worker had fails"
        );
        self.process.kill();
        // What it had said comes first, or the driver takes what follows for a mistake, and has items run again.
        self.tell_pending().await;
        let lost = self.chunks.take_all();
        self.fail_lost(lost, format!("its end is not known, since {PANIC_REASON}")).await;
        let exit = WorkerExit::GivenUp { reason: PANIC_REASON };
        let (usage, stderr_tail) = (ExitUsage::default(), String::new());
        WorkerEventKind::Exited { exit, usage, running: None, stderr_tail }
    }

    /// Fails items whose results are lost.
    async fn fail_lost(&self, lost: Vec<LostItems>, detail: String) {
        let failure = ItemFailure::WorkerProtocol { detail };
        for (chunk, kind, offsets) in lost {
            let results = failed_results(chunk, kind, offsets, &failure);
            self.tell(WorkerEventKind::Results(results)).await;
        }
    }

    /// Passes on what the worker sent before it died. A frame that was torn by its death is no result.
    async fn read_last_frames(&mut self) {
        let mut total = 0;
        loop {
            self.tell_pending().await;
            self.handle_frames();
            if !self.pending.is_empty() {
                continue;
            }
            let length = self.channel.read_last();
            total += length;
            if self.violation.is_some() || length == 0 || total > MAX_LAST_BYTES {
                return;
            }
        }
    }

    fn recover_journal(&mut self) -> Option<ChunkResults> {
        let page = self.page.as_ref().filter(|_| self.uses_page)?;
        match page.journal() {
            Ok(journal) => {
                let (first_sequence, items) = journal?;
                self.chunks.take_journal(first_sequence, items)
            }
            Err(error) => {
                tracing::warn!(worker = self.worker.generation, %error, "the journal of a dead worker cannot be read");
                None
            }
        }
    }

    fn exit(&mut self, end: End) -> (WorkerExit, ExitUsage) {
        let (exit, usage) = match end {
            Ok((status, usage)) => (self.exit_of(status), usage),
            Err(error) => {
                // Something else in this process has reaped our child, and its status with it.
                tracing::error!(worker = self.worker.generation, %error, "the exit status of a worker is lost");
                (WorkerExit::Code(-1), ExitUsage::default())
            }
        };
        (self.violation.take().map_or(exit, WorkerExit::Protocol), usage)
    }

    fn exit_of(&mut self, status: ExitStatus) -> WorkerExit {
        match (status.code(), status.signal()) {
            (Some(code), _) => WorkerExit::Code(code),
            // It may have died of something else before the signal came.
            (None, Some(KILL)) => match self.killed.take() {
                Some(KillCause::Ours(exit)) => exit,
                None if self.memory.kernel_has_killed() => WorkerExit::KernelOom,
                Some(KillCause::Told) | None => WorkerExit::Signal(KILL),
            },
            (None, Some(signal)) => WorkerExit::Signal(signal),
            (None, None) => WorkerExit::Code(status.into_raw()),
        }
    }

    /// Tells what the driver had no room for.
    async fn tell_pending(&mut self) {
        while let Some(kind) = self.pending.pop_front() {
            self.tell(kind).await;
        }
    }

    async fn tell(&self, kind: WorkerEventKind) {
        // If nobody listens, the driver is gone.
        let _ = self.events.send(WorkerEvent { worker: self.worker, kind }).await;
    }
}
