//! Jobs come, get outcomes, and end.

use std::time::Duration;

use super::PoolState;
use super::parameters::{FailedAt, ItemsOf};
use crate::backoff::retry_backoff;
use crate::event::{Effect, FailureCause, Hold, JobFailure, Readiness, ResultSize};
use crate::id::{JobId, SlotId, WorkerId};
use crate::job::{History, Job};
use crate::job_spec::{Delivery, JobSpec};
use crate::timer::TimerKey;
use crate::worker::ActiveChunk;

/// What runs on after its call has failed, and has no time limit of its own, is cancelled after this long.
const MAX_TIME_FOR_NOBODY: Duration = Duration::from_secs(60);

impl PoolState {
    pub(super) fn submit(&mut self, spec: JobSpec) {
        let id = spec.id;
        let refusal = match self.readiness {
            Readiness::Ready if self.is_lost(spec.function) => Some(JobFailure::NoFunction { started: false }),
            Readiness::Starting | Readiness::Ready => self.refusal_for_time(&spec),
            Readiness::Degraded => Some(JobFailure::Degraded { started: false }),
            Readiness::Draining | Readiness::Stopped => Some(JobFailure::Draining { started: false }),
        };
        if let Some(failure) = refusal {
            return self.emit(Effect::FailJob { job: id, failure });
        }
        if let Some(deadline) = spec.deadline {
            self.timers.set(TimerKey::Deadline(id), deadline);
        }
        self.results.of(spec.delivery).num_jobs += 1;
        self.jobs.insert(id, Job::new(spec));
        self.update_hold(id);
        self.refresh(id);
        self.complete_if_done(id, None);
    }

    pub(super) fn add_items(&mut self, id: JobId, count: u64, item_bytes: u64) {
        if let Some(job) = self.jobs.get_mut(&id) {
            debug_assert!(!job.spec.input_closed, "items after the end of the input");
            job.spec.num_items += count;
            job.spec.item_bytes = job.spec.item_bytes.max(item_bytes);
            self.refresh(id);
        }
    }

