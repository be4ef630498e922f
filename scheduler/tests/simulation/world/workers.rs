//! What the workers do.

use std::time::Duration;

use procpool_scheduler::{
    ChunkId, Event, FunctionId, FunctionSet, ItemAction, RunningItem, Time, WatchedChunk, WorkerId,
};

use super::{NUM_FUNCTIONS, SimWorker, World};
use crate::model::{Death, Vice};
use crate::upset::Upset;

impl SimWorker {
    fn may_start(&self) -> bool {
        !self.is_up && !self.is_stopping && !self.is_still
    }

    fn may_work(&self) -> bool {
        !self.chunks.is_empty() && !self.is_still
    }

    fn may_stop(&self) -> bool {
        self.is_stopping && !self.is_still
    }

    /// Returns when its session looks at its items. Who was told to end by the pool is left to the pool.
    pub(super) fn next_look(&self) -> Option<Time> {
        self.watch.next_look().filter(|_| !self.is_stopping || self.watch.has_terminated())
    }
}

impl World {
    /// Workers that start from now on know other functions, mostly all of them.
    pub(super) fn change_code(&mut self) {
        let random = &mut self.random;
        self.code = (0..NUM_FUNCTIONS).map(FunctionId).filter(|_| random.below(4) > 0).collect();
    }

    pub(super) fn start(&mut self, id: WorkerId) {
        let functions: FunctionSet = self.code.iter().copied().collect();
        let worker = self.workers.get_mut(&id).unwrap();
        (worker.is_up, worker.functions) = (true, functions.clone());
        self.apply(Event::WorkerReady { worker: id, functions });
    }

    pub(super) fn let_a_worker_start(&mut self) {
        let starting: Vec<WorkerId> =
            self.workers.iter().filter(|(_, worker)| worker.may_start()).map(|(&id, _)| id).collect();
        let Some(id) = self.random.pick(&starting) else { return };
        if self.random.below(10) == 0 {
            return self.exit(id);
        }
        self.start(id);
    }

    /// A worker begins an item, or finishes some.
    pub(super) fn let_a_worker_work(&mut self) {
        let busy: Vec<WorkerId> =
            self.workers.iter().filter(|(_, worker)| worker.may_work()).map(|(&id, _)| id).collect();
        let in_bad_slot = busy.iter().find(|worker| Some(worker.slot) == self.bad_slot);
        // Who fails at once is faster than who works.
        let Some(id) = in_bad_slot.copied().or_else(|| self.random.pick(&busy)) else { return };
        let finished = self.random.below(8) as u32;
        self.work(id, finished);
    }

    /// The worker finishes up to `most` items of its first chunk, and begins the next if there is one. It may keep the
    /// results to itself for a while.
    pub(super) fn work(&mut self, id: WorkerId, most: u32) {
        if self.bad_slot == Some(id.slot) {
            return self.exit(id);
        }
        let holds_back = self.random.below(4) == 0;
        let worker = self.workers.get_mut(&id).unwrap();
        let Some(chunk) = worker.chunks.front_mut() else { return };
        let job = self.jobs.get_mut(&chunk.job).unwrap();
        let next = chunk.first_index + u64::from(chunk.finished);
        let is_over = chunk.finished == chunk.count;
        let vice = if is_over { Vice::None } else { job.item(next).vice };
        match (job.vice, vice) {
            // What is left of it are results that were held back.
            _ if is_over => {}
            (Vice::None, Vice::None) => {}
            (Vice::KillAfter, _) | (Vice::None, Vice::KillAfter) => {
                if chunk.began.is_none() {
                    chunk.began = Some(self.now);
                    job.begin(next, id);
                }
                return self.exit(id);
            }
            // It may have been begun when it had no vice.
            _ if chunk.began.is_none() => return self.exit(id),
            _ => {}
        }
        let first = chunk.finished;
        // Nothing comes of an item that kills, but what was begun before it got its vice.
        let kills = |offset: &u32| job.items[(chunk.first_index + u64::from(*offset)) as usize].vice != Vice::None;
        let end = (first + u32::from(chunk.began.is_some())..chunk.count).find(kills).unwrap_or(chunk.count);
        let count = most.min(end - first);
        for offset in first..first + count {
            let index = chunk.first_index + u64::from(offset);
            let began = chunk.began.take();
            if began.is_none() {
                job.begin(index, id);
            }
            chunk.began_before = began.unwrap_or(self.now);
            let item = job.item(index);
            (item.runs, item.is_out) = (false, false);
            item.fails = self.random.below(20) == 0;
            if item.fails {
                chunk.failed.push(offset);
            }
        }
        chunk.finished += count;
        let is_done = chunk.finished == chunk.count;
        if !is_done && first + count < end && chunk.began.is_none() && self.random.below(2) == 0 {
            chunk.began = Some(self.now);
            job.begin(chunk.first_index + u64::from(chunk.finished), id);
        }
        if is_done || !holds_back {
            self.say_results(id);
        }
    }

