//! Workers start, finish items, give chunks back, and end.

use super::PoolState;
use super::parameters::{FailedAt, Finished, ItemsOf, Loss};
use crate::blame::{Death, Deaths};
use crate::event::{Effect, FailureCause, JobFailure, Readiness, ResultSize, StopReason};
use crate::id::{ChunkId, FunctionId, FunctionSet, JobId, SlotId, WorkerId};
use crate::job::History;
use crate::timer::TimerKey;
use crate::worker::{ActiveChunk, Expired, Phase, Worker};

impl PoolState {
    pub(super) fn worker_ready(&mut self, id: WorkerId, functions: FunctionSet) {
        let quota = self.config.max_items_per_worker.map(|most| {
            // Up to a tenth fewer, so that the workers are not all replaced together; 1 stays 1.
            u64::from(most) - self.rng.below(u64::from(most / 10) + 1)
        });
        let now = self.now;
        let Some(worker) = self.worker_mut(id).filter(|worker| worker.phase == Phase::Starting) else { return };
        worker.phase = Phase::Up;
        worker.quota = quota;
        worker.ready_at = Some(now);
        self.slot_is_ready(id);
        self.timers.clear(TimerKey::Start(id));
        if let Some(age) = self.config.max_worker_age {
            let age = self.rng.jitter(age);
            self.timers.set(TimerKey::Age(id), self.now.after(age));
        }
        self.set_functions(id.slot, functions);
        self.fail_lost_jobs();
        self.forget_run_times();
        self.hasten_recycling();
    }

    pub(super) fn items_finished(&mut self, id: WorkerId, chunk: ChunkId, finished: Finished<'_>) {
        let Some(worker) = self.worker_mut(id) else { return };
        let Some(position) = worker.position(chunk) else { return };
        let active = &mut worker.chunks[position];
        let (first, end) = (finished.first, finished.first.saturating_add(finished.count));
        if first != active.finished || end > active.count {
            return debug_assert!(false, "the session lets only results through that are next in their chunk");
        }
        active.finished = end;
        active.busy = active.busy.saturating_add(finished.busy);
        let late: Vec<Expired> =
            active.expired.iter().copied().filter(|expired| (first..end).contains(&expired.offset)).collect();
        let (job, function, first_index) = (active.job, active.function, active.first_index);
        let history = active.history;
        let abandoned = active.abandoned;
        if !finished.are_lost {
            self.note_work(id, job, function, finished);
        }

        let size = if late.is_empty() { finished.size } else { ResultSize::UNKNOWN };
        let mut from = first;
        for to in late.iter().map(|expired| expired.offset).chain([end]) {
            if from < to && !abandoned {
                let first_item = first_index + u64::from(from);
                let items = ItemsOf { job, first: first_item, count: u64::from(to - from), slot: id.slot };
                let failed = finished.failed.iter().find(|offset| (from..to).contains(offset));
                let failed = failed.map(|&offset| first_index + u64::from(offset));
                self.store_items(items, from - first, failed, size);
            }
            from = to + 1;
        }
        for Expired { offset, limit, tried_again } in late {
            if tried_again && !abandoned {
                let at = FailedAt { job, index: first_index + u64::from(offset), worker: id };
                self.item_failed(at, history, FailureCause::TimedOut { limit });
            }
        }
        self.refresh(job);
        self.end_chunk_if_done(id, chunk);
        self.recycle_if_large(id, true);
    }

    /// A worker has shown that it works, and that the job's items can be done.
    fn note_work(&mut self, id: WorkerId, job: JobId, function: FunctionId, finished: Finished<'_>) {
        let Finished { count, busy, .. } = finished;
        let slot = self.slot_mut(id.slot);
        slot.finished_items += u64::from(count);
        if let Some(worker) = &mut slot.worker {
            worker.finished_items += u64::from(count);
        }
        if let Some(job) = self.jobs.get_mut(&job) {
            job.is_proven = true;
        }
        self.slot_has_finished_an_item(id.slot);
        self.run_times.record(self.now, function, count, busy);
    }

