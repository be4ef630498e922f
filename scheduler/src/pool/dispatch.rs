//! Handing out chunks: idle slots first, then work ahead, then taking back what an idle slot could run.
//!
//! One central queue, from which an idle slot pulls; never round robin over workers.

use std::time::Duration;

use super::PoolState;
use crate::chunk::AHEAD;
use crate::event::{Dispatch, Effect, StopReason};
use crate::id::{ChunkId, JobId, SlotId, WorkerId};
use crate::job::{Available, History, Job};
use crate::time::Time;
use crate::timer::TimerKey;
use crate::worker::{ActiveChunk, Slot, Worker};

/// A worker that has not answered a recall for this long is stuck in code that does not let it; others may be asked.
const RECALL_PATIENCE: Duration = Duration::from_millis(10);

/// What failed in a slot is left to the others for this long, while the slot has something else to do. Not for longer,
/// since they could be busy for hours.
const RETRY_PATIENCE: Duration = Duration::from_secs(1);

/// Which items a slot takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    /// Those that did not just fail there, and that may wait at a worker that is busy.
    Ahead,
    /// Those that did not just fail there.
    Untried,
    /// All but those that failed in this very worker.
    Any,
}

impl PoolState {
    /// Gives every worker what it can take.
    pub(super) fn dispatch(&mut self) {
        for choice in [Choice::Untried, Choice::Any] {
            self.dispatch_to_free(choice, false);
            self.dispatch_to_free(choice, true);
        }
        self.renew_idle();
        self.dispatch_ahead();
        self.rebalance();
    }

    /// Gives each free slot a chunk: those that have lost a worker and finished nothing since come after the others.
    fn dispatch_to_free(&mut self, choice: Choice, is_on_probation: bool) {
        let mut first = 0;
        while let Some(slot) = self.next_free(first) {
            first = slot + 1;
            let is_meant = self.slots[slot].health.is_on_probation() == is_on_probation;
            if is_meant
                && !self.renew_if_due(slot)
                && let Some((job, next)) = self.next_for(slot, choice)
            {
                self.hand_out(slot, job, next);
            }
        }
    }

    /// Returns the first free slot from this one on, as long as a job waits.
    fn next_free(&mut self, first: usize) -> Option<usize> {
        if self.queue.is_empty() {
            return None;
        }
        self.slots.update();
        self.slots.free_from(first).next()
    }

