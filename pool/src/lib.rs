//! A bounded pool of worker processes.

mod call;
mod config;
mod error;
mod handle;
pub mod supervisor;

pub use call::{
    Apply, Call, CallOptions, CallStyle, FunctionInfo, ItemError, ItemKind, MapOutput, OnError, ResultOrder, ResultRun,
    StreamOptions, TraceContext,
};
pub use config::PoolConfig;
pub use error::{CallError, DeadlinePhase, ItemFailure, WorkerExit};
pub use handle::{ItemSink, PoolHandle, PoolTask, Readiness, ResultStream, StreamOutput};