    fn store_items(&mut self, items: ItemsOf, skip: u32, first_failed: Option<u64>, size: ResultSize) {
        let Some(job) = self.jobs.get(&items.job) else { return };
        let fail_fast = job.spec.fails_fast();
        let count = u32::try_from(items.count).expect("a chunk is no longer");
        self.emit(Effect::StoreResults { job: items.job, first_index: items.first, skip, count });
        self.count_results(items.job, size);
        match first_failed {
            Some(index) if fail_fast => self.fail_job(items.job, JobFailure::ItemFailed { index }),
            _ => self.finish_items(items),
        }
    }

    pub(super) fn recalled(&mut self, id: WorkerId, chunk: ChunkId, first_not_begun: u32) {
        let Some(worker) = self.worker_mut(id) else { return };
        let Some(position) = worker.position(chunk) else { return };
        let active = &mut worker.chunks[position];
        // What was given back can't be given back again, and what has finished had begun.
        let end = first_not_begun.clamp(active.finished, active.count);
        let given_back = active.count - end;
        active.count = end;
        active.recalled_at = None;
        let (job, first, history) = (active.job, active.first_index + u64::from(end), active.history);
        let abandoned = active.abandoned;
        if let Some(quota) = &mut worker.quota {
            *quota += u64::from(given_back);
        }
        if given_back > 0 && !abandoned {
            let history = if end == 0 { history.returned() } else { history };
            self.give_back(job, first, u64::from(given_back), history);
        }
        self.end_chunk_if_done(id, chunk);
    }

    fn give_back(&mut self, id: JobId, first: u64, count: u64, history: History) {
        let history = if history.is_suspect() { History { since: self.now, ..history } } else { history };
        if let Some(job) = self.jobs.get_mut(&id) {
            job.give_back(first, count, history);
            self.refresh(id);
        }
    }

    /// Takes a chunk off its worker when all of it is accounted for.
    fn end_chunk_if_done(&mut self, id: WorkerId, chunk: ChunkId) {
        let Some(worker) = self.worker_mut(id) else { return };
        let Some(position) = worker.position(chunk) else { return };
        if worker.chunks[position].remaining() > 0 {
            return;
        }
        let ended = worker.chunks.remove(position).expect("it was just found");
        self.settle(&ended, ended.finished > 0);
        self.stop_if_unneeded(id);
        self.recycle_if_large(id, false);
    }

    /// Nobody waits for a job any more: asks the worker to give back what has not begun of it and, if `cancel`, to end
    /// what runs.
    pub(super) fn abandon(&mut self, id: WorkerId, job: JobId, cancel: bool) {
        let now = self.now;
        let Some(worker) = self.worker_mut(id) else { return };
        let is_told = match worker.phase {
            Phase::Up => true,
            // It may have survived the SIGTERM that was for another item.
            Phase::Stopping { reason, .. } => {
                cancel && matches!(reason, StopReason::ItemTimeout | StopReason::Cancelled)
            }
            Phase::Starting => false,
        };
        let mut asked = Vec::new();
        for chunk in worker.chunks.iter_mut().filter(|chunk| chunk.job == job) {
            chunk.abandoned = true;
            chunk.cancelled = cancel;
            let was_asked = chunk.recalled_at.replace(now).is_some();
            if is_told && (cancel || !was_asked) {
                asked.push(chunk.id);
            }
        }
        for &chunk in &asked {
            self.emit(Effect::Recall { worker: id, chunk, cancel });
        }
        if let Some(&first) = asked.first().filter(|_| cancel) {
            self.recall_behind(id, first);
        }
    }

    pub(super) fn worker_exited(&mut self, id: WorkerId, running: Option<(ChunkId, u32)>, by_shortage: bool) {
        if self.worker_mut(id).is_none() {
            return;
        }
        let worker = self.slot_mut(id.slot).worker.take().expect("it was just found");
        self.timers.clear_worker(id);
        for (position, chunk) in worker.chunks.iter().enumerate() {
            let begun = running.and_then(|(running_chunk, offset)| (running_chunk == chunk.id).then_some(offset));
            let is_suspect = position == 0 && worker.is_up() && running.is_none() && chunk.finished == 0;
            self.take_back_chunk(id, chunk, begun, is_suspect);
        }
        let running = running.and_then(|(running, _)| worker.chunks.iter().find(|chunk| chunk.id == running));
        if let Some(at_hand) = running.or_else(|| worker.chunks.front()).filter(|_| worker.is_up()) {
            self.suspect_job(id, at_hand, running.is_some());
        }
        self.fill_again(&worker, Loss { begun: running.map(|chunk| chunk.function), by_shortage });
        self.fail_lost_jobs();
    }