    /// Returns the slots whose workers could begin at once.
    pub(super) fn idle_slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.free_from(0).map(|slot| &self.slots[slot])
    }

    /// Tells whether the worker in a slot will be idle within a round trip, and may hold the next chunk. Bounded by time,
    /// never by hope: where nothing is known about a function, nothing is held.
    fn may_hold_ahead(&self, slot: usize) -> bool {
        let running = self.slots[slot].only_chunk();
        running.is_some_and(|chunk| chunk.remaining() <= self.run_times.items_within(chunk.function, AHEAD))
    }

    /// Gives a chunk ahead to each worker that may hold one.
    fn dispatch_ahead(&mut self) {
        self.refuse_late_jobs();
        if self.queue.is_empty() {
            return;
        }
        self.slots.find_ahead(|function| self.run_times.items_within(function, AHEAD));
        let (mut first, last) = (0, self.slots.len() - 1);
        while let Some(slot) = self.slots.next_ahead(first).filter(|_| !self.queue.is_empty()) {
            first = slot + 1;
            if !self.may_hold_ahead(slot) {
                continue;
            }
            if !self.renew_if_due(slot)
                && let Some((job, next)) = self.next_for(slot, Choice::Ahead)
                && self.run_times.average(self.jobs[&job].spec.function).is_some()
            {
                self.hand_out(slot, job, next);
            }
            if slot < last {
                // What the slots behind this one may take next.
                self.refuse_late_jobs();
            }
        }
        self.slots.end_ahead();
    }

    /// Returns the next items that the worker in a slot may be given, of the job whose turn it is among those that have
    /// any.
    ///
    /// An item that failed in a slot should run in another: it may be the slot's fault, such as a file that is broken
    /// there. As long as a slot has finished nothing since it lost its last worker, it is not given the same again at
    /// all if there is anything else, so that one of the two shows that it works.
    fn next_for(&mut self, slot: usize, choice: Choice) -> Option<(JobId, Available)> {
        loop {
            let worker = self.slots[slot].worker.as_ref()?.id;
            let is_on_probation = self.slots[slot].health.is_on_probation();
            let is_patient = |history: &History| is_on_probation || self.now < history.since.after(RETRY_PATIENCE);
            let may = |job: &Job, history: &History| {
                let is_as_good_as_any = choice == Choice::Any || !history.is_of(worker.slot) || !is_patient(history);
                let may_wait = choice != Choice::Ahead || !history.is_left_alone();
                is_as_good_as_any
                    && may_wait
                    && history.failed_in != Some(worker)
                    && !self.is_left_to_others(worker.slot, job, history)
            };
            let find = |id| {
                let job = &self.jobs[&id];
                Some((id, job.available(|history| may(job, history))?))
            };
            let (job, available) = self.queue.iter_of(&self.slots[slot].functions).find_map(find)?;
            let Some(failure) = self.refusal_after_waiting(job) else { return Some((job, available)) };
            self.fail_job(job, failure);
        }
    }

    /// If the next item is one that failed in this very worker, and has waited for long enough for another to take it,
    /// has the worker replaced and returns true.
    fn renew_if_due(&mut self, slot: usize) -> bool {
        let Some(worker) = self.slots[slot].worker.as_ref().map(|worker| worker.id) else { return false };
        let next = self.queue.iter_of(&self.slots[slot].functions).next();
        let next = next.and_then(|job| self.jobs[&job].available(|_| true));
        let is_due = next.is_some_and(|next| {
            next.history.failed_in == Some(worker) && self.now >= next.history.since.after(RETRY_PATIENCE)
        });
        if is_due {
            self.retire(worker, StopReason::Retry);
        }
        is_due
    }

    /// Replaces the workers that are idle because what could run failed in these very processes. That comes before work
    /// ahead, or else such an item would be held ahead of a busy worker, recalled for the idle one, held ahead, and so on.
    fn renew_idle(&mut self) {
        let mut first = 0;
        while let Some(slot) = self.next_free(first) {
            first = slot + 1;
            let Some(worker) = self.slots[slot].worker.as_ref().map(|worker| worker.id) else { continue };
            if self.queue.iter().any(|(_, job)| self.jobs[&job].awaits_successor_of(worker)) {
                self.retire(worker, StopReason::Retry);
            }
        }
    }

    /// Gives a chunk of these items to the worker in a slot.
    fn hand_out(&mut self, slot: usize, id: JobId, available: Available) {
        let slots = self.num_slots;
        let now = self.now;
        let is_on_probation = self.slots[slot].health.is_on_probation();
        let worker = self.slots.get_mut(slot).and_then(|slot| slot.worker.as_mut()).expect("the caller looked");
        let job = self.jobs.get_mut(&id).expect("a queued job exists");
        let is_single = available.history.is_suspect() || is_on_probation;
        let wanted = if is_single { 1 } else { job.chunk_limit(slots, &self.run_times) };
        let most = available.count.min(worker.quota.unwrap_or(u64::MAX));
        let count = wanted.min(u32::try_from(most).unwrap_or(u32::MAX));

        // What stood in the queue under the old virtual time must leave it under that.
        self.queue.remove(job.spec.function, id, job.virtual_time);
        job.queued = false;
        self.queue.advance(job.virtual_time);
        let charged = self.run_times.estimate(job.spec.function, count);
        job.virtual_time = job.virtual_time.charged(charged, job.spec.options.priority);
        job.take(available.first, count);
        if let Some(quota) = &mut worker.quota {
            *quota -= u64::from(count);
        }
        self.last_chunk += 1;
        let chunk = ActiveChunk {
            id: ChunkId(self.last_chunk),
            job: id,
            function: job.spec.function,
            first_index: available.first,
            count,
            finished: 0,
            history: available.history,
            abandoned: false,
            fixed_size: job.spec.options.chunk_size.is_some(),
            recalled_at: None,
            time_limit: job.spec.options.item_timeout,
            expired: Vec::new(),
            cancelled: false,
            dispatched_at: now,
            charged,
            busy: Duration::ZERO,
        };
        let dispatch = Dispatch {
            worker: worker.id,
            chunk: chunk.id,
            job: id,
            first_index: chunk.first_index,
            count,
            attempt: chunk.history.attempt,
            time_limit: chunk.time_limit,
            left_alone: chunk.history.is_left_alone(),
        };
        worker.chunks.push_back(chunk);
        let worker = worker.id;
        self.emit(Effect::Dispatch(dispatch));
        self.timers.clear(TimerKey::Idle(worker));
        self.refresh(id);
    }

    /// While a slot is idle and nothing waits, the worker with the most work that has not begun is asked for it.
    fn rebalance(&mut self) {
        self.timers.clear(TimerKey::Rebalance);
        self.slots.update();
        if self.slots.free_from(0).next().is_none() {
            return;
        }
        let answers_due = self.slots.last_asked_at().map(|at| at.after(RECALL_PATIENCE));
        if let Some(due) = answers_due.filter(|&due| due > self.now) {
            return self.timers.set(TimerKey::Rebalance, due);
        }
        let candidates = self.slots.divisible().filter_map(|worker| {
            let (position, chunk) = worker.divisible_chunks().find(|(_, chunk)| self.could_begin(chunk))?;
            Some((worker.id, chunk.id, self.late_after(worker, position), chunk.remaining()))
        });
        let mut next_check: Option<Time> = None;
        let mut best: Option<(u32, WorkerId, ChunkId)> = None;
        for (worker, chunk, late_at, remaining) in candidates {
            if late_at > self.now {
                next_check = Some(next_check.map_or(late_at, |at| at.min(late_at)));
            } else if best.is_none_or(|(most, ..)| remaining > most) {
                best = Some((remaining, worker, chunk));
            }
        }
        if let Some((_, worker, chunk)) = best {
            self.recall(worker, chunk);
        } else if let Some(at) = next_check {
            self.timers.set(TimerKey::Rebalance, at);
        }
    }

    /// Tells whether an idle slot would take a chunk. If it did not, the chunk would come back to where it was, and be
    /// asked for again, and so on.
    fn could_begin(&self, chunk: &ActiveChunk) -> bool {
        let Some(job) = self.jobs.get(&chunk.job) else { return false };
        let history = &chunk.history;
        self.idle_slots().filter(|slot| slot.functions.has(chunk.function)).any(|slot| {
            let worker = slot.worker.as_ref().map(|worker| worker.id);
            let is_barred = |worker: WorkerId| self.is_left_to_others(worker.slot, job, history);
            history.failed_in != worker && !worker.is_some_and(is_barred)
        })
    }

    /// Tells whether items with this history are not for a slot at this time: workers died there with them, or with others
    /// of their job, at hand, and another slot has yet to show whose fault that is.
    pub(crate) fn is_left_to_others(&self, slot: SlotId, job: &Job, history: &History) -> bool {
        let finished_there = self.slots[slot.0 as usize].finished_items;
        let of_job = (!job.is_proven).then(|| job.deaths.left_to_others_until(slot, finished_there)).flatten();
        let until = history.deaths.left_to_others_until(slot, finished_there).max(of_job);
        until.is_some_and(|until| self.now < until) && self.has_other_slot(slot, job.spec.function)
    }

    /// Returns when a chunk is worth taking apart: at once if a good piece of work has not begun, else when it takes
    /// longer than it should, since then the average was wrong about it.
    fn late_after(&self, worker: &Worker, position: usize) -> Time {
        let chunk = &worker.chunks[position];
        let not_begun = chunk.remaining() - u32::from(position == 0);
        if self.run_times.estimate(chunk.function, not_begun) >= AHEAD {
            return self.now;
        }
        let ahead_of_it: Duration = worker.chunks.iter().take(position + 1).map(|active| active.charged).sum();
        chunk.dispatched_at.after(ahead_of_it.saturating_mul(2)).after(AHEAD.saturating_mul(2))
    }

    /// Asks a worker for what has not begun of a chunk, once; never for what it is left alone with.
    pub(super) fn recall(&mut self, worker: WorkerId, chunk: ChunkId) {
        let now = self.now;
        let Some(active) = self.worker_mut(worker).and_then(|worker| {
            let position = worker.position(chunk)?;
            worker.chunks.get_mut(position)
        }) else {
            return;
        };
        if active.recalled_at.is_none() && !active.history.is_left_alone() {
            active.recalled_at = Some(now);
            self.emit(Effect::Recall { worker, chunk, cancel: false });
        }
    }
}
