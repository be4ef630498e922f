//! What operators see of jobs, and how they end one.

use procpool_scheduler::{Event, JobId, JobSnapshot, Time};
use tracing::info;

use super::Driver;
use super::entries::Occasion;
use crate::snapshot::JobReport;

impl Driver {
    pub(super) fn job_reports(&self, jobs: &[JobSnapshot]) -> Vec<JobReport> {
        let now = Time::from_start(self.epoch.elapsed());
        let reports = jobs.iter().filter_map(|job| {
            let entry = self.jobs.get(&job.id)?;
            Some(JobReport {
                job: job.clone(),
                label: entry.label.clone(),
                function: entry.payload.header.function.to_string(),
                trace: (*entry.payload.header.trace).clone(),
                num_failed_items: entry.payload.num_failed,
                age: entry.submitted_at.elapsed(),
                remaining_time: job.deadline.map(|deadline| deadline.since(now)),
            })
        });
        reports.collect()
    }

    /// Ends a job as if its caller were gone, but tells the caller who has ended it. Returns whether there is such a job.
    pub(super) fn cancel_by_operator(&mut self, job: JobId) -> bool {
        let Some(entry) = self.jobs.get(&job) else { return false };
        let (function, request_id) = (&*entry.payload.header.function, &entry.label.request_id);
        info!(job = job.0, function, request_id, "job is cancelled by an operator");
        self.apply(Event::JobCancelled { job }, &Occasion::CancelledByOperator);
        true
    }
}
