//! How much there is to do, and with what: numbers for those who watch the pool or scale it. Changes nothing.
//!
//! Items are not demand: a million items of two microseconds are two seconds of work for one slot. So what is queued
//! is weighed by what its function's items have been costing.

use std::time::Duration;

use super::PoolState;
use crate::job::Job;
use crate::time::{Time, saturating_nanos};
use crate::worker::Phase;

/// What is queued should be done within this time: about how long it takes until more slots are there.
const HORIZON: Duration = Duration::from_secs(10);

/// How much there is to do, and with what, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Demand {
    /// The slots by the state of their workers.
    pub slots: SlotCounts,
    /// How many calls are in progress.
    pub num_jobs: u64,
    /// How many items are not at a worker, those included that a stream holds back for its reader.
    pub num_queued_items: u64,
    /// How many items are at workers.
    pub num_running_items: u64,
    /// How long the present slots will take for what could run and is not at a worker, by the functions' run times.
    pub backlog: Duration,
    /// How many slots the work at hand could use: those that are busy, and those that would do what is queued within
    /// ten seconds. No item is counted for more than one slot. Not bounded by the number of slots.
    pub slots_demanded: u64,
    /// How long some job has had items waiting for a slot, without a break; the longest of all jobs.
    pub oldest_queued: Duration,
    /// How long no call has been in progress; zero while one is.
    pub idle: Duration,
}

/// Slots by the state of their workers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SlotCounts {
    /// The worker is not ready yet.
    pub starting: u64,
    /// The worker waits for work.
    pub ready: u64,
    /// The worker has work.
    pub busy: u64,
    /// The worker was told to stop and is not gone yet.
    pub stopping: u64,
    /// There is no worker, and one will be started.
    pub empty: u64,
}

impl PoolState {
    /// Returns how much there is to do, and with what. Walks over all jobs and slots.
    pub fn demand(&self, now: Time) -> Demand {
        let now = self.now.max(now);
        let slots = self.slot_counts();
        let mut demand = Demand { slots, num_jobs: self.jobs.len() as u64, ..Demand::default() };
        let horizon = u128::from(saturating_nanos(HORIZON));
        let (mut backlog_nanos, mut demanded_nanos) = (0, 0);
        for job in self.jobs.values() {
            demand.num_queued_items += job.num_not_out();
            demand.num_running_items += job.outstanding;
            if let Some(since) = job.queued_since {
                demand.oldest_queued = demand.oldest_queued.max(now.since(since));
            }
            let items = u128::from(job.num_runnable());
            let work = items * self.item_nanos(job, now);
            // Items that their caller wants to stay together run on one slot.
            let chunks = items.div_ceil(u128::from(job.spec.chunk_size().unwrap_or(1)));
            backlog_nanos += work;
            demanded_nanos += work.min(chunks * horizon);
        }
        let per_slot = backlog_nanos / u128::from(self.num_slots);
        demand.backlog = Duration::from_nanos(u64::try_from(per_slot).unwrap_or(u64::MAX));
        let more = u64::try_from(demanded_nanos.div_ceil(horizon)).unwrap_or(u64::MAX);
        demand.slots_demanded = slots.busy.saturating_add(more);
        demand.idle = if self.jobs.is_empty() { now.since(self.idle_since) } else { Duration::ZERO };
        demand
    }

    pub(super) fn slot_counts(&self) -> SlotCounts {
        let mut counts = SlotCounts::default();
        for slot in self.slots.iter() {
            match slot.worker.as_ref() {
                None if slot.removed => {}
                None => counts.empty += 1,
                Some(worker) => match worker.phase {
                    Phase::Starting => counts.starting += 1,
                    Phase::Up if worker.chunks.is_empty() => counts.ready += 1,
                    Phase::Up => counts.busy += 1,
                    Phase::Stopping { .. } => counts.stopping += 1,
                },
            }
        }
        counts
    }

    /// Returns what an item of the job is expected to cost. While nothing has finished, at least as long as one has
    /// been running by now.
    fn item_nanos(&self, job: &Job, now: Time) -> u128 {
        let function = job.spec.function;
        let known = self.run_times.average(function).unwrap_or_else(|| {
            let running = self.workers().filter_map(|worker| worker.chunks.front());
            let running = running.filter(|chunk| chunk.function == function);
            let longest = running.map(|chunk| now.since(chunk.dispatched_at)).max().unwrap_or_default();
            longest.max(self.run_times.estimate(function, 1))
        });
        u128::from(saturating_nanos(known))
    }
}

#[cfg(test)]
#[path = "demand_tests.rs"]
pub(super) mod tests;