    /// Nobody knows what the worker has finished of its first chunk, nor what it had begun: all of that fails.
    pub(super) fn say_lost(&mut self, id: WorkerId) {
        let worker = self.workers.get_mut(&id).unwrap();
        let Some(chunk) = worker.chunks.pop_front() else { return };
        let job = self.jobs.get_mut(&chunk.job).unwrap();
        for offset in chunk.finished..chunk.count {
            let item = job.item(chunk.first_index + u64::from(offset));
            (item.runs, item.is_out) = (false, false);
        }
        let (first, count) = (chunk.said, chunk.count - chunk.said);
        self.failed_items = (first..chunk.count).map(|at| (chunk.job, chunk.first_index + u64::from(at))).collect();
        let size = self.results.make(count);
        self.say(Event::ItemsLost { worker: id, chunk: chunk.id, first, count, size });
        self.failed_items.clear();
    }

    /// The worker says what of its first chunk has finished, and forgets the chunk if that is all of it.
    pub(super) fn say_results(&mut self, id: WorkerId) {
        let worker = self.workers.get_mut(&id).unwrap();
        let Some(chunk) = worker.chunks.front_mut() else { return };
        let (first, count, failed) = (chunk.said, chunk.finished - chunk.said, std::mem::take(&mut chunk.failed));
        chunk.said = chunk.finished;
        let (id_of_chunk, job, job_first) = (chunk.id, chunk.job, chunk.first_index);
        if chunk.finished == chunk.count {
            worker.chunks.pop_front();
        }
        if count > 0 {
            worker.has_finished = true;
            self.jobs.get_mut(&job).unwrap().is_proven = true;
            *self.finished_in.entry(id.slot).or_default() += count;
            self.failed_starts = 0;
            self.failed_items = failed.iter().map(|&offset| (job, job_first + u64::from(offset))).collect();
            let busy = Duration::from_micros(self.random.below(3000));
            let size = self.results.make(count);
            self.say(Event::ItemsFinished { worker: id, chunk: id_of_chunk, first, count, failed, busy, size });
            self.failed_items.clear();
        }
    }

    pub(super) fn crash_a_worker(&mut self) {
        let all: Vec<WorkerId> = self.workers.keys().copied().collect();
        if let Some(id) = self.random.pick(&all) {
            self.exit(id);
        }
    }

    /// A worker that is up holds too much memory, for the first time or still.
    pub(super) fn find_a_large_worker(&mut self) {
        let up: Vec<WorkerId> = self.workers.iter().filter(|(_, worker)| worker.is_up).map(|(&id, _)| id).collect();
        if let Some(id) = self.random.pick(&up) {
            let worker = self.workers.get_mut(&id).unwrap();
            worker.is_large = true;
            self.upsets.note(Upset::Large(worker.moment()));
            self.say(Event::MemoryHigh { worker: id });
        }
    }

    pub(super) fn let_a_worker_stop(&mut self) {
        let stopping: Vec<WorkerId> =
            self.workers.iter().filter(|(_, worker)| worker.may_stop()).map(|(&id, _)| id).collect();
        if let Some(id) = self.random.pick(&stopping) {
            self.exit(id);
        }
    }

    pub(super) fn exit(&mut self, id: WorkerId) {
        // What had finished is found in the journal.
        self.say_results(id);
        let worker = self.workers.remove(&id).unwrap();
        self.upsets.note(Upset::Exited(worker.moment()));
        let others = self.workers.iter().filter(|(other, _)| other.slot.0 < self.slots).map(|(_, worker)| worker);
        let others: Vec<_> = others.filter(|worker| worker.is_up && !worker.is_stopping).collect();
        let others_are_up = !others.is_empty();
        let first = worker.chunks.front().map(|chunk| self.jobs[&chunk.job].spec.function);
        let others_could = first.is_some_and(|function| others.iter().any(|other| other.functions.has(function)));
        if !self.workers.values().any(|worker| worker.is_up && !worker.is_stopping) {
            self.held.clear();
        }
        let mut running = None;
        for chunk in &worker.chunks {
            let job = self.jobs.get_mut(&chunk.job).unwrap();
            for offset in chunk.finished..chunk.count {
                let item = job.item(chunk.first_index + u64::from(offset));
                (item.runs, item.is_out) = (false, false);
            }
            if running.is_none() && chunk.began.is_some() {
                running = Some((chunk.id, chunk.finished));
            }
        }
        let has_died = worker.is_up && !worker.is_stopping;
        let finished_there = self.finished_in.get(&id.slot).copied().unwrap_or(0);
        let death = Death { slot: id.slot, others_could, finished_there };
        for (position, chunk) in worker.chunks.iter().enumerate() {
            let job = self.jobs.get_mut(&chunk.job).unwrap();
            let index = chunk.first_index + u64::from(chunk.finished);
            if position == 0 && has_died {
                job.deaths.push((death, index));
                if chunk.began.is_none() {
                    job.item(index).fruitless.push(death);
                }
            } else if chunk.finished == 0 && chunk.began.is_none() && job.ended.is_none() {
                job.item(index).returns += 1;
            }
        }
        if has_died && self.bad_slot != Some(id.slot) {
            self.bad_row = 0;
        } else if has_died && others_are_up && !worker.has_finished {
            self.bad_row += 1;
        }
        self.failed_starts += u32::from(!worker.is_stopping && !worker.has_finished && worker.chunks.is_empty());
        let by_shortage = !worker.is_up && self.random.below(4) == 0;
        self.say(Event::WorkerExited { worker: id, running, by_shortage });
        assert!(self.bad_row < 3, "slot {:?} is still given items", self.bad_slot);
    }

