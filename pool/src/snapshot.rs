//! What operators see of a pool: its state at one moment, what happens to it, and how far a restart has got. Plain data.

use std::collections::BTreeMap;
use std::time::Duration;

pub use procpool_scheduler::{Demand, JobSnapshot, Readiness, RunningItems, SlotCounts, WorkerState};
use tokio::sync::{broadcast, watch};

use crate::call::{CallLabel, TraceContext};
use crate::error::CallError;
use crate::supervisor::MemoryLimits;
use crate::usage::Usage;

/// How many events a watcher may be behind before it is given the whole state anew.
pub(crate) const EVENT_BUFFER: usize = 256;

/// The state of a pool at one moment.
#[derive(Debug, Clone)]
pub struct PoolSnapshot {
    /// What the scheduler knows.
    pub pool: procpool_scheduler::Snapshot,
    /// The workers, by slot.
    pub workers: Vec<WorkerReport>,
    /// The oldest jobs, at most a hundred.
    pub jobs: Vec<JobReport>,
    /// How the last worker that did not become ready ended; may be empty.
    pub last_start_failure: String,
    /// How much memory a worker may hold.
    pub memory: MemoryLimits,
    /// What has happened.
    pub counts: PoolCounts,
}

/// What a pool has done since it started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolCounts {
    /// Jobs that were submitted. What the handle refuses is none.
    pub jobs_total: u64,
    /// Jobs that ended without an answer, those included whose caller went away.
    pub jobs_failed_total: u64,
    /// Items that have a result.
    pub items_succeeded_total: u64,
    /// Items that failed.
    pub items_failed_total: u64,
    /// Items whose job ended before they had an outcome.
    pub items_dropped_total: u64,
    /// Workers that are gone, by [`exit_reason`](crate::exit_reason).
    pub worker_exits_total: BTreeMap<&'static str, u64>,
}

/// What a pool holds of what it may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Items, queued or at workers.
    pub items: u64,
    /// Bytes of items and of common arguments.
    pub bytes: u64,
}

/// One worker at one moment.
#[derive(Debug, Clone)]
pub struct WorkerReport {
    /// Unique in the life of the pool.
    pub worker_id: u64,
    /// The place that it fills.
    pub slot: u32,
    /// Its process id; 0 if it is not known yet.
    pub pid: u32,
    /// Where it stands.
    pub state: WorkerState,
    /// How long ago it was started.
    pub age: Duration,
    /// How many items it has finished.
    pub num_finished_items: u64,
    /// What it runs.
    pub running: Option<RunningItems>,
    /// The function of what it runs; empty if it runs nothing, or what it runs is of a job that has ended.
    pub function: String,
    /// What it uses of the machine; `None` if that is not known.
    pub usage: Option<Usage>,
}

/// One job at one moment.
#[derive(Debug, Clone)]
pub struct JobReport {
    /// What the scheduler knows.
    pub job: JobSnapshot,
    /// What people know it by.
    pub label: CallLabel,
    /// Its function.
    pub function: String,
    /// Its caller's trace.
    pub trace: TraceContext,
    /// How many of its finished items have failed.
    pub num_failed_items: u64,
    /// How long ago it was submitted.
    pub age: Duration,
    /// How long its caller still waits; `None`: for ever.
    pub remaining_time: Option<Duration>,
}

/// Something that happened to a pool.
#[derive(Debug, Clone)]
pub enum PoolEvent {
    /// A worker changed its state; Ready and Busy are not told apart.
    Worker {
        /// Which.
        worker_id: u64,
        /// Its slot.
        slot: u32,
        /// Its process id; 0 if it is not known.
        pid: u32,
        /// Where it stands now.
        state: WorkerState,
        /// Why, for people; may be empty.
        reason: String,
    },
    /// A job was accepted.
    JobStarted {
        /// Its number.
        job: u64,
        /// Its function.
        function: String,
        /// How many items it has so far.
        num_items: u64,
    },
    /// A job ended.
    JobEnded {
        /// Its number.
        job: u64,
        /// Why it has no answer; empty if it has.
        error: String,
    },
    /// The pool changed its state.
    State(Readiness),
    /// The number of slots was set.
    Resized {
        /// What it was.
        before: u32,
        /// What it is now.
        num_slots: u32,
    },
    /// Every worker that there is now is to be replaced; also of a restart that goes on for those that came since.
    RestartBegan {
        /// How many there are.
        num_workers: u32,
    },
    /// The restart is over.
    RestartEnded {
        /// All were replaced. If not, the pool is ending.
        is_complete: bool,
    },
}

/// A watched pool: its state, and what happens after that.
#[derive(Debug)]
pub struct PoolWatch {
    /// The state.
    pub snapshot: PoolSnapshot,
    /// What happened since. A receiver that is too slow misses events and is told so.
    pub events: broadcast::Receiver<PoolEvent>,
}

/// A restart that was asked for. It goes on if this is dropped.
#[derive(Debug)]
pub struct Restart {
    pub(crate) num_workers: u32,
    pub(crate) progress: watch::Receiver<RestartProgress>,
}

/// How far a restart has got.
#[derive(Debug, Clone, Default)]
pub struct RestartProgress {
    /// How many of the old workers are still there.
    pub num_left: u32,
    /// How the last new worker that did not become ready ended; empty if all did.
    pub start_failure: String,
    /// `None` until it is over: whether all were replaced. If not, the pool is ending.
    pub(crate) end: Option<bool>,
}

impl Restart {
    /// Waits until all are replaced and ready; returns how many.
    ///
    /// # Errors
    ///
    /// If the pool ends before that.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn finished(&mut self) -> Result<u32, CallError> {
        let ended = self.progress.wait_for(|progress| progress.end.is_some()).await;
        let is_complete = ended.is_ok_and(|progress| progress.end == Some(true));
        if is_complete { Ok(self.num_workers) } else { Err(CallError::Draining { started: false }) }
    }

    /// Returns whether it is over, well or not.
    pub fn is_over(&self) -> bool {
        self.progress.borrow().end.is_some()
    }

    /// Returns how many workers are to be replaced.
    pub fn num_workers(&self) -> u32 {
        self.num_workers
    }

    /// Returns how far it has got.
    pub fn progress(&self) -> RestartProgress {
        self.progress.borrow().clone()
    }
}
