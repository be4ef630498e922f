//! Handing out chunks: idle slots first, then work ahead, then taking back what an idle slot could run.
//!
//! One central queue, from which an idle slot pulls; never round robin over workers.

use std::time::Duration;

use super::PoolState;
use crate::chunk::AHEAD;
use crate::event::{Cancel, Dispatch, Effect};
use crate::id::{ChunkId, WorkerId};
use crate::time::Time;
use crate::timer::TimerKey;
use crate::worker::{ActiveChunk, Slot, Worker};

/// A worker that has not answered a recall for this long is stuck in code that does not let it; others may be asked.
const RECALL_PATIENCE: Duration = Duration::from_millis(10);

impl PoolState {
    /// Gives every worker what it can take.
    pub(super) fn dispatch(&mut self) {
        for slot in 0..self.slots.len() {
            if self.queue.is_empty() {
                break;
            }
            if self.is_free(slot) {
                self.dispatch_idle(slot);
            }
        }
        for slot in 0..self.slots.len() {
            if self.queue.is_empty() {
                break;
            }
            if !self.slots[slot].worker.as_ref().is_some_and(|worker| self.may_hold_ahead(worker)) {
                continue;
            }
            let next = self.next_job(slot).map(|job| self.jobs[&job].spec.function);
            // Where nothing is known about a function, nothing is held.
            if next.is_some_and(|function| self.run_times.of(function).is_some()) && !self.failed_last_at(slot) {
                self.dispatch_next(slot);
            }
        }
        self.rebalance();
    }

    fn is_free(&self, slot: usize) -> bool {
        self.slots[slot].is_free()
    }

    /// Returns the slots whose workers could begin at once.
    pub(super) fn idle_slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter(|slot| slot.is_free())
    }

    /// Gives an idle slot the next chunk, after those that it should leave to others have gone to others.
    fn dispatch_idle(&mut self, slot: usize) {
        while self.failed_last_at(slot) {
            let next = self.queue.first_of(&self.slots[slot].functions).map(|job| self.jobs[&job].spec.function);
            let could = |entry: &Slot| entry.is_free() && next.is_some_and(|function| entry.functions.has(function));
            let Some(other) = (0..self.slots.len()).find(|&other| other != slot && could(&self.slots[other])) else {
                break;
            };
            self.dispatch_next(other);
        }
        self.dispatch_next(slot);
    }

    /// Tells whether the next item is one that failed in this very slot. It may be the slot's fault, such as a file that
    /// is broken there; so another gets it if one is idle. None is waited for, since it could be busy for hours.
    fn failed_last_at(&self, slot: usize) -> bool {
        let next = self.queue.first_of(&self.slots[slot].functions).and_then(|job| self.jobs[&job].available());
        next.and_then(|next| next.history.last_slot).is_some_and(|last| last.0 as usize == slot)
    }

    /// A worker that will be idle within a round trip may hold the next chunk. Bounded by time, never by hope.
    fn may_hold_ahead(&self, worker: &Worker) -> bool {
        let [running] = worker.chunks.iter().collect::<Vec<_>>()[..] else { return false };
        worker.takes_chunks()
            && running.overdue().is_none()
            && !running.abandoned
            && running.recalled_at.is_none()
            && self.run_times.of(running.function).is_some()
            && self.run_times.estimate(running.function, running.remaining()) <= AHEAD
    }

    /// Gives the next chunk of the job whose turn it is to the worker in a slot.
    fn dispatch_next(&mut self, slot: usize) {
        let Some(id) = self.next_job(slot) else { return };
        let slots = self.num_slots();
        let now = self.now;
        let worker = self.slots[slot].worker.as_mut().expect("the caller looked");
        let job = self.jobs.get_mut(&id).expect("a queued job exists");
        let available = job.available().expect("a queued job has an item to run");
        let wanted = if available.history.is_suspect() { 1 } else { job.chunk_limit(slots, &self.run_times) };
        let most = available.count.min(worker.quota.unwrap_or(u64::MAX));
        let count = wanted.min(u32::try_from(most).unwrap_or(u32::MAX));

        // What stood in the queue under the old virtual time must leave it under that.
        self.queue.remove(job.spec.function, id, job.virtual_time);
        job.queued = false;
        self.queue.advance(job.virtual_time);
        let charged = self.run_times.estimate(job.spec.function, count);
        job.virtual_time = job.virtual_time.charged(charged, job.spec.priority);
        job.take(count);
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
            passed: 0,
            history: available.history,
            abandoned: false,
            fixed_size: job.spec.chunk_size.is_some(),
            recalled_at: None,
            time_limit: job.spec.item_timeout,
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
        };
        worker.chunks.push_back(chunk);
        let worker = worker.id;
        self.emit(Effect::Dispatch(dispatch));
        self.timers.clear(TimerKey::Idle(worker));
        self.watch_time_limit(worker);
        self.refresh(id);
    }

    /// While a slot is idle and nothing waits, the worker with the most work that has not begun is asked for it.
    fn rebalance(&mut self) {
        self.timers.clear(TimerKey::Rebalance);
        if self.idle_slots().next().is_none() {
            return;
        }
        let answers_due = self.workers().flat_map(|worker| &worker.chunks).filter(|chunk| !chunk.abandoned);
        let answers_due = answers_due.filter_map(|chunk| chunk.recalled_at).map(|at| at.after(RECALL_PATIENCE)).max();
        if let Some(due) = answers_due.filter(|&due| due > self.now) {
            return self.timers.set(TimerKey::Rebalance, due);
        }
        let candidates = self.workers().filter(|worker| worker.is_up()).filter_map(|worker| {
            let (position, chunk) = worker.chunks.iter().enumerate().rev().find(|(position, chunk)| {
                let begun = u32::from(*position == 0);
                let can_be_asked = !chunk.abandoned && chunk.recalled_at.is_none();
                can_be_asked
                    && chunk.remaining() > begun
                    && !(chunk.fixed_size && begun == 1)
                    && self.could_begin(chunk)
            })?;
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

    fn could_begin(&self, chunk: &ActiveChunk) -> bool {
        self.idle_slots().any(|slot| slot.functions.has(chunk.function))
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

    /// Asks a worker for what has not begun of a chunk, once.
    pub(super) fn recall(&mut self, worker: WorkerId, chunk: ChunkId) {
        let now = self.now;
        let Some(active) = self.worker_mut(worker).and_then(|worker| {
            let position = worker.position(chunk)?;
            worker.chunks.get_mut(position)
        }) else {
            return;
        };
        if active.recalled_at.is_none() {
            active.recalled_at = Some(now);
            self.emit(Effect::Recall { worker, chunk, cancel: Cancel::Nothing });
        }
    }
}
