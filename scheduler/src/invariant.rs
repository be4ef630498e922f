//! What always holds. Checked after every event in debug builds and tests; with hundreds of jobs, after some.

use crate::event::{Hold, Readiness};
use crate::id::SlotId;
use crate::job_spec::Delivery;
use crate::pool::PoolState;
use crate::results::Level;
use crate::timer::TimerKey::{
    Age, Deadline, Idle, Memory, Proof, Rebalance, Reconsider, Restart, Retry, Rollout, Start, StopGrace,
};
use crate::worker::{ActiveChunk, Expired};

/// For each so many jobs there is an event more from one check to the next: a check looks at every job.
const JOBS_PER_EVENT: usize = 256;

impl PoolState {
    /// Checks the invariants, unless that would take most of the time.
    pub(crate) fn check_invariants_if_due(&mut self) {
        self.unchecked += 1;
        if self.unchecked * JOBS_PER_EVENT >= self.jobs.len() {
            self.unchecked = 0;
            self.check_invariants();
        }
    }

    /// Checks the invariants.
    ///
    /// # Panics
    ///
    /// If one does not hold, naming it.
    pub(crate) fn check_invariants(&self) {
        self.check_jobs();
        self.check_workers();
        self.check_timers();
        self.check_slots();
        self.check_results();
    }

    fn check_jobs(&self) {
        for (id, job) in &self.jobs {
            let out: u64 = self
                .workers()
                .flat_map(|worker| &worker.chunks)
                .filter(|chunk| chunk.job == *id && !chunk.abandoned)
                .map(|chunk| {
                    let has_outcome = |expired: &&Expired| expired.offset >= chunk.finished && !expired.tried_again;
                    u64::from(chunk.remaining()) - chunk.expired.iter().filter(has_outcome).count() as u64
                })
                .sum();
            assert_eq!(job.outstanding, out, "job {id}: items out are those at workers");
            let chunks = self.workers().flat_map(|worker| &worker.chunks).filter(|chunk| chunk.job == *id);
            assert_eq!(job.num_chunks as usize, chunks.count(), "job {id}: its chunks are counted");
            let fresh = job.spec.num_items - job.next_fresh;
            let known = fresh + job.num_given_back() + out + job.finished.len();
            assert_eq!(job.spec.num_items, known, "job {id}: every item is in exactly one place");
            assert!(!self.is_lost(job.spec.function), "job {id}: what nobody can run is not waited for");
            assert!(!job.is_complete(), "job {id}: a job that is complete is forgotten");
            assert_eq!(job.queued, job.is_runnable(), "job {id}: queued if and only if it has work");
            let is_whole = job.spec.delivery == Delivery::Whole;
            assert!(!is_whole || job.hold == Hold::Nothing, "job {id}: only a stream is held");
            assert!(job.hold != Hold::All || !job.queued, "job {id}: nothing begins of what is held");
            assert_eq!(job.queued, job.queued_since.is_some(), "job {id}: it is known since when it waits");
            assert_eq!(job.queued, job.num_runnable() > 0, "job {id}: what could run is counted");
            assert_eq!(
                job.queued,
                self.queue.contains(job.spec.function, *id, job.virtual_time),
                "job {id}: stands in the queue as it says"
            );
        }
        let queued = self.jobs.values().filter(|job| job.queued).count();
        assert_eq!(self.queue.len(), queued, "nothing but jobs stands in the queue");
    }