    /// The worker of a chunk is dead. Only the item that ran is blamed; what had not begun runs elsewhere. `is_suspect`:
    /// the worker died by itself with this chunk at hand, but before it began its first item.
    fn take_back_chunk(&mut self, worker: WorkerId, chunk: &ActiveChunk, begun: Option<u32>, is_suspect: bool) {
        let first_safe = begun.map_or(chunk.finished, |offset| offset + 1).clamp(chunk.finished, chunk.count);
        self.settle(chunk, first_safe > 0);
        if chunk.abandoned {
            return;
        }
        for offset in chunk.finished..first_safe {
            // Before the item that ran there can be others only if the worker has no progress page and lost results.
            let cause = match chunk.expired_at(offset) {
                Some(Expired { tried_again: false, .. }) => continue,
                Some(Expired { limit, .. }) => FailureCause::TimedOut { limit },
                None => FailureCause::WorkerDied,
            };
            let at = FailedAt { job: chunk.job, index: chunk.first_index + u64::from(offset), worker };
            self.item_failed(at, chunk.history, cause);
        }
        let mut first = chunk.first_index + u64::from(first_safe);
        let mut count = u64::from(chunk.count - first_safe);
        let mut history = chunk.history;
        if is_suspect && count > 0 {
            self.suspect(FailedAt { job: chunk.job, index: first, worker }, chunk.history);
            (first, count) = (first + 1, count - 1);
        } else if first_safe == 0 {
            history = history.returned();
        }
        if count > 0 {
            self.give_back(chunk.job, first, count, history);
        }
    }

    /// A worker died with this item at hand: it runs alone next time, and not for ever. But whether that is held against
    /// it depends on where else it happens: or else a slot where every worker dies at once could fail any item.
    fn suspect(&mut self, at: FailedAt, mut history: History) {
        let Some(death) = self.death_with(at.job, at.worker.slot) else { return };
        history.deaths.record(death);
        match history.deaths.too_many(self.config.crash_limit) {
            Some(crashes) => self.item_failed(at, history, FailureCause::CrashLimit { crashes }),
            None => self.give_back(at.job, at.index, 1, history),
        }
        self.reconsider_later(history.deaths, at.worker.slot);
    }

    /// A worker died with items of this chunk at hand. That is held against the job as long as none of its items has been
    /// finished: what they have in common may be what kills. Before it begins, that may be anything; of an item that has
    /// begun, only the common argument is suspect, and only if it kills again where it was sent after that.
    fn suspect_job(&mut self, worker: WorkerId, chunk: &ActiveChunk, has_begun: bool) {
        let limit = self.config.crash_limit;
        let index = chunk.first_index + u64::from(chunk.finished);
        let Some(death) = self.death_with(chunk.job, worker.slot) else { return };
        let Some(job) = self.jobs.get_mut(&chunk.job).filter(|job| !job.is_proven) else { return };
        let has_common = job.spec.has_common;
        if has_begun && (!has_common || chunk.dispatched_at < job.deaths.last_at()) {
            return;
        }
        let has_outcome = job.finished.end_of_run_at(index) > index;
        let counts = job.deaths.record(death);
        if has_outcome && !has_common {
            // It was blamed alone.
            job.suspects.remove(&index);
        } else if counts && job.suspects.len() < limit.max(2) as usize {
            job.suspects.insert(index);
        }
        let deaths = job.deaths;
        let num_suspects = u32::try_from(job.suspects.len()).unwrap_or(u32::MAX);
        let crashes = if has_common { deaths.too_many(limit).filter(|_| num_suspects > 1) } else { Some(num_suspects) };
        match crashes.filter(|&crashes| crashes >= limit && num_suspects > 1) {
            Some(crashes) => self.fail_job(chunk.job, JobFailure::CrashLimit { crashes }),
            None => self.reconsider_later(deaths, worker.slot),
        }
    }

    /// Returns what is known of the death of a worker in a slot that had items of a job.
    fn death_with(&self, job: JobId, slot: SlotId) -> Option<Death> {
        let has_other_slot = self.has_other_slot(slot, self.jobs.get(&job)?.spec.function);
        let finished_there = self.slots[slot.0 as usize].finished_items;
        Some(Death { slot, finished_there, has_other_slot, at: self.now })
    }

