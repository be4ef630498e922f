//! Refusing at once what could not be done in time: waiting for a deadline in the queue helps nobody.
//!
//! Under overload the queue grows until its items are just too late, and then the slots do nothing but what nobody waits
//! for any more. So a call is refused while what would go before it, and itself, takes longer than the time that is
//! left, by what the functions were measured to take and with a margin. Where an item could begin at once no call is
//! refused, whatever the measurements say: they may be wrong, and running is the way to find out.

use std::time::Duration;

use super::PoolState;
use crate::event::JobFailure;
use crate::id::{FunctionId, JobId};
use crate::job_spec::{Delivery, JobSpec};
use crate::time::saturating_nanos;
use crate::worker::Worker;

/// At most so many jobs of the queue are looked at; the rest is taken to be like them.
const MAX_JOBS_LOOKED_AT: usize = 128;
/// What is added to the estimate: run times vary, and what is begun and not finished in time is wasted.
const MARGIN_PERCENT: u32 = 25;
/// What an answer may take on its way, on a busy machine; counts for no more than the call itself.
const ANSWER_TIME: Duration = Duration::from_millis(10);
/// The bounds of what a refused caller is told to wait.
const MIN_RETRY_AFTER: Duration = Duration::from_millis(100);
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);

impl PoolState {
    /// Returns why a new job is refused, if it could not be done by its deadline.
    pub(super) fn refusal_for_time(&self, spec: &JobSpec) -> Option<JobFailure> {
        let remaining = spec.deadline?.since(self.now);
        // A deadline that has passed already is another error. Of a stream that is still open, nothing is known.
        let has_idle = self.idle_slots().any(|slot| slot.functions.has(spec.function));
        if remaining.is_zero() || has_idle || spec.num_items == 0 || !spec.input_closed {
            return None;
        }
        let expected = with_margin(self.expected_time(spec));
        let retry_after = expected.saturating_sub(remaining).clamp(MIN_RETRY_AFTER, MAX_RETRY_AFTER);
        (expected > remaining).then_some(JobFailure::DeadlineUnreachable { expected, remaining, retry_after })
    }

    /// Refuses the jobs whose turn it is and that have waited for too long.
    pub(super) fn refuse_late_jobs(&mut self) {
        while let Some(id) = self.queue.first() {
            let Some(failure) = self.refusal_after_waiting(id) else { break };
            self.fail_job(id, failure);
        }
    }

    /// Returns why a job whose turn it is should not begin any more: it cannot be done in time. Begun, it would be too
    /// late and in the way of the next, which would be too late in its turn, and so on for ever.
    pub(super) fn refusal_after_waiting(&self, id: JobId) -> Option<JobFailure> {
        let job = &self.jobs[&id];
        let remaining = job.spec.deadline?.since(self.now);
        let has_waited = job.queued_since.is_some_and(|since| since < self.now);
        if job.started || !has_waited || !job.spec.input_closed {
            return None;
        }
        let Own { work, last } = self.own_nanos(&job.spec);
        let needed = with_margin(from_nanos((work - last) / u128::from(self.num_slots) + last));
        let expected = needed.saturating_add(needed.min(ANSWER_TIME));
        let is_late = !needed.is_zero() && expected > remaining;
        is_late.then_some(JobFailure::DeadlineUnreachable { expected, remaining, retry_after: MIN_RETRY_AFTER })
    }

    /// Returns what a job itself takes, or a stream until its first result.
    fn own_nanos(&self, spec: &JobSpec) -> Own {
        let num_items = if spec.delivery == Delivery::Whole { spec.num_items } else { 1 };
        let last_chunk = num_items.min(u64::from(spec.chunk_size().unwrap_or(1)));
        let item = self.item_nanos_measured(spec.function);
        Own { work: item * u128::from(num_items), last: item * u128::from(last_chunk) }
    }

    /// Returns the time until a new job will be done, or have its first result if it is a stream: what its reader gets
    /// before the deadline may be all that it wants.
    fn expected_time(&self, spec: &JobSpec) -> Duration {
        let Own { work, last } = self.own_nanos(spec);
        // Whose virtual time is not later than that of this job's last chunk goes before it.
        let last_start = self.queue.now().charged(from_nanos(work - last), spec.options.priority);
        let slots = u128::from(self.num_slots);
        let running: u128 = self.workers().map(|worker| self.running_nanos(worker)).sum();
        let mut queued = 0;
        for (time, id) in self.queue.iter().take(MAX_JOBS_LOOKED_AT).take_while(|&(time, _)| time <= last_start) {
            let job = &self.jobs[&id];
            // What will not be begun in time is in nobody's way.
            let starts_at = self.now.after(from_nanos((running + queued) / slots));
            if job.spec.deadline.is_some_and(|deadline| deadline < starts_at) {
                continue;
            }
            let item = self.item_nanos_measured(job.spec.function);
            let share = saturating_nanos(time.run_time_until(last_start, job.spec.options.priority));
            queued += (item * u128::from(job.num_runnable())).min(item + u128::from(share));
        }
        let num_jobs = self.queue.len();
        if num_jobs > MAX_JOBS_LOOKED_AT {
            queued = queued * num_jobs as u128 / MAX_JOBS_LOOKED_AT as u128;
        }
        // No slot idles before the last chunk has begun.
        from_nanos((running + queued + work - last) / slots + last)
    }

    /// Returns how much longer a worker will be busy.
    fn running_nanos(&self, worker: &Worker) -> u128 {
        let nanos = worker.chunks.iter().enumerate().map(|(position, chunk)| {
            let num_items = if chunk.abandoned { 1 } else { chunk.remaining() };
            let all = self.item_nanos_measured(chunk.function) * u128::from(num_items);
            let running_for = self.now.since(chunk.dispatched_at).saturating_sub(chunk.busy);
            if position == 0 { all.saturating_sub(running_for.as_nanos()) } else { all }
        });
        nanos.sum()
    }

    /// Returns what an item of a function usually takes; nothing if that is not known.
    fn item_nanos_measured(&self, function: FunctionId) -> u128 {
        self.run_times.median(self.now, function).map_or(0, |time| u128::from(saturating_nanos(time)))
    }
}

/// What a job itself takes, in nanoseconds.
struct Own {
    /// All of it.
    work: u128,
    /// The chunk that is begun last.
    last: u128,
}

fn with_margin(time: Duration) -> Duration {
    time.saturating_add(time / 100 * MARGIN_PERCENT)
}

fn from_nanos(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
