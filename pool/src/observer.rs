//! What a pool tells those who measure and trace it, as it happens. Not what they make of it.

use std::fmt;
use std::time::Duration;

use procpool_scheduler::{ChunkId, StopReason};

use crate::call::TraceContext;
use crate::error::{ItemFailure, WorkerExit};

/// Watches a pool. The driver calls it in the course of its work: an observer is quick and never waits.
pub trait PoolObserver: fmt::Debug + Send + Sync + 'static {
    /// Something happened.
    fn observe(&self, event: &ObserverEvent<'_>);

    /// A chunk goes to a worker; its end comes as [`ObserverEvent::ChunkEnded`]. Returns the trace that the worker is to
    /// continue; `None`: the caller's own.
    fn chunk_started(&self, chunk: &ChunkStart<'_>) -> Option<TraceContext>;
}

/// Something that happened in a pool.
#[derive(Debug)]
pub enum ObserverEvent<'a> {
    /// The first items of a job go to a worker, after they waited for this long.
    JobStarted {
        /// What they are run by.
        function: &'a str,
        /// Since the first items were there.
        waited: Duration,
    },
    /// Items have a result.
    ItemsSucceeded {
        /// What they were run by.
        function: &'a str,
        /// How many.
        count: u64,
    },
    /// An item has failed for good.
    ItemFailed {
        /// What it was run by.
        function: &'a str,
        /// Why.
        failure: &'a ItemFailure,
    },
    /// Items will have no outcome: their job ended before.
    ItemsDropped {
        /// What they were to be run by.
        function: &'a str,
        /// How many.
        count: u64,
    },
    /// A chunk is over.
    ChunkEnded(ChunkEnd<'a>),
    /// A worker process is being started.
    WorkerStarted,
    /// A worker is gone.
    WorkerExited {
        /// How its process ended.
        exit: &'a WorkerExit,
        /// Why it was made to stop; `None` if it was not.
        stop_reason: Option<StopReason>,
    },
}

/// A chunk that goes to a worker.
#[derive(Debug)]
pub struct ChunkStart<'a> {
    /// Its name.
    pub chunk: ChunkId,
    /// What runs its items.
    pub function: &'a str,
    /// The index of its first item in the caller's list.
    pub first_index: u64,
    /// How many items it has.
    pub count: u32,
    /// Which execution of these items it is, from 1.
    pub attempt: u32,
    /// Where it runs.
    pub slot: u32,
    /// The worker's process.
    pub pid: u32,
    /// The trace of the call.
    pub trace: &'a TraceContext,
}

/// A chunk that is over.
#[derive(Debug)]
pub struct ChunkEnd<'a> {
    /// Its name.
    pub chunk: ChunkId,
    /// What ran its items.
    pub function: &'a str,
    /// How it ended.
    pub outcome: ChunkOutcome,
    /// How many items the worker finished, failed ones included. The others run elsewhere, or have failed.
    pub num_finished: u32,
    /// How many of these the function failed.
    pub num_failed: u32,
    /// How long they ran, all together.
    pub busy: Duration,
}

/// How a chunk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkOutcome {
    /// The worker has answered for all that it was to run. What it gave back before is no part of that.
    Finished,
    /// The worker gave back all of it.
    GivenBack,
    /// The worker died.
    WorkerLost,
}