    pub(super) fn close_input(&mut self, id: JobId) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.spec.input_closed = true;
            self.complete_if_done(id, None);
        }
    }

    pub(super) fn take_results(&mut self, id: JobId, total: u64) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.taken = job.taken.max(total);
            self.refresh(id);
        }
    }

    /// Puts the job into the fair queue or takes it out, as it now has an item to run or not.
    pub(super) fn refresh(&mut self, id: JobId) {
        let (slots, now) = (self.num_slots, self.now);
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.update_window(slots, &self.run_times);
        let has_work = job.is_runnable();
        if has_work && !job.queued {
            job.virtual_time = self.queue.add(job.spec.function, id, job.virtual_time);
        } else if !has_work && job.queued {
            self.queue.remove(job.spec.function, id, job.virtual_time);
        }
        job.queued = has_work;
        job.queued_since = has_work.then(|| job.queued_since.unwrap_or(now));
    }

    /// Gives items their outcome, which the driver has stored, and delivers what can be delivered.
    pub(super) fn finish_items(&mut self, items: ItemsOf) {
        let ItemsOf { job: id, first, count, slot } = items;
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.finish(first, count);
        let (first_index, count) = match job.spec.delivery {
            Delivery::Whole => (first, 0),
            Delivery::Unordered { .. } => (first, count),
            Delivery::Ordered { .. } => {
                let from = job.delivered;
                job.delivered = job.finished.end_of_run_at(from);
                (from, job.delivered - from)
            }
        };
        job.results.delivered += count;
        let (is_paused, is_complete) = (job.hold != Hold::Nothing, job.is_complete());
        if is_paused {
            self.update_hold(id);
        }
        if count > 0 {
            self.emit(Effect::Deliver { job: id, first_index, count });
        }
        if is_complete {
            self.complete_if_done(id, Some(slot));
        }
    }

    /// An item has failed, other than in the user's function: tries it again or gives it up.
    pub(super) fn item_failed(&mut self, at: FailedAt, history: History, cause: FailureCause) {
        let FailedAt { job: id, index, worker } = at;
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let mut crashes = history.crashes;
        let mut cause = cause;
        if cause == FailureCause::WorkerDied {
            crashes += 1;
            if crashes >= self.config.crash_limit && job.spec.max_attempts() > 1 {
                cause = FailureCause::CrashLimit { crashes };
            }
        }
        let is_final = matches!(cause, FailureCause::CrashLimit { .. });
        if history.attempt < job.spec.max_attempts() && !is_final {
            let attempt = history.attempt + 1;
            let not_before = self.now.after(retry_backoff(attempt, &mut self.rng));
            let history = History { attempt, crashes, failed_in: Some(worker), ..History::NEW };
            job.retry(index, history, not_before);
            self.arm_retry(id);
            return;
        }
        let fail_fast = job.spec.fails_fast();
        self.emit(Effect::FailItem { job: id, index, attempt: history.attempt, cause });
        self.count_results(id, ResultSize::UNKNOWN);
        if fail_fast {
            self.fail_job(id, JobFailure::ItemFailed { index });
        } else {
            self.finish_items(ItemsOf { job: id, first: index, count: 1, slot: worker.slot });
        }
    }

    /// Makes the items available that have waited long enough, and sets the timer for the next.
    pub(super) fn arm_retry(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        match job.end_waits(self.now) {
            Some(at) => self.timers.set(TimerKey::Retry(id), at),
            None => self.timers.clear(TimerKey::Retry(id)),
        }
        self.refresh(id);
    }

    /// `slot`: where its last item ended, which is where its last chunk is, as a rule.
    fn complete_if_done(&mut self, id: JobId, slot: Option<SlotId>) {
        if !self.jobs.get(&id).is_some_and(Job::is_complete) {
            return;
        }
        let mut num_chunks = self.forget_job(id).map_or(0, |job| job.num_chunks);
        // An item whose time was up has its outcome, but may still run.
        for slot in slot.into_iter().chain(self.slot_ids()) {
            if num_chunks == 0 {
                break;
            }
            let Some(worker) = &mut self.slot_mut(slot).worker else { continue };
            for chunk in worker.chunks.iter_mut().filter(|chunk| chunk.job == id && !chunk.abandoned) {
                chunk.abandoned = true;
                num_chunks -= 1;
            }
        }
        self.emit(Effect::CompleteJob { job: id });
    }

    /// Ends a job without an answer. What it has at workers is asked back; what runs may have to end.
    pub(super) fn fail_job(&mut self, id: JobId, failure: JobFailure) {
        let Some(job) = self.forget_job(id) else { return };
        self.emit(Effect::FailJob { job: id, failure });
        if job.num_chunks == 0 {
            return;
        }
        // When another item failed, or its results are too many, those that run are let finish: killing a warm worker for
        // one item is a waste.
        let cancel = !matches!(
            failure,
            JobFailure::ItemFailed { .. } | JobFailure::ResultsTooLarge { .. } | JobFailure::ResultsFull { .. }
        );
        self.abandon_everywhere(id, cancel);
        if cancel || !self.is_at_a_worker(id) {
            return;
        }
        // But not for longer than the call would have had, nor for ever.
        let longest = job.spec.options.item_timeout.is_none().then(|| self.now.after(MAX_TIME_FOR_NOBODY));
        if let Some(deadline) = job.spec.deadline.into_iter().chain(longest).min() {
            self.timers.set(TimerKey::Deadline(id), deadline);
        }
    }

    pub(super) fn abandon_everywhere(&mut self, id: JobId, cancel: bool) {
        let holders: Vec<WorkerId> = self
            .workers()
            .filter(|worker| worker.chunks.iter().any(|chunk| chunk.job == id))
            .map(|worker| worker.id)
            .collect();
        for worker in holders {
            self.abandon(worker, id, cancel);
        }
    }

    /// Tells whether a worker has a chunk of the job.
    pub(crate) fn is_at_a_worker(&self, id: JobId) -> bool {
        self.workers().flat_map(|worker| &worker.chunks).any(|chunk| chunk.job == id)
    }

    fn forget_job(&mut self, id: JobId) -> Option<Job> {
        let job = self.jobs.remove(&id)?;
        if job.queued {
            self.queue.remove(job.spec.function, id, job.virtual_time);
        }
        self.results.end_job(id, job.spec.delivery, &job.results);
        if self.jobs.is_empty() {
            self.idle_since = self.now;
            self.timers.clear(TimerKey::Reconsider);
        }
        self.timers.clear(TimerKey::Deadline(id));
        self.timers.clear(TimerKey::Retry(id));
        Some(job)
    }

    pub(super) fn fail_all_jobs(&mut self, failure: impl Fn(bool) -> JobFailure) {
        let jobs: Vec<(JobId, bool)> = self.jobs.iter().map(|(&id, job)| (id, job.started)).collect();
        for (id, started) in jobs {
            self.fail_job(id, failure(started));
        }
    }

    /// A chunk is over: the job pays what it really cost. `has_begun`: some of it ran.
    pub(super) fn settle(&mut self, chunk: &ActiveChunk, has_begun: bool) {
        let Some(job) = self.jobs.get_mut(&chunk.job) else {
            let deadline = TimerKey::Deadline(chunk.job);
            if self.timers.is_set(deadline) && !self.is_at_a_worker(chunk.job) {
                self.timers.clear(deadline);
            }
            return;
        };
        job.num_chunks -= 1;
        let before = job.virtual_time;
        let priority = job.spec.options.priority;
        // A chunk of which nothing is known (its worker died) keeps its estimate: or else a job whose items all kill their
        // workers would pay nothing, and always be the next.
        let real = if chunk.busy.is_zero() && has_begun { chunk.charged } else { chunk.busy };
        let after = if real >= chunk.charged {
            before.charged(real.saturating_sub(chunk.charged), priority)
        } else {
            before.refunded(chunk.charged.saturating_sub(real), priority)
        };
        if job.queued {
            self.queue.remove(chunk.function, chunk.job, before);
            job.virtual_time = self.queue.add(chunk.function, chunk.job, after);
        } else {
            job.virtual_time = after;
        }
    }
}
