//! The item that runs: since when, with which stack, and how it is made to end. When it has to, [`ItemWatch`] says; it is
//! asked here, at the page, at once before whatever follows.
//!
//! What begins between the look and the signal cannot be told from what began before: that is a few instructions.
//!
//! [`ItemWatch`]: procpool_scheduler::ItemWatch

use std::time::Duration;

use procpool_ipc::page::monotonic_ns;
use procpool_ipc::proto;
use procpool_ipc::proto::server_frame::Frame as ServerFrame;
use procpool_scheduler::{ItemAction, RunningItem, Time};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::chunks::Position;
use super::{MAX_DUMP_WAITERS, Session};
use crate::error::DumpFailure;
use crate::supervisor::interface::WorkerEventKind;
use crate::supervisor::process_group::Process;

impl<P: Process> Session<P> {
    pub(super) fn now(&self) -> Time {
        Time::from_start(self.epoch.elapsed())
    }

    /// Returns when to look at the item that runs.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.items.next_look().filter(|_| self.ends_items()).map(|at| self.epoch + at.elapsed())
    }

    /// Returns whether the end of its items is our business. A worker that the driver has told to end is the driver's.
    fn ends_items(&self) -> bool {
        self.killed.is_none() && (!self.is_ending || self.items.has_terminated())
    }

    /// Looks at the item that runs, and does what is due.
    pub(super) fn look_at_items(&mut self) {
        if !self.ends_items() {
            return;
        }
        // An item whose result is there has ended.
        self.read_channel();
        self.handle_frames();
        let (now, running) = (self.now(), self.running());
        match self.items.look(now, self.chunks.watched(), running) {
            None => {}
            Some(ItemAction::Expire) => self.expire(running.expect("the time of an item that runs is up")),
            Some(ItemAction::Terminate(reason)) => {
                self.terminate();
                self.emit(WorkerEventKind::Stopping { reason });
            }
            Some(ItemAction::Kill) => self.kill(),
        }
    }

    /// Tells an item that its time is up, and the driver; but first its stack is looked at.
    fn expire(&mut self, item: RunningItem) {
        let RunningItem { chunk, offset, .. } = item;
        let position = Position { chunk, offset };
        let is_known = self.stack_of.as_ref().is_some_and(|(known, _)| *known == position);
        if !self.pending.is_empty() {
            return self.items.look_later(self.now());
        }
        if !is_known && (self.dumper.is_busy() || self.dumper.begin()) {
            self.dump_of = Some(position);
            return self.items.look_later(self.now());
        }
        let stack = self.stack_of.take().filter(|_| is_known).map(|(_, stack)| stack).unwrap_or_default();
        self.chunks.recall(chunk, false);
        self.send(ServerFrame::Recall(proto::Recall { chunk: chunk.0, cancel: true, cancel_offset: Some(offset) }));
        self.items.expire(self.now(), item);
        self.emit(WorkerEventKind::ItemExpired { chunk, offset, stack });
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
            // While its stack was taken the item may have ended, and another begun.
            self.look_at_items();
        }
    }

    /// Returns which item runs, and for how long. Without a start time, since its chunk was handed over.
    pub(super) fn running(&self) -> Option<RunningItem> {
        let (entry, Position { chunk, offset }) = self.chunks.locate(self.begun())?;
        let page = self.page.as_ref().filter(|_| self.uses_page);
        let stamp_ns = page.and_then(|page| page.begun_at_ns().ok()).unwrap_or(0);
        let began_at_ns = stamp_ns.max(entry.given_at_ns);
        let running_for = Duration::from_nanos(monotonic_ns().saturating_sub(began_at_ns));
        Some(RunningItem { chunk, offset, running_for })
    }
}
