//! What the driver and the supervisor say to each other about a worker. Plain data, and the trait that is the seam.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use procpool_items::ItemKind;
use procpool_scheduler::{ChunkId, GracePeriods, StopReason, WorkerId};
use tokio::sync::{mpsc, oneshot};

use super::config::MemoryLimits;
use crate::call::{CallStyle, CommonArgument, TraceContext};
use crate::error::{DumpFailure, ExitUsage, ItemFailure, WorkerExit};
use crate::function::FunctionInfo;

/// The most commands that may wait for one worker. The scheduler has at most two chunks at a worker, with a run, a
/// recall and a cancel each, and three ways to end it; [`WorkerCommand::DropCommons`] and [`WorkerCommand::Dump`] are
/// only sent while half of it is free. So a channel of this size is never full.
pub const COMMAND_CAPACITY: usize = 32;

/// Starts workers.
pub trait WorkerSpawner: Send + Sync + 'static {
    /// Starts a worker and returns at once; how that goes comes as events. `grace` is what its items have when they should
    /// end.
    ///
    /// The last event of every worker is [`WorkerEventKind::Exited`], exactly once, when the process is dead. Sending to
    /// `events` may wait: the driver never waits for a worker. Dropping the command sender ends the worker as
    /// [`WorkerCommand::Kill`] does.
    fn spawn(
        &self,
        worker: WorkerId,
        grace: GracePeriods,
        events: mpsc::Sender<WorkerEvent>,
    ) -> mpsc::Sender<WorkerCommand>;

    /// Returns the longest frame that a worker takes, in bytes.
    fn max_frame_bytes(&self) -> u32 {
        procpool_ipc::DEFAULT_MAX_FRAME_BYTES
    }

    /// Returns how much memory a worker may hold.
    fn memory_limits(&self) -> MemoryLimits {
        MemoryLimits::default()
    }
}

/// What the driver tells a worker. Sent over a channel of [`COMMAND_CAPACITY`].
#[derive(Debug)]
pub enum WorkerCommand {
    /// Run a chunk after those it already has.
    Run(ChunkRun),
    /// Give back what has not begun of a chunk; answered by [`WorkerEventKind::Recalled`] unless the chunk finishes
    /// first or the worker dies.
    Recall {
        /// The chunk.
        chunk: ChunkId,
        /// Nobody waits for it any more: what runs of it is told to end, and is ended if it does not.
        cancel: bool,
    },
    /// These jobs have ended: forget their common arguments, of which it has every one.
    DropCommons(Vec<u64>),
    /// Tell the stacks of the worker's threads. Only sent while half of the channel is free.
    Dump(oneshot::Sender<Result<String, DumpFailure>>),
    /// Finish the item that runs and exit.
    Shutdown,
    /// SIGTERM to the process group.
    Terminate,
    /// SIGKILL to the worker, and SIGTERM to what it has started, which is killed if it does not end.
    Kill,
}

/// A chunk for a worker to run.
#[derive(Debug, Clone)]
pub struct ChunkRun {
    /// Its name.
    pub chunk: ChunkId,
    /// What runs it; for log lines only.
    pub job: u64,
    /// The function.
    pub function: Arc<str>,
    /// How items and results are encoded.
    pub kind: ItemKind,
    /// The media type of blobs.
    pub content_type: Arc<str>,
    /// How the function is called.
    pub style: CallStyle,
    /// The index of the first item in the caller's list.
    pub first_index: u64,
    /// The number of items.
    pub count: u32,
    /// Which execution of these items this is, from 1.
    pub attempt: u32,
    /// The longest that one of these items may run. The session sees to that.
    pub time_limit: Option<Duration>,
    /// The caller's trace.
    pub trace: Arc<TraceContext>,
    /// The argument that goes before each item, if there is one.
    pub common: Option<ChunkCommon>,
    /// Encoded lists that make the chunk when laid end to end.
    pub parts: Vec<Bytes>,
}

/// The common argument of the job that a chunk is of.
#[derive(Debug, Clone)]
pub struct ChunkCommon {
    /// Its name, which is the number of the job.
    pub common: u64,
    /// What it is, if this worker has not been told yet.
    pub argument: Option<CommonArgument>,
}

/// What a worker tells the driver.
#[derive(Debug)]
pub struct WorkerEvent {
    /// Which worker.
    pub worker: WorkerId,
    /// What.
    pub kind: WorkerEventKind,
}

/// What a worker tells the driver.
#[derive(Debug)]
pub enum WorkerEventKind {
    /// The process was started. Missing if that failed.
    Started {
        /// Its process id; the worker may tell another one, where a wrapper starts it.
        pid: u32,
    },
    /// It runs and speaks our protocol.
    Hello {
        /// Its process id.
        pid: u32,
        /// Its SDK.
        sdk: String,
        /// What it can run.
        functions: Vec<FunctionInfo>,
    },
    /// It can take chunks.
    Ready,
    /// The time of the item that runs is up. It was told to end, and the worker asked for the rest of its chunk.
    ItemExpired {
        /// The item's chunk.
        chunk: ChunkId,
        /// Its offset in the chunk.
        offset: u32,
        /// The stacks of the worker's threads when its time was up, that of the item first; empty if they are not known.
        stack: String,
    },
    /// An item did not end when told, and so the worker got SIGTERM; it gets SIGKILL if that does not end it.
    Stopping {
        /// [`StopReason::ItemTimeout`] or [`StopReason::Cancelled`].
        reason: StopReason,
    },
    /// Results of consecutive items, checked: in order, without gaps, of the right number and form.
    Results(ChunkResults),
    /// From this offset on, no item of the chunk has begun, and none will.
    Recalled {
        /// The chunk.
        chunk: ChunkId,
        /// The offset of the first item that never begins; the chunk's count if all have begun.
        first_not_begun: u32,
    },
    /// It holds more memory than [`MemoryLimits::soft_bytes`]. Said once.
    MemoryHigh,
    /// The process is dead. Results that it had finished but not sent came before, as `Results`.
    Exited {
        /// How it ended.
        exit: WorkerExit,
        /// What it had used.
        usage: ExitUsage,
        /// The item that had begun and has no result.
        running: Option<(ChunkId, u32)>,
        /// The end of what it wrote to stderr, at most 4 KiB.
        stderr_tail: String,
    },
}

/// Results of consecutive items of a chunk.
#[derive(Debug)]
pub struct ChunkResults {
    /// The chunk.
    pub chunk: ChunkId,
    /// The offset in the chunk of the first result.
    pub first: u32,
    /// The number of results, failed items included.
    pub count: u32,
    /// The items that failed, by rising offset in the chunk. A placeholder stands in their place in `items`.
    pub failures: Vec<(u32, ItemFailure)>,
    /// How long these items ran, all together.
    pub busy: Duration,
    /// The encoded list of results.
    pub items: Bytes,
}

impl ChunkResults {
    /// Returns whether they only say that nobody knows what became of the items.
    pub(crate) fn are_lost(&self) -> bool {
        let is_lost = |(_, failure): &(u32, ItemFailure)| matches!(failure, ItemFailure::WorkerProtocol { .. });
        self.failures.len() == self.count as usize && self.failures.iter().all(is_lost)
    }
}