    fn check_results(&self) {
        let results = &self.results;
        let (mut used, mut num_jobs) = ([0, 0], [0, 0]);
        let of_jobs = self.jobs.values().map(|job| (job.spec.delivery, job.results.bytes));
        for (delivery, bytes) in of_jobs.chain(results.ended.values().copied()) {
            let budget = usize::from(delivery != Delivery::Whole);
            used[budget] += bytes;
            num_jobs[budget] += 1;
        }
        assert_eq!(used, [results.whole.used, results.streams.used], "what is used is what jobs hold");
        assert_eq!(num_jobs, [results.whole.num_jobs, results.streams.num_jobs], "jobs share what is theirs");
        let level = results.streams.level();
        assert_eq!(results.level, level, "streams were looked at when their budget's level changed");
        let mut num_paused = 0;
        for (id, job) in self.jobs.iter().filter(|(_, job)| job.spec.delivery != Delivery::Whole) {
            let is_paused = job.hold != Hold::Nothing;
            num_paused += usize::from(is_paused);
            assert_eq!(
                is_paused,
                results.paused.contains(&(job.results.bytes, *id)),
                "stream {id}: it is known to be paused"
            );
            // When jobs are many, a share is less than it was, and what a stream holds may come to be more than that.
            let hold = results.hold_of(&job.results);
            let is_up_to_date = job.hold == hold || level == Level::Shared && [job.hold, hold].contains(&Hold::Nothing);
            assert!(is_up_to_date, "stream {id}: it is held as it should be");
        }
        assert_eq!(results.paused.len(), num_paused, "nothing but streams is paused");
    }

    fn check_workers(&self) {
        for worker in self.workers() {
            let id = worker.id;
            assert!(worker.chunks.len() <= 2, "worker {id}: one chunk runs, at most one waits");
            for chunk in &worker.chunks {
                assert!(chunk.remaining() > 0, "worker {id}: a finished chunk is gone");
                assert!(chunk.abandoned || self.jobs.contains_key(&chunk.job), "worker {id}: a chunk has a job");
            }
            let functions = &self.slots[id.slot.0 as usize].functions;
            let is_idle = worker.is_idle() && worker.takes_chunks();
            let may_run = self.queue.iter_of(functions).any(|job| {
                let job = &self.jobs[&job];
                job.available(|history| !self.is_left_to_others(id.slot, job, history)).is_some()
            });
            assert!(!is_idle || !may_run, "worker {id}: no ready slot idles while an item may run");
            let has = |chunk: &ActiveChunk| functions.has(chunk.function);
            assert!(worker.chunks.iter().all(has), "worker {id}: it has the functions of its chunks");
        }
        if self.readiness == Readiness::Stopped {
            assert!(self.workers().next().is_none() && self.jobs.is_empty(), "nothing is left of a stopped pool");
        }
    }

    fn check_timers(&self) {
        for key in self.timers.keys() {
            let has_owner = match key {
                Deadline(job) => self.jobs.contains_key(&job) || self.is_at_a_worker(job),
                Retry(job) => self.jobs.contains_key(&job),
                Start(id) | Proof(id) | StopGrace(id) | Age(id) | Idle(id) | Memory(id) => {
                    self.workers().any(|worker| worker.id == id)
                }
                Restart(slot) => self.slots[slot.0 as usize].worker.is_none(),
                Rebalance => true,
                Reconsider => !self.jobs.is_empty(),
                Rollout => self.is_restarting(),
            };
            assert!(has_owner, "timer {key:?} has nobody to wait for it");
        }
    }

    /// A slot that has no worker will have one, as long as workers are needed.
    fn check_slots(&self) {
        let num_slots = self.slots.iter().filter(|slot| !slot.removed).count();
        assert_eq!(self.num_slots as usize, num_slots, "the slots that are to have a worker are counted");
        self.slots.check();
        let is_ending = matches!(self.readiness, Readiness::Draining | Readiness::Stopped) && self.jobs.is_empty();
        if self.stopping || is_ending {
            return;
        }
        let (mut num_waiting, mut somebody_tries) = (0, false);
        for (id, slot) in (0..).map(SlotId).zip(self.slots.iter()).filter(|(_, slot)| !slot.removed) {
            let is_failing = slot.health.failing_since().is_some();
            let is_moving = slot.worker.is_some() || self.timers.is_set(Restart(id));
            assert!(is_moving || is_failing, "slot {id}: an empty slot will be filled");
            somebody_tries |= is_moving && is_failing;
            num_waiting += u32::from(!is_moving);
        }
        assert!(num_waiting == 0 || somebody_tries, "{num_waiting} slots wait for one that does not try");
    }
}
