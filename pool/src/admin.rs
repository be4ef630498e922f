//! Looking at a pool and changing it: what operators ask for.

use std::collections::BTreeMap;
use std::time::Duration;

pub use procpool_scheduler::{Demand, Readiness as PoolState, RunningItems, SlotCounts, WorkerState};
use tokio::sync::{broadcast, oneshot, watch};

use crate::driver::{AdminCommand, Command};
use crate::error::{CallError, DumpFailure};
use crate::handle::PoolHandle;
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
    State(PoolState),
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

    /// Tells whether it is over, well or not.
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

impl PoolHandle {
    /// Returns the state of the pool.
    ///
    /// # Errors
    ///
    /// If the pool has stopped.
    pub async fn snapshot(&self) -> Result<PoolSnapshot, CallError> {
        let snapshot = self.ask(AdminCommand::Snapshot).await?;
        Ok(with_usage(snapshot).await)
    }

    /// Returns how much there is to do, and with what.
    ///
    /// # Errors
    ///
    /// If the pool has stopped.
    pub async fn demand(&self) -> Result<Demand, CallError> {
        self.ask(AdminCommand::Demand).await
    }

    /// Returns the state of the pool and what happens from then on.
    ///
    /// # Errors
    ///
    /// If the pool has stopped.
    pub async fn watch(&self) -> Result<PoolWatch, CallError> {
        let watch = self.ask(AdminCommand::Watch).await?;
        Ok(PoolWatch { snapshot: with_usage(watch.snapshot).await, ..watch })
    }

    /// Sets the number of slots, at least 1; returns what it was.
    ///
    /// # Errors
    ///
    /// If the pool has stopped.
    pub async fn resize(&self, slots: std::num::NonZeroU32) -> Result<u32, CallError> {
        self.ask(|answer| AdminCommand::Resize { slots, answer }).await
    }

    /// Replaces every worker, one slot at a time; returns how many, when all are replaced and ready.
    ///
    /// # Errors
    ///
    /// If the pool has stopped or is draining, or does so before that.
    ///
    /// # Cancel safety
    ///
    /// The restart goes on if the future is dropped.
    pub async fn restart_workers(&self) -> Result<u32, CallError> {
        self.begin_restart().await?.finished().await
    }

    /// Has every worker replaced, one slot at a time, and returns at once. There is one restart at a time: if one is under
    /// way it goes on until those are replaced, too, that there are now.
    ///
    /// # Errors
    ///
    /// If the pool has stopped or is draining.
    pub async fn begin_restart(&self) -> Result<Restart, CallError> {
        self.ask(AdminCommand::Restart).await
    }

    /// Returns the stacks of a worker's threads, that of the item it runs first, as its language prints them.
    ///
    /// # Errors
    ///
    /// If there is no such worker, or it cannot tell, or does not.
    pub async fn dump_worker(&self, worker_id: u64) -> Result<String, DumpFailure> {
        let (sender, answer) = oneshot::channel();
        let command = Command::Administer(AdminCommand::Dump { worker_id, answer: sender });
        self.send(command).await.map_err(|_| DumpFailure::PoolStopped)?;
        // A worker that dies meanwhile takes the sender with it.
        answer.await.unwrap_or(Err(DumpFailure::NoSuchWorker))
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> AdminCommand) -> Result<T, CallError> {
        let (sender, answer) = oneshot::channel();
        let stopped = CallError::Draining { started: false };
        if self.send(Command::Administer(command(sender))).await.is_err() {
            return Err(stopped);
        }
        answer.await.map_err(|_| stopped)
    }
}

/// Fills in what the workers use of the machine. To read that of many of them takes a while, which must not be the
/// runtime's.
async fn with_usage(mut snapshot: PoolSnapshot) -> PoolSnapshot {
    let pids: Vec<u32> = snapshot.workers.iter().map(|worker| worker.pid).collect();
    if pids.iter().any(|&pid| pid != 0) {
        let usages = tokio::task::spawn_blocking(move || pids.into_iter().map(Usage::of).collect::<Vec<_>>());
        // Only if the runtime ends is there no answer.
        for (worker, usage) in snapshot.workers.iter_mut().zip(usages.await.unwrap_or_default()) {
            worker.usage = usage;
        }
    }
    snapshot
}
