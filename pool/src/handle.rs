//! The pool as its callers see it.

use std::sync::Arc;

use bytes::Bytes;
use procpool_items::ItemSlab;
use tokio::sync::watch;

use crate::call::{Apply, Call, FunctionInfo, MapOutput, ResultRun, StreamOptions};
use crate::config::PoolConfig;
use crate::error::CallError;
use crate::supervisor::WorkerSpawner;

/// Whether the pool takes calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// No worker has become ready yet, or none is alive and none can be started.
    NotReady,
    /// At least one worker is alive and ready, or busy.
    Ready,
    /// It finishes what it has and takes nothing new.
    Draining,
    /// Every worker is gone.
    Stopped,
}

/// A running pool, to call functions on. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PoolHandle {
    config: Arc<PoolConfig>,
}

/// The pool's task; whoever starts a pool joins it.
#[derive(Debug)]
pub struct PoolTask {}

impl PoolTask {
    /// Waits until every worker is gone, after [`PoolHandle::drain`] or [`PoolHandle::stop_now`].
    pub async fn join(self) {
        todo!()
    }
}

impl PoolHandle {
    /// Starts a pool and its workers. Must be called within a tokio runtime.
    pub fn start(config: PoolConfig, spawner: Arc<dyn WorkerSpawner>) -> (Self, PoolTask) {
        let _ = spawner;
        (Self { config: Arc::new(config) }, PoolTask {})
    }

    /// Runs a function over every item; the results are in the order of the items. Waits for the first worker to
    /// become ready if there has been none yet.
    ///
    /// # Errors
    ///
    /// If the pool refuses or gives up the call, or, failing fast, with the first item that failed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the job: queued items never run.
    pub async fn map(&self, call: Call, items: ItemSlab) -> Result<MapOutput, CallError> {
        let _ = (call, items);
        todo!()
    }

    /// Runs a function once; returns the encoded `Value` or the blob that it returned. `call.style` must be
    /// [`crate::CallStyle::Apply`].
    ///
    /// # Errors
    ///
    /// As [`PoolHandle::map`].
    pub async fn apply(&self, call: Call, arguments: Apply) -> Result<Bytes, CallError> {
        let _ = (call, arguments);
        todo!()
    }

    /// Runs a function over every item and streams the results.
    ///
    /// # Errors
    ///
    /// If the pool refuses the call.
    pub async fn imap(&self, call: Call, items: ItemSlab, options: StreamOptions) -> Result<ResultStream, CallError> {
        let _ = (call, items, options);
        todo!()
    }

    /// Runs a function over a stream of items.
    ///
    /// # Errors
    ///
    /// If the pool refuses the call.
    pub async fn imap_stream(&self, call: Call, options: StreamOptions) -> Result<(ItemSink, ResultStream), CallError> {
        let _ = (call, options);
        todo!()
    }

    /// Returns the functions that the workers registered, by name; empty until a worker said Hello.
    pub fn functions(&self) -> Vec<FunctionInfo> {
        todo!()
    }

    /// Returns whether the pool takes calls, now and on every change.
    pub fn readiness(&self) -> watch::Receiver<Readiness> {
        todo!()
    }

    /// Returns the settings.
    pub fn config(&self) -> &PoolConfig {
        &self.config
    }

    /// Takes nothing new, finishes what was accepted, then stops the workers.
    pub fn drain(&self) {
        todo!()
    }

    /// Fails every call with [`CallError::Draining`] and stops the workers: SIGTERM, then SIGKILL after the grace period.
    pub fn stop_now(&self) {
        todo!()
    }
}

/// The sending side of a stream of items. Dropping it without [`ItemSink::finish`] cancels the job.
#[derive(Debug)]
pub struct ItemSink {}

impl ItemSink {
    /// Hands over items; waits while the pool holds as many as its window allows.
    ///
    /// # Errors
    ///
    /// If the items are of another kind than the ones before, or the job has ended.
    pub async fn send(&mut self, items: ItemSlab) -> Result<(), CallError> {
        let _ = items;
        todo!()
    }

    /// Says that there are no more items.
    pub async fn finish(self) {
        todo!()
    }
}

/// What a stream yields.
#[derive(Debug)]
pub struct StreamOutput {
    /// Results that are ready now; `None` if only the allowance changed.
    pub run: Option<ResultRun>,
    /// How many items of this job the pool will hold so far, in all. Never falls.
    pub items_allowed: u64,
}

/// The results of a job as they come. Dropping it cancels the job.
#[derive(Debug)]
pub struct ResultStream {}

impl ResultStream {
    /// Returns what is ready, as soon as anything is; all of it at once. `None` after the last result, or an error.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Result<StreamOutput, CallError>> {
        todo!()
    }

    /// Says how many results the reader has taken so far, in all. The pool runs at most its window ahead of this.
    /// Without it, the job stops when its window is full.
    pub fn set_taken(&mut self, total: u64) {
        let _ = total;
        todo!()
    }
}
