//! What follows from the memory that results take ([`crate::results`] counts it).
//!
//! A job that delivers all together fails as soon as its results exceed what its answer can hold, or its share of the
//! budget for such jobs. A stream that holds more than its share is paused: nothing more of it begins, what has not begun
//! is asked back, and what runs may finish. When more is used nevertheless, by what was running, each stream gets what its
//! reader waits for and no more; and when even the limit is exceeded, so that too many readers take nothing, a stream
//! that holds nothing gets nothing.
//!
//! # Why a paused stream goes on
//!
//! A stream that holds results has some on their way to its reader, or it has none.
//!
//! - If it has some, either the reader takes them, and what it gives back is an event; or it takes nothing, and whoever
//!   has the call gives it up (the server after its `stream_stall_timeout`).
//! - If it has none, all that it holds comes after an item without outcome. The reader waits for that item, and it may
//!   begin ([`Hold::AllButNext`]). With its outcome, what comes after it is on its way to the reader.
//!
//! A stream that holds nothing is paused only while the limit is exceeded, by others that hold something.

use super::PoolState;
use crate::event::{Effect, Hold, JobFailure, ResultSize};
use crate::id::{ChunkId, JobId, WorkerId};
use crate::job_spec::Delivery;
use crate::results::Level;

impl PoolState {
    /// Counts results of a job, and fails or pauses it if they are too many.
    pub(super) fn count_results(&mut self, id: JobId, size: ResultSize) {
        let Some(job) = self.jobs.get_mut(&id) else { return self.results.count_of_ended(id, size.held) };
        self.results.count(id, job.spec.delivery, &mut job.results, size);
        if job.spec.delivery != Delivery::Whole {
            if job.hold != self.results.hold_of(&job.results) {
                self.update_hold(id);
            }
            return;
        }
        let bytes = job.results.answer_bytes;
        let budget = &self.results.whole;
        let failure = match job.spec.max_answer_bytes {
            Some(limit) if bytes > limit => JobFailure::ResultsTooLarge { bytes, limit },
            _ if job.results.bytes > budget.share() => JobFailure::ResultsFull { limit: budget.limit },
            _ => return,
        };
        self.fail_job(id, failure);
    }

    /// Readers have given back results of a job.
    pub(super) fn take_back_results(&mut self, id: JobId, bytes: u64, count: u64) {
        if let Some(job) = self.jobs.get_mut(&id) {
            debug_assert!(count <= job.results.delivered, "nobody gives back what was not delivered");
            job.results.delivered = job.results.delivered.saturating_sub(count);
        }
        let held = i64::try_from(bytes).map_or(i64::MIN, |bytes| -bytes);
        self.count_results(id, ResultSize { held, answer: 0 });
    }

    /// Pauses or resumes a stream, as it now holds more than it should or not.
    pub(super) fn update_hold(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.spec.delivery != Delivery::Whole) else { return };
        let hold = self.results.hold_of(&job.results);
        let before = std::mem::replace(&mut job.hold, hold);
        if hold == before {
            return;
        }
        let (entry, has_chunks) = ((job.results.bytes, id), job.num_chunks > 0);
        if hold == Hold::Nothing {
            self.results.paused.remove(&entry);
        } else {
            self.results.paused.insert(entry);
        }
        self.emit(Effect::HoldChanged { job: id, hold });
        if before == Hold::Nothing && has_chunks {
            self.recall_what_has_not_begun(id);
        }
        self.refresh(id);
    }

    /// Looks at the streams that others concern: those that have used the budget up, or have left some of it.
    pub(super) fn update_holds(&mut self) {
        let level = self.results.streams.level();
        let before = std::mem::replace(&mut self.results.level, level);
        let concerned: Vec<JobId> = if level > before && level >= Level::Full {
            // Those, too, that hold nothing.
            self.jobs.keys().copied().collect()
        } else if level < before {
            self.results.paused.iter().map(|&(_, job)| job).collect()
        } else if level == Level::Shared {
            let share = self.results.streams.share();
            self.results.paused.iter().take_while(|&&(bytes, _)| bytes <= share).map(|&(_, job)| job).collect()
        } else {
            return;
        };
        for job in concerned {
            self.update_hold(job);
        }
    }

    /// A chunk may be long, and the results of one item large.
    fn recall_what_has_not_begun(&mut self, id: JobId) {
        let mut chunks: Vec<(WorkerId, ChunkId)> = Vec::new();
        for worker in self.workers().filter(|worker| worker.is_up()) {
            for (position, chunk) in worker.chunks.iter().enumerate() {
                let begun = u32::from(position == 0);
                if chunk.job == id && !chunk.abandoned && chunk.remaining() > begun {
                    chunks.push((worker.id, chunk.id));
                }
            }
        }
        for (worker, chunk) in chunks {
            self.recall(worker, chunk);
        }
    }
}

#[cfg(test)]
#[path = "results_tests.rs"]
mod tests;
