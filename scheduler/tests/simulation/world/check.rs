//! What must be true of everything that the scheduler wants done.

use std::time::Duration;

use procpool_scheduler::{
    Dispatch, Effect, FailureCause, JobFailure, JobId, Readiness, SlotId, StopReason, Time, WorkerId, WorkerState,
};

use super::{SimChunk, SimWorker, World};

impl World {
    /// Checks an effect and carries it out. `results`: how many came with the event. Workers whose chunks nobody waits for
    /// any more are added to `cancelled`.
    pub(super) fn check(&mut self, results: Option<u32>, effect: Effect, cancelled: &mut Vec<WorkerId>) {
        match effect {
            Effect::SpawnWorker { worker } => {
                let is_free = self.workers.keys().all(|other| other.slot != worker.slot);
                assert!(is_free, "two workers in one slot");
                let until = self.held.remove(&worker.slot);
                assert!(until.is_none_or(|until| until <= self.now), "slot {} is not held back", worker.slot);
                self.workers.insert(worker, SimWorker::new(self.grace));
            }
            Effect::Dispatch(dispatch) => self.take_chunk(&dispatch),
            Effect::Recall { worker: id, chunk, cancel } => {
                let worker = self.workers.get_mut(&id).expect("a recall to a worker that is there");
                if let Some(active) = worker.chunks.iter_mut().find(|active| active.id == chunk) {
                    active.is_recalled = true;
                    active.is_cancelled |= cancel;
                    cancelled.extend(cancel.then_some(id));
                }
            }
            Effect::Shutdown { worker: id, reason } => {
                self.check_turn(id, reason);
                let worker = self.workers.get_mut(&id).expect("a stop to a worker that is there");
                assert!(worker.chunks.is_empty(), "a busy worker was shut down");
                worker.is_stopping = true;
                if reason == StopReason::Memory {
                    assert!(worker.is_large, "a small worker was stopped for its memory");
                    worker.stops_for_memory = true;
                    let leaving = |worker: &&SimWorker| worker.stops_for_memory && !worker.saw_resize;
                    assert!(self.workers.values().filter(leaving).count() <= 1, "one at a time, if its slot stays");
                }
            }
            Effect::Terminate { worker: id, reason } | Effect::Kill { worker: id, reason } => {
                assert!(!matches!(reason, StopReason::ItemTimeout | StopReason::Cancelled), "that is for the session");
                self.has_hung |= reason == StopReason::StartTimeout;
                self.end(id);
            }
            Effect::StoreResults { job, first_index, skip, count } => {
                let all = results.expect("results come with results");
                assert!(skip + count <= all && count > 0, "more results than came");
                let of = self.jobs.get_mut(&job).unwrap();
                (first_index..first_index + u64::from(count)).for_each(|index| of.settle(index));
                self.store_results(job, first_index, skip, count);
            }
            Effect::FailItem { job, index, attempt, cause } => {
                let job = self.jobs.get_mut(&job).unwrap();
                job.settle(index);
                let executions = job.item(index).executions;
                match cause {
                    FailureCause::WorkerDied | FailureCause::TimedOut { .. } => {
                        assert_eq!(attempt, job.spec.max_attempts(), "an item was given up early");
                        assert_eq!(executions, attempt, "an attempt is an execution");
                    }
                    FailureCause::CrashLimit { crashes } => {
                        assert!([3, 9].contains(&crashes), "{crashes}");
                        if executions < 3 {
                            job.check_blame(index, crashes);
                        }
                    }
                }
                let id = job.spec.id;
                if job.spec.fails_fast() {
                    self.failed_items.insert(0, (id, index));
                }
                self.store_failure(id, index);
            }
            Effect::Deliver { job, first_index, count } => {
                self.jobs.get_mut(&job).unwrap().deliver(first_index, count);
            }
            Effect::CompleteJob { job } => self.jobs.get_mut(&job).unwrap().complete(),
            Effect::HoldChanged { job, hold } => self.change_hold(job, hold),
            Effect::FailJob { job, failure } => self.check_job_failure(job, failure),
            Effect::RestartFinished => {
                let is_gone = |worker: &WorkerId| !self.workers.contains_key(worker);
                assert!(self.old_workers.iter().all(is_gone), "an old worker is still there");
                assert!(std::mem::take(&mut self.restarts), "a restart ends once");
            }
            Effect::RestartGivenUp => {
                assert!(self.is_draining(), "why not go on?");
                assert!(std::mem::take(&mut self.restarts), "a restart ends once");
            }
            Effect::SlotHeld { slot, wait } => self.check_hold(slot, wait),
            Effect::SlotHealed { slot } => {
                assert_ne!(self.bad_slot, Some(slot));
                self.suspects.remove(&slot);
            }
            Effect::ReadinessChanged(readiness) => self.check_readiness(readiness),
        }
    }

