//! The state of the pool, for people to look at.

use super::{PoolState, SlotCounts};
use crate::event::Readiness;
use crate::id::{JobId, SlotId, WorkerId};
use crate::job::Job;
use crate::time::Time;
use crate::worker::{Phase, Worker};

/// The most jobs that a snapshot has.
const MAX_JOBS: usize = 100;

/// The state of the pool at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Whether it takes jobs.
    pub readiness: Readiness,
    /// The number of slots that are to have a worker.
    pub num_slots: u32,
    /// The workers, by slot.
    pub workers: Vec<WorkerSnapshot>,
    /// The slots that get no worker for a while, since their last ones finished nothing while others work.
    pub held_slots: Vec<SlotId>,
    /// The number of jobs.
    pub num_jobs: usize,
    /// The oldest jobs, at most a hundred.
    pub jobs: Vec<JobSnapshot>,
    /// The number of items that no worker has.
    pub num_queued_items: u64,
    /// The number of items that workers have.
    pub num_running_items: u64,
    /// The number of workers that were started so far.
    pub workers_started_total: u64,
    /// A restart of all workers is under way.
    pub restarting: bool,
    /// The slots by the state of their workers.
    pub slots: SlotCounts,
}

/// One worker at one moment.
#[derive(Debug, Clone)]
pub struct WorkerSnapshot {
    /// Which.
    pub id: WorkerId,
    /// Where it stands.
    pub state: WorkerState,
    /// How many items it has finished.
    pub num_finished_items: u64,
    /// What it runs.
    pub running: Option<RunningItems>,
}

/// Where a worker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerState {
    /// Not ready yet.
    Starting,
    /// It waits for items.
    Ready,
    /// It has items.
    Busy,
    /// It was asked to stop.
    Stopping,
    /// It is gone.
    Exited,
}

/// One job at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSnapshot {
    /// Which.
    pub id: JobId,
    /// How many items have arrived.
    pub num_items: u64,
    /// How many of them no worker has, and have no outcome.
    pub num_queued_items: u64,
    /// How many of them workers have.
    pub num_running_items: u64,
    /// How many of them have their outcome.
    pub num_finished_items: u64,
    /// More items may arrive.
    pub input_open: bool,
    /// Nothing of it runs, and none of its items begins before its reader has taken results.
    pub waits_for_reader: bool,
    /// When its caller stops waiting.
    pub deadline: Option<Time>,
    /// Each step up doubles its share.
    pub priority: i32,
}

/// What a worker runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunningItems {
    /// The job.
    pub job: JobId,
    /// The index of the first item without a result.
    pub first_index: u64,
    /// How many items have no result, this one included.
    pub count: u32,
}

impl PoolState {
    /// Returns the state of the pool. Its cost is the number of jobs and slots.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            readiness: self.readiness,
            num_slots: self.num_slots,
            workers: self.workers().map(Worker::snapshot).collect(),
            held_slots: self
                .slot_ids()
                .zip(self.slots.iter())
                .filter(|(_, slot)| slot.is_held())
                .map(|(id, _)| id)
                .collect(),
            num_jobs: self.jobs.len(),
            jobs: self.jobs.values().take(MAX_JOBS).map(Job::snapshot).collect(),
            num_queued_items: self.jobs.values().map(Job::num_not_out).sum(),
            num_running_items: self.jobs.values().map(|job| job.outstanding).sum(),
            workers_started_total: self.last_generation,
            restarting: self.is_restarting(),
            slots: self.slot_counts(),
        }
    }
}

impl Job {
    fn snapshot(&self) -> JobSnapshot {
        JobSnapshot {
            id: self.spec.id,
            num_items: self.spec.num_items,
            num_queued_items: self.num_not_out(),
            num_running_items: self.outstanding,
            num_finished_items: self.finished.len(),
            input_open: !self.spec.input_closed,
            waits_for_reader: self.waits_for_reader(),
            deadline: self.spec.deadline,
            priority: self.spec.priority,
        }
    }
}

impl Worker {
    fn snapshot(&self) -> WorkerSnapshot {
        let state = match self.phase {
            Phase::Starting => WorkerState::Starting,
            Phase::Up if self.chunks.is_empty() => WorkerState::Ready,
            Phase::Up => WorkerState::Busy,
            Phase::Stopping { .. } => WorkerState::Stopping,
        };
        let running = self.chunks.front().map(|chunk| RunningItems {
            job: chunk.job,
            first_index: chunk.first_index + u64::from(chunk.finished),
            count: chunk.remaining(),
        });
        WorkerSnapshot { id: self.id, state, num_finished_items: self.finished_items, running }
    }
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