    pub(super) fn answer_a_recall(&mut self) {
        let asked: Vec<(WorkerId, ChunkId)> = self
            .workers
            .iter()
            .filter(|(_, worker)| !worker.is_still)
            .flat_map(|(&id, worker)| worker.chunks.iter().map(move |chunk| (id, chunk)))
            .filter(|(_, chunk)| chunk.is_recalled)
            .map(|(id, chunk)| (id, chunk.id))
            .collect();
        if let Some((id, chunk)) = self.random.pick(&asked) {
            self.answer_recall(id, chunk);
        }
    }

    pub(super) fn answer_recall(&mut self, id: WorkerId, chunk: ChunkId) {
        let worker = self.workers.get_mut(&id).unwrap();
        let position = worker.chunks.iter().position(|active| active.id == chunk).unwrap();
        let active = &mut worker.chunks[position];
        let first_not_begun = active.finished + u32::from(active.began.is_some());
        let job = self.jobs.get_mut(&active.job).unwrap();
        if first_not_begun == 0 && job.ended.is_none() {
            job.item(active.first_index).returns += 1;
        }
        for offset in first_not_begun..active.count {
            job.item(active.first_index + u64::from(offset)).is_out = false;
        }
        active.count = first_not_begun;
        active.is_recalled = false;
        if active.said == active.count {
            worker.chunks.remove(position);
        }
        self.say(Event::Recalled { worker: id, chunk, first_not_begun });
    }

    /// The session of a worker looks at what it runs.
    pub(super) fn look_at_items(&mut self, id: WorkerId) {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if worker.is_stopping && !worker.watch.has_terminated() {
            return;
        }
        let running = worker.chunks.front().and_then(|chunk| {
            // Without a result, nobody can tell whether the item that was begun last has ended.
            let held_back = chunk.finished.checked_sub(1).filter(|&offset| offset >= chunk.said);
            let (offset, began) = match chunk.began {
                Some(began) => (chunk.finished, began),
                None => (held_back?, chunk.began_before),
            };
            Some(RunningItem { chunk: chunk.id, offset, running_for: now.since(began) })
        });
        let watched = worker.chunks.iter().map(|chunk| WatchedChunk {
            chunk: chunk.id,
            time_limit: chunk.time_limit,
            is_cancelled: chunk.is_cancelled,
        });
        let Some(action) = worker.watch.look(now, watched, running) else { return };
        let moment = worker.moment();
        self.upsets.note(match action {
            ItemAction::Expire => Upset::Expired(moment),
            ItemAction::Terminate(_) => Upset::TerminatedForItem(moment),
            ItemAction::Kill => Upset::KilledForItem,
        });
        let chunk = worker.chunks.front_mut();
        let was_told = chunk
            .as_ref()
            .is_none_or(|chunk| chunk.began.is_none() || chunk.is_cancelled || chunk.expired.contains(&chunk.finished));
        match action {
            ItemAction::Expire => {
                let (chunk, item) = (chunk.unwrap(), running.unwrap());
                assert!(chunk.time_limit.is_some_and(|limit| item.running_for >= limit), "its time is not up");
                chunk.expired.push(item.offset);
                chunk.is_recalled = true;
                worker.watch.expire(now, item);
                self.say(Event::ItemExpired { worker: id, chunk: item.chunk, offset: item.offset });
            }
            ItemAction::Terminate(reason) => {
                assert!(was_told, "an item was ended that had not been told to end");
                self.end(id);
                self.say(Event::WorkerStopping { worker: id, reason });
            }
            ItemAction::Kill => {
                assert!(was_told, "an item was ended that had not been told to end");
                self.exit(id);
            }
        }
    }

    /// A worker gets SIGTERM, which comes with SIGCONT, or SIGKILL.
    pub(super) fn end(&mut self, id: WorkerId) {
        let worker = self.workers.get_mut(&id).expect("an end to a worker that is there");
        worker.is_stopping = true;
        if std::mem::take(&mut worker.is_still) {
            self.upsets.note(Upset::StoppedAndTerminated);
        }
    }

    pub(super) fn make_worker_behave(&mut self, id: WorkerId) {
        self.workers.get_mut(&id).unwrap().is_still = false;
        let recalled: Vec<ChunkId> = self.workers[&id].chunks.iter().filter(|c| c.is_recalled).map(|c| c.id).collect();
        for chunk in recalled {
            self.answer_recall(id, chunk);
        }
        for _ in 0..3 {
            if self.workers.contains_key(&id) {
                self.work(id, u32::MAX);
            }
        }
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if worker.is_stopping {
            self.exit(id);
        } else if !worker.is_up {
            self.start(id);
        }
    }
}