    /// What is left to the other slots is not for ever.
    fn reconsider_later(&mut self, deaths: Deaths, slot: SlotId) {
        let finished_there = self.slots[slot.0 as usize].finished_items;
        if let Some(until) = deaths.left_to_others_until(slot, finished_there).filter(|_| !self.jobs.is_empty()) {
            self.timers.set(TimerKey::Reconsider, until);
        }
    }

    pub(super) fn resize(&mut self, slots: u32) {
        self.num_slots = slots.max(1);
        let wanted = self.num_slots as usize;
        self.slots.grow(wanted);
        for id in self.slot_ids() {
            let slot = self.slot_mut(id);
            slot.removed = id.0 as usize >= wanted;
            if slot.removed {
                self.forget_losses(id);
                self.timers.clear(TimerKey::Restart(id));
                self.remove_worker(id);
                if self.slots[id.0 as usize].worker.is_none() {
                    self.set_functions(id, FunctionSet::default());
                }
            } else {
                self.keep_slot(id);
            }
        }
        if self.slots.iter().all(|slot| slot.removed || slot.is_held()) {
            self.end_holds();
        }
        self.continue_starts();
        self.fail_lost_jobs();
        let jobs: Vec<JobId> = self.jobs.keys().copied().collect();
        for job in jobs {
            self.refresh(job);
        }
    }

    fn keep_slot(&mut self, id: SlotId) {
        let restarts_later = self.timers.is_set(TimerKey::Restart(id));
        let slot = self.slot_mut(id);
        match &mut slot.worker {
            Some(worker) if worker.retire == Some(StopReason::Resize) => worker.retire = None,
            Some(_) => {}
            None if restarts_later || slot.health.failing_since().is_some() => {}
            None => self.spawn_worker(id),
        }
    }

    fn remove_worker(&mut self, slot: SlotId) {
        let Some(worker) = &self.slot_mut(slot).worker else { return };
        let (id, phase) = (worker.id, worker.phase);
        // If the slot comes back, another reason still holds.
        let reason = worker.retire.unwrap_or(StopReason::Resize);
        match phase {
            Phase::Starting => self.terminate(id, StopReason::Resize),
            Phase::Up => self.retire(id, reason),
            Phase::Stopping { .. } => {}
        }
    }

    pub(super) fn stop(&mut self) {
        self.set_readiness(Readiness::Draining);
        self.stopping = true;
        self.fail_all_jobs(|started| JobFailure::Draining { started });
        for worker in self.worker_ids(|worker| !matches!(worker.phase, Phase::Stopping { .. })) {
            self.terminate(worker, StopReason::Drain);
        }
    }

    /// Ends a drained pool: when no job is left, no worker is needed; when no worker is left, the pool has stopped.
    pub(super) fn stop_if_drained(&mut self) {
        if !self.is_draining() || !self.jobs.is_empty() {
            return;
        }
        for slot in self.slot_ids() {
            self.timers.clear(TimerKey::Restart(slot));
        }
        for id in self.worker_ids(|worker| worker.phase == Phase::Starting) {
            self.terminate(id, StopReason::Drain);
        }
        for id in self.worker_ids(|worker| worker.is_up() && worker.retire != Some(StopReason::Drain)) {
            let worker = self.worker_mut(id).expect("it was just found");
            worker.retire = Some(StopReason::Drain);
            // What still runs is of jobs that have failed, and nobody waits for it.
            worker.chunks.iter_mut().for_each(|chunk| chunk.cancelled = true);
            let chunks: Vec<ChunkId> = worker.chunks.iter().map(|chunk| chunk.id).collect();
            for chunk in chunks {
                self.emit(Effect::Recall { worker: id, chunk, cancel: true });
            }
            self.stop_if_unneeded(id);
        }
        if self.slots.iter().all(|slot| slot.worker.is_none()) {
            self.set_readiness(Readiness::Stopped);
        }
    }

    fn worker_ids(&self, wanted: impl Fn(&Worker) -> bool) -> Vec<WorkerId> {
        self.workers().filter(|worker| wanted(worker)).map(|worker| worker.id).collect()
    }
}
