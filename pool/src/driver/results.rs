//! What the driver does about results that take too much memory.
//!
//! A job that delivers all together fails as soon as its results pass what its answer can hold, or what it may hold of the
//! room for such jobs. A stream that holds more than it may is paused: nothing more of it begins, but what runs may
//! finish. How much a job may hold is told in [`crate::results`]. Should the room for streams be full nevertheless, because
//! of what was running, each stream gets what its reader waits for and no more; and should even its limit be passed, so
//! that the readers that take nothing must be too many, only those streams get on that let some memory go by it.
//!
//! # Why what is held goes on
//!
//! A stream that holds results has some on their way to its reader, or it has not.
//!
//! - If it has, then either the reader takes them, and what it gives back is looked at; or it takes nothing, and whoever
//!   has the call gives it up (the server after its `stream_stall_timeout`).
//! - If it has not, all that it holds comes after an item without outcome. The reader waits for that item, and it is not
//!   held ([`Hold::AllButNext`]). With its outcome, what comes after it is on its way to the reader.
//!
//! A stream that holds nothing is held only while the limit is passed, by others that hold something.

use procpool_scheduler::{Event, Hold, JobId, WorkerId};
use tracing::debug;

use super::Driver;
use super::entries::{JobEntry, Occasion};
use super::report::Happening;
use crate::error::CallError;
use crate::outcome::OutcomeRun;
use crate::outlet::Outlet;
use crate::supervisor::ChunkResults;

impl Driver {
    /// Results of a chunk are coming in: if they are too much for a stream, it is paused before the next chunk is chosen.
    pub(super) fn expect_results(&mut self, worker: WorkerId, results: &ChunkResults) {
        let coming = results.items.len() as u64;
        if let Some(job) = self.state.job_of(worker, results.chunk)
            && let Some(JobEntry { payload, outlet: Outlet::Stream(_), hold: Hold::Nothing, .. }) = self.jobs.get(&job)
            && self.results.hold_of(&payload.account, coming) != Hold::Nothing
        {
            self.update_hold(job, coming);
        }
    }

    /// Keeps outcomes of a job until they are delivered, if there is room for them.
    pub(super) fn store(&mut self, job: JobId, run: OutcomeRun) {
        let Some(entry) = self.jobs.get_mut(&job) else { return };
        self.reporter.report(&Happening::OutcomesStored { function: &entry.payload.header.function, run: &run });
        entry.payload.store(run);
        if matches!(entry.outlet, Outlet::Whole(_)) && entry.refusal.is_none() {
            let bytes = entry.payload.answer_bytes;
            let room = &self.results.budget.whole;
            entry.refusal = match entry.max_answer_bytes {
                Some(limit) if bytes > limit => Some(CallError::ResultsTooLarge { bytes, limit }),
                _ if entry.payload.account.holds_too_much_with(0) => Some(CallError::ResultsFull { limit: room.limit }),
                _ => None,
            };
            if entry.refusal.is_some() {
                entry.payload.refuse_outcomes();
            }
        }
        self.results.stored.push(job);
    }

    /// Does what follows from the results that were stored and delivered, and what follows from that: one after the other.
    /// If each began within the one before, the stack would have to be as deep as there are jobs.
    pub(super) fn settle_results(&mut self) {
        while !self.results.stored.is_empty() {
            let level = self.results.budget.streams.level_with(0);
            if level > self.results.level {
                // Now it concerns those, too, that hold nothing.
                self.results.stored.extend(self.jobs.keys());
            }
            self.results.level = level;
            let Some(job) = self.results.stored.pop() else { return };
            match self.jobs.get(&job) {
                Some(JobEntry { refusal: Some(_), .. }) => {
                    self.apply_one(Event::ResultsRefused { job }, &Occasion::Nothing);
                }
                Some(JobEntry { outlet: Outlet::Stream(_), .. }) => self.update_hold(job, 0),
                _ => {}
            }
        }
    }

    /// Readers have given something back: resumes what may go on.
    pub(super) fn resume_streams(&mut self) {
        self.results.level = self.results.budget.streams.level_with(0);
        for job in self.results.held.clone() {
            self.update_hold(job, 0);
        }
        self.settle_results();
    }

    /// Pauses or resumes a stream's dispatch according to its result budget; `coming` is the size of results about to be
    /// stored. What follows is left to [`Driver::settle_results`].
    fn update_hold(&mut self, job: JobId, coming: u64) {
        let Some(entry) = self.jobs.get_mut(&job) else { return };
        let mut hold = self.results.hold_of(&entry.payload.account, coming);
        if hold != Hold::Nothing && self.results.held.is_empty() {
            self.results.budget.await_room(true);
            hold = self.results.hold_of(&entry.payload.account, coming);
        }
        if hold == Hold::Nothing {
            self.results.forget(job);
        } else {
            self.results.held.insert(job);
        }
        if std::mem::replace(&mut entry.hold, hold) != hold {
            let (stored, handed_out) = (entry.payload.account.stored(), entry.payload.account.handed_out());
            debug!(job = job.0, ?hold, stored, handed_out, "stream paused or resumed");
            self.apply_one(Event::StreamHeld { job, hold }, &Occasion::Nothing);
        }
    }
}
