//! What the results of jobs take. The scheduler counts it and decides what follows; what it cannot know when they come is
//! known here when they are stored, and is told at once (`Event::ResultsRecounted`).

use procpool_scheduler::{JobId, ResultSize};

use super::Driver;
use super::report::Happening;
use crate::outcome::OutcomeRun;
use crate::payload::JobPayload;

impl Driver {
    /// Keeps outcomes of a job until they are delivered. `counted`: what the scheduler takes them for.
    pub(super) fn store(&mut self, job: JobId, run: OutcomeRun, counted: ResultSize) {
        let Some(entry) = self.jobs.get_mut(&job) else { return };
        self.reporter.report(&Happening::OutcomesStored { function: &entry.payload.header.function, run: &run });
        let size = entry.payload.store(run);
        self.recount(job, size, counted);
    }

    /// Drops what nobody gets of a job that has failed.
    pub(super) fn drop_results(&mut self, job: JobId, payload: &JobPayload) {
        let counted = ResultSize { held: payload.held_bytes().cast_signed(), answer: 0 };
        self.recount(job, ResultSize::default(), counted);
    }

    fn recount(&mut self, job: JobId, size: ResultSize, counted: ResultSize) {
        if size != counted {
            let change = self.recounts.entry(job).or_default();
            change.held += size.held - counted.held;
            change.answer += size.answer - counted.answer;
        }
    }
}
