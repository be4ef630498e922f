//! A worker that stands still, by SIGSTOP or one of its kind, while it has something to run.
//!
//! It differs from one that is slow: it will never go on by itself, whatever its time limit. So it is made to go on, once
//! for each item; one that stands still again with the same item is given up.

use super::Session;
use crate::supervisor::process_group::Process;

/// Why a worker is killed that stands still.
const REASON: &str = "it was stopped (SIGSTOP) and, when it was made to go on, stopped again";

impl<P: Process> Session<P> {
    /// The worker stands still: has it go on or, if that was of no use, kills it.
    pub(super) fn make_go_on(&mut self) {
        let (worker, slot, pid) = (self.worker.generation, self.worker.slot.0, self.process.pid());
        let begun = self.begun();
        if self.resumed_at.replace(begun) == Some(begun) {
            tracing::warn!(
                worker,
                slot,
                pid,
                "worker was stopped again after SIGCONT, with the same item, and is killed"
            );
            self.give_up(REASON);
        } else {
            tracing::warn!(worker, slot, pid, "worker was stopped (SIGSTOP) while it has work; SIGCONT is sent");
            self.process.resume();
        }
    }
}
