//! Refusing at once what could not be done in time: waiting for a deadline in the queue helps nobody.
//!
//! The estimate is the least that the call may take, by what its function and those ahead of it were measured to take:
//! a call is refused only if even that is too long. Where an item could run at once, no call is refused, whatever the
//! measurements say: they may be wrong, and running is the way to find out.

use std::time::Duration;

use super::PoolState;
use crate::event::{Delivery, JobFailure, JobSpec};
use crate::time::saturating_nanos;

/// At most so many jobs of the queue are looked at; the rest is taken to be like them.
const MAX_JOBS_LOOKED_AT: usize = 128;
/// The bounds of what a refused caller is told to wait.
const MIN_RETRY_AFTER: Duration = Duration::from_millis(100);
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);

impl PoolState {
    /// Returns why a new job is refused, if it could not be done by its deadline.
    pub(super) fn refusal_for_time(&self, spec: &JobSpec) -> Option<JobFailure> {
        let remaining = spec.deadline?.since(self.now);
        // A deadline that has passed already is another error. Of a stream that is still open, nothing is known.
        if remaining.is_zero() || self.queue.len() == 0 || spec.num_items == 0 || !spec.input_closed {
            return None;
        }
        let expected = self.least_time(spec);
        let retry_after = expected.saturating_sub(remaining).clamp(MIN_RETRY_AFTER, MAX_RETRY_AFTER);
        (expected > remaining).then_some(JobFailure::DeadlineUnreachable { expected, remaining, retry_after })
    }

    /// Returns the least time until a new job is done, or has its first result if it is a stream: what its reader gets
    /// before the deadline may be all that it wants.
    fn least_time(&self, spec: &JobSpec) -> Duration {
        let num_items = if spec.delivery == Delivery::Whole { spec.num_items } else { 1 };
        let last_chunk = num_items.min(u64::from(spec.chunk_size.unwrap_or(1)));
        let item = self.least_nanos(spec);
        let (work, last) = (item * u128::from(num_items), item * u128::from(last_chunk));
        // Whose virtual time is not later than that of this job's last chunk goes before it.
        let last_start = self.queue.now().charged(from_nanos(work - last), spec.priority);
        let slots = u128::from(self.num_slots());
        let (mut ahead, mut longest) = (0, 0);
        for (time, id) in self.queue.iter().take(MAX_JOBS_LOOKED_AT).take_while(|&(time, _)| time <= last_start) {
            let job = &self.jobs[&id];
            // What will not be done in time itself is in nobody's way.
            if job.spec.deadline.is_some_and(|deadline| self.now.after(from_nanos(ahead / slots)) > deadline) {
                continue;
            }
            let item = self.least_nanos(&job.spec);
            let share = saturating_nanos(time.run_time_until(last_start, job.spec.priority));
            longest = item.max(longest);
            ahead += (item * u128::from(job.num_runnable())).min(item + u128::from(share));
        }
        let num_jobs = self.queue.len();
        if num_jobs > MAX_JOBS_LOOKED_AT {
            ahead = ahead * num_jobs as u128 / MAX_JOBS_LOOKED_AT as u128;
        }
        // When this job's turn comes, the other slots may have only just begun with what was ahead of it.
        let ahead = ahead.saturating_sub((slots - 1) * longest);
        from_nanos((ahead / slots + last).max((ahead + work) / slots))
    }

    /// Returns the least that an item of a job takes; nothing if that is not known.
    fn least_nanos(&self, spec: &JobSpec) -> u128 {
        self.measured.of(self.now, spec.function).map_or(0, |time| u128::from(saturating_nanos(time)))
    }
}

fn from_nanos(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
