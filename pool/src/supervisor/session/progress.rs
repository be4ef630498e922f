//! What runs at a worker, since when, and with which stack: for whoever asks, and for whoever would end it.

use std::time::Duration;

use procpool_ipc::page::monotonic_ns;
use procpool_scheduler::RunningItem;
use tokio::sync::oneshot;

use super::chunks::Position;
use super::{MAX_DUMP_WAITERS, Session};
use crate::error::DumpFailure;
use crate::supervisor::interface::WorkerEventKind;
use crate::supervisor::process_group::Process;

impl<P: Process> Session<P> {
    /// Tells which item runs and for how long. Before the answer that makes an item fail comes a look at its stack.
    pub(super) fn probe(&mut self) {
        let known = self.stack_of.as_ref().map(|(position, _)| *position);
        match self.progress() {
            Some((position, running_for, Some(limit)))
                if running_for >= limit
                    && known != Some(position)
                    && (self.dumper.is_busy() || self.dumper.begin()) =>
            {
                self.dump_of = Some(position);
            }
            _ => self.tell_progress(),
        }
    }

    pub(super) fn dump_for(&mut self, answer: oneshot::Sender<Result<String, DumpFailure>>) {
        let failure = if self.dump_waiters.len() >= MAX_DUMP_WAITERS {
            DumpFailure::Busy
        } else if self.dumper.is_busy() || self.dumper.begin() {
            return self.dump_waiters.push(answer);
        } else {
            DumpFailure::NotSupported
        };
        // Whoever asked may be gone.
        let _ = answer.send(Err(failure));
    }

    pub(super) fn continue_dump(&mut self) {
        let Some(stack) = self.dumper.advance() else { return };
        tracing::debug!(
            worker = self.worker.generation,
            pid = self.process.pid(),
            bytes = stack.len(),
            "stacks dumped"
        );
        for waiter in self.dump_waiters.drain(..) {
            let answer = if stack.is_empty() { Err(DumpFailure::NoAnswer) } else { Ok(stack.clone()) };
            // Whoever asked may be gone.
            let _ = waiter.send(answer);
        }
        if let Some(position) = self.dump_of.take() {
            self.stack_of = Some((position, stack));
            self.tell_progress();
        }
    }

    /// Returns whether an item has begun since the last Progress. Nobody may be ended for what that said, then. Who looks does
    /// so at once before the signal: what begins between the two cannot be told from what began before.
    pub(super) fn has_gone_on(&self) -> bool {
        let running = self.progress().map(|(position, ..)| position);
        running.is_some() && running != self.told
    }

    pub(super) fn tell_progress(&mut self) {
        let progress = self.progress();
        self.told = progress.map(|(position, ..)| position);
        // While its stack was taken the item may have ended, and another begun.
        let is_of = |position| progress.is_some_and(|(now, ..)| now == position);
        let stack = self.stack_of.as_ref().filter(|(position, _)| is_of(*position));
        let stack = stack.map_or_else(String::new, |(_, stack)| stack.clone());
        let running =
            progress.map(|(Position { chunk, offset }, running_for, _)| RunningItem { chunk, offset, running_for });
        // Only the latest answer is of use.
        self.pending.retain(|kind| !matches!(kind, WorkerEventKind::Progress { .. }));
        self.emit(WorkerEventKind::Progress { running, stack });
    }

    /// Returns which item runs, for how long, and how long it may. Without a start time, since its chunk was handed
    /// over.
    pub(super) fn progress(&self) -> Option<(Position, Duration, Option<Duration>)> {
        let (entry, position) = self.chunks.locate(self.begun())?;
        let page = self.page.as_ref().filter(|_| self.uses_page);
        let stamp_ns = page.and_then(|page| page.begun_at_ns().ok()).unwrap_or(0);
        let began_at_ns = stamp_ns.max(entry.given_at_ns);
        let running_for = Duration::from_nanos(monotonic_ns().saturating_sub(began_at_ns));
        Some((position, running_for, entry.time_limit))
    }
}
