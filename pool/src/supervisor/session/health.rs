//! What is done about a worker that does not do well: the [monitor](crate::supervisor::monitor) has seen that it holds too
//! much memory, or is stopped while it has something to run; or it gives no sign of life ([`super::ping`]).
//!
//! A worker that is stopped, by SIGSTOP or one of its kind, differs from one that is slow: it never goes on by itself,
//! whatever its time limit. So it gets SIGCONT, once for each item; one that is stopped again with the same item is killed.

use procpool_ipc::proto;
use procpool_ipc::proto::server_frame::Frame as ServerFrame;

use super::memory::Verdict;
use super::ping::{Look, Seen};
use super::{KillCause, Session, Stage};
use crate::error::WorkerExit;
use crate::supervisor::interface::WorkerEventKind;
use crate::supervisor::process_group::Process;

/// Why a worker is killed that is stopped again.
const STOPPED_REASON: &str = "it was stopped (SIGSTOP) and, when it was made to go on, stopped again";

impl<P: Process> Session<P> {
    /// The worker was looked at.
    pub(super) fn take_reading(&mut self) {
        let Some(watch) = &self.watch else { return };
        let is_busy = self.chunks.front().is_some() || self.stage != Stage::Ready;
        if self.killed.is_some() || !is_busy {
            watch.rest();
        }
        if self.killed.is_some() {
            return;
        }
        let reading = watch.reading();
        let has_worked = self.context.chunk.is_some();
        let (worker, slot, pid) = (self.worker.generation, self.worker.slot.0, self.process.pid());
        match self.memory.judge(reading.rss_bytes, has_worked) {
            Verdict::Fine => {}
            Verdict::High { rss_bytes } => {
                tracing::info!(worker, slot, pid, rss_bytes, "worker holds much memory and is to be replaced");
                self.emit(WorkerEventKind::MemoryHigh);
            }
            Verdict::OverLimit { rss_bytes, limit_bytes } => {
                tracing::warn!(worker, slot, pid, rss_bytes, limit_bytes, "worker holds too much memory and is killed");
                self.killed.get_or_insert(KillCause::Ours(WorkerExit::MemoryLimit { rss_bytes, limit_bytes }));
                return self.kill();
            }
        }
        if reading.is_stopped && is_busy {
            self.resume_stopped();
        }
    }

    /// Sends SIGCONT to a worker that is stopped; kills it if that was done before for the same item.
    fn resume_stopped(&mut self) {
        let (worker, slot, pid) = (self.worker.generation, self.worker.slot.0, self.process.pid());
        let begun = self.begun();
        if self.resumed_at.replace(begun) == Some(begun) {
            tracing::warn!(
                worker,
                slot,
                pid,
                "worker was stopped again after SIGCONT, with the same item, and is killed"
            );
            self.give_up(STOPPED_REASON);
        } else {
            tracing::warn!(worker, slot, pid, "worker was stopped (SIGSTOP) while it has work; SIGCONT is sent");
            self.process.resume();
        }
    }

    /// Checks for a sign of life; asks for one, or kills the worker.
    pub(super) fn look_for_life(&mut self) {
        // What is there to be read and was not yet must not be held against it.
        self.read_channel();
        let seen = self.chunks.front().filter(|_| !self.is_ending).map(|front| Seen {
            begun: self.begun(),
            is_active: self.running().is_some() || !self.may_read(),
            time_limit: front.time_limit,
            num_bytes: self.chunks.num_bytes(),
        });
        match self.ping.look(seen) {
            Look::Fine => {}
            Look::Ask => self.send(ServerFrame::Ping(proto::Ping::default())),
            Look::Lifeless { message, reason } => {
                let (worker, slot, pid) = (self.worker.generation, self.worker.slot.0, self.process.pid());
                tracing::warn!(worker, slot, pid, "{message}");
                self.give_up(reason);
            }
        }
    }
}