    fn check_job_failure(&mut self, id: JobId, failure: JobFailure) {
        self.check_refusal(id, failure);
        self.drop_results(id);
        let job = self.jobs.get_mut(&id).unwrap();
        job.fail();
        if let JobFailure::DeadlineUnreachable { expected, remaining, .. } = failure {
            assert!(expected > remaining, "a job was refused that could be done");
            assert!(job.items.iter().all(|item| !item.is_out && item.executions == 0), "a refused job ran");
            assert_eq!(job.spec.deadline.map(|deadline| deadline.since(self.now)), Some(remaining));
        }
        if let JobFailure::NoFunction { started } = failure {
            let has_run = job.items.iter().any(|item| item.is_out || item.executions > 0);
            assert!(started || !has_run, "it is said not to have run");
            let function = job.spec.function;
            let up = self.workers.values().filter(|worker| worker.is_up);
            let (has, lacks): (Vec<_>, Vec<_>) = up.partition(|worker| worker.functions.has(function));
            assert!(has.is_empty() && !lacks.is_empty(), "a job failed whose function a worker has");
        }
        if let JobFailure::CrashLimit { crashes } = failure {
            job.check_blame_of_job(crashes);
        }
        if let JobFailure::ItemFailed { index } = failure {
            assert!(job.spec.fails_fast(), "a job that collects failed with an item");
            // A late answer of an item whose time was up has no outcome, and ends nothing.
            let counts = |&&(failed_job, failed): &&(JobId, u64)| {
                failed_job == id && job.items[usize::try_from(failed).unwrap()].has_outcome
            };
            let first = self.failed_items.iter().find(counts);
            assert_eq!(first, Some(&(id, index)), "the first failure to arrive ends the job");
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        matches!(self.readiness, Readiness::Draining | Readiness::Stopped)
    }

    /// Workers that are replaced go one at a time: every other slot has one that is up, or its workers die.
    fn check_turn(&self, id: WorkerId, reason: StopReason) {
        use StopReason::{Idle, MaxAge, Memory, Restart};
        if !matches!(reason, Idle | MaxAge | Memory | Restart) || id.slot.0 >= self.slots {
            return;
        }
        for slot in (0..self.slots).map(SlotId).filter(|&slot| slot != id.slot) {
            let mut workers = self.workers.iter().filter(|(other, _)| other.slot == slot);
            let is_up = workers.any(|(_, worker)| worker.is_up && !worker.is_stopping);
            assert!(is_up || self.suspects.contains(&slot), "worker {id} was stopped while slot {slot} had none");
        }
    }

    fn check_hold(&mut self, slot: SlotId, wait: Duration) {
        assert!(wait >= Duration::from_secs(24) && wait <= Duration::from_secs(360), "{wait:?}");
        let mut others = self.workers.iter().filter(|(other, _)| other.slot != slot && other.slot.0 < self.slots);
        assert!(others.any(|(_, worker)| worker.is_up), "nobody does its work");
        self.held.insert(slot, self.now.after(wait));
        self.suspects.insert(slot);
        if self.bad_slot == Some(slot) {
            self.bad_row = 0;
        }
    }

    fn check_readiness(&mut self, readiness: Readiness) {
        if readiness == Readiness::Degraded {
            assert!(self.workers.values().all(|worker| !worker.is_up || worker.is_stopping), "some are up");
            assert!(self.failed_starts >= 5 || self.has_hung, "{} failed starts", self.failed_starts);
        }
        self.readiness = readiness;
    }

    fn take_chunk(&mut self, dispatch: &Dispatch) {
        assert!(dispatch.count > 0, "an empty chunk");
        let worker = self.workers.get(&dispatch.worker).expect("a chunk for a worker that is there");
        assert!(worker.is_up && !worker.is_stopping, "a chunk for a worker that takes none");
        assert!(dispatch.worker.slot.0 < self.slots, "a chunk for a slot that was given up");
        if dispatch.attempt > 1 {
            self.check_slot_of_retry(dispatch);
        }
        self.check_begin(dispatch.job);
        let worker = self.workers.get_mut(&dispatch.worker).unwrap();
        let job = self.jobs.get_mut(&dispatch.job).unwrap();
        assert!(worker.functions.has(job.spec.function), "an item went to a worker that cannot run it");
        if let Some(chunk_size) = job.spec.chunk_size() {
            assert!(dispatch.count <= chunk_size, "a chunk is larger than the caller said");
        }
        for index in dispatch.first_index..dispatch.first_index + u64::from(dispatch.count) {
            job.hand_out(index, self.most_slots);
        }
        worker.watch.chunk_given(self.now, dispatch.time_limit);
        worker.chunks.push_back(SimChunk {
            id: dispatch.chunk,
            job: dispatch.job,
            first_index: dispatch.first_index,
            count: dispatch.count,
            finished: 0,
            said: 0,
            failed: Vec::new(),
            began: None,
            began_before: Time::ZERO,
            is_recalled: false,
            time_limit: dispatch.time_limit,
            is_cancelled: false,
            expired: Vec::new(),
        });
        assert!(worker.chunks.len() <= 2, "a worker has more than one chunk ahead");
    }

    /// An item that is tried again runs in another slot than the one where it failed, if another has nothing to do.
    fn check_slot_of_retry(&mut self, dispatch: &Dispatch) {
        assert_eq!(dispatch.count, 1, "an item that is tried again runs in a chunk of its own");
        let item = self.jobs.get_mut(&dispatch.job).unwrap().item(dispatch.first_index);
        let failed_in = item.last_worker;
        // Nor where a worker died with it at the head of its chunk, which may be what it does to a worker.
        let fruitless_in = item.fruitless.last().map(|death| death.slot);
        assert_ne!(failed_in, Some(dispatch.worker), "an item is tried again in the process where it failed");
        let failed_at = failed_in.map(|worker| worker.slot);
        // Nor where two died with whatever items of the job: those that died elsewhere at the same time need not count.
        let deaths = &self.jobs[&dispatch.job].deaths;
        let is_left_to_others = |slot| deaths.iter().filter(|(death, _)| death.slot == slot).count() >= 2;
        // An item of a stream that is held waits for its reader, maybe longer than one waits for another slot.
        let was_held = self.jobs[&dispatch.job].was_held;
        if failed_at == Some(dispatch.worker.slot) && !was_held {
            let snapshot = self.state.snapshot();
            let function = self.jobs[&dispatch.job].spec.function;
            let idle = snapshot.workers.iter().find(|worker| {
                let could = self.workers.get(&worker.id).is_some_and(|sim| sim.functions.has(function));
                let is_idle = worker.state == WorkerState::Ready && worker.running.is_none();
                let is_excused = [Some(dispatch.worker.slot), fruitless_in].contains(&Some(worker.id.slot));
                is_idle && could && !is_excused && !is_left_to_others(worker.id.slot)
            });
            assert!(idle.is_none(), "{idle:?} could have tried again what failed in {failed_at:?}");
        }
    }
}
