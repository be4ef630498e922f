//! After the death of a worker: what had it finished, what was it doing, how did it end?

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use super::frames::failed_results;
use super::{KillCause, Session};
use crate::error::{ExitUsage, ItemFailure, WorkerExit};
use crate::supervisor::process_group::Process;
use crate::supervisor::{ChunkResults, WorkerEvent, WorkerEventKind};

/// SIGKILL.
const KILL: i32 = 9;
/// How much is read from a dead worker's socket. What it wrote itself is less, a socket's buffer; but a grandchild in a
/// group of its own may go on writing.
const MAX_LAST_BYTES: usize = 8 << 20;

impl<P: Process> Session<P> {
    /// Buries the worker: kills what is left of its group, reaps it, and tells the driver what it left. The process must
    /// be dead.
    pub(super) async fn bury(mut self) {
        let end = self.process.bury();
        self.read_output(|output, context| output.read_present(context));
        self.read_last_frames().await;
        let begun = self.begun();
        if let Some(results) = self.recover_journal() {
            self.tell(WorkerEventKind::Results(results)).await;
        }
        // These are neither in a frame nor in the journal.
        let detail = self.violation.as_deref().unwrap_or("began the next item without sending a result");
        let lost = ItemFailure::WorkerProtocol { detail: detail.to_owned() };
        for (chunk, kind, offsets) in self.ledger.take_lost(begun) {
            let results = failed_results(chunk, kind, offsets, &lost);
            self.tell(WorkerEventKind::Results(results)).await;
        }
        let running = self.ledger.locate(begun).map(|(_, position)| (position.chunk, position.offset));
        let (exit, usage) = self.exit(end);
        tracing::debug!(
            worker = self.worker.generation,
            slot = self.worker.slot.0,
            pid = self.context.pid,
            was_running = running.is_some(),
            "worker {exit}"
        );
        self.note_front();
        let Self { worker, events, output, context, .. } = self;
        let stderr_tail = output.finish(|| context);
        // If nobody listens, the driver is gone.
        let _ = events
            .send(WorkerEvent { worker, kind: WorkerEventKind::Exited { exit, usage, running, stderr_tail } })
            .await;
    }

    /// Passes on what the worker sent before it died. A frame that was torn by its death is no result.
    async fn read_last_frames(&mut self) {
        let mut total = 0;
        loop {
            while let Some(kind) = self.pending.pop_front() {
                self.tell(kind).await;
            }
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
                self.ledger.take_journal(first_sequence, items)
            }
            Err(error) => {
                tracing::warn!(worker = self.worker.generation, %error, "the journal of a dead worker cannot be read");
                None
            }
        }
    }

    fn exit(&mut self, end: std::io::Result<(ExitStatus, ExitUsage)>) -> (WorkerExit, ExitUsage) {
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
                Some(KillCause::Memory(exit)) => exit,
                None if self.memory.kernel_has_killed() => WorkerExit::KernelOom,
                Some(KillCause::Other) | None => WorkerExit::Signal(KILL),
            },
            (None, Some(signal)) => WorkerExit::Signal(signal),
            (None, None) => WorkerExit::Code(status.into_raw()),
        }
    }

    async fn tell(&self, kind: WorkerEventKind) {
        // If nobody listens, the driver is gone.
        let _ = self.events.send(WorkerEvent { worker: self.worker, kind }).await;
    }
}
