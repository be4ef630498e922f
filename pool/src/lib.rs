//! A bounded pool of worker processes: `multiprocessing.Pool` as a Rust library, without gRPC.
//!
//! # Theory of operation
//!
//! A [`PoolHandle`] admits a call and sends it to the *driver*, one task that owns the scheduler's state, the items and
//! the results. The driver never waits for anybody: it turns what happens into events, applies them, and carries out
//! the effects. Each worker process has a task of its own in the [`supervisor`], which speaks frames with it.
//!
//! ```text
//! PoolHandle ── Command ──▶ driver ── WorkerCommand ──▶ supervisor ── frames ──▶ worker process
//!     ▲                     │    ▲                          │
//!     └───── results ───────┘    └────── WorkerEvent ───────┘
//! ```
//!
//! The scheduler sees indexes, never a payload; the supervisor sees chunks, never a job; nobody decodes an item.

mod admin;
mod admission;
mod call;
mod config;
mod driver;
mod error;
mod function;
mod handle;
mod job_number;
mod message;
mod notify;
mod observer;
mod outcome;
mod outlet;
mod payload;
mod results;
mod snapshot;
mod stream;
pub mod supervisor;
mod usage;

pub use call::{
    Apply, ApplyOutput, Call, CallLabel, CallOptions, CallStyle, CommonArgument, ItemKind, MapOutput, OnError,
    ResultOrder, ResultRun, StreamOptions, TraceContext,
};
pub use config::PoolConfig;
pub use error::{
    CallError, CallPart, DeadlinePhase, DumpFailure, ExitUsage, ItemError, ItemFailure, WorkerExit, exit_reason,
};
pub use function::{FunctionInfo, FunctionTable, RESERVED_PREFIX, nearest_names};
pub use handle::{PoolHandle, PoolTask};
pub use job_number::{JobNumber, JobNumbers};
pub use observer::{ChunkEnd, ChunkOutcome, ChunkStart, ObserverEvent, PoolObserver};
pub use procpool_scheduler::{ChunkId, GracePeriods, StopReason, WorkerId};
pub use results::ResultBytes;
pub use snapshot::{
    Demand, Held, JobReport, JobSnapshot, PoolCounts, PoolEvent, PoolSnapshot, PoolWatch, Readiness, Restart,
    RestartProgress, RunningItems, SlotCounts, WorkerReport, WorkerState,
};
pub use stream::{ItemSink, ResultStream, StreamOutput};
pub use usage::Usage;
