//! Looking at a pool and changing it: what operators ask for.

use std::num::NonZeroU32;

use procpool_scheduler::JobId;
use tokio::sync::oneshot;

use crate::error::{CallError, DumpFailure};
use crate::handle::PoolHandle;
use crate::message::{AdminCommand, Command};
use crate::snapshot::{Demand, PoolSnapshot, PoolWatch, Restart};
use crate::usage::Usage;

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
    pub async fn resize(&self, slots: NonZeroU32) -> Result<u32, CallError> {
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

    /// Starts to replace all current workers, one slot at a time, and returns at once. There is one restart at a time: if one is under
    /// way it goes on until those are replaced, too, that there are now.
    ///
    /// # Errors
    ///
    /// If the pool has stopped or is draining.
    pub async fn begin_restart(&self) -> Result<Restart, CallError> {
        self.ask(AdminCommand::Restart).await
    }

    /// Ends a job as if its caller had cancelled it; the call fails with [`CallError::CancelledByOperator`]. Returns whether
    /// there was such a job. Of a pool that has stopped, all have ended.
    pub async fn cancel_job(&self, job: u64) -> bool {
        self.ask(|answer| AdminCommand::CancelJob { job: JobId(job), answer }).await.unwrap_or(false)
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
