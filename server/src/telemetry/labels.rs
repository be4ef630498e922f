//! What happened, in the words of labels and attributes. Every set of words is closed.

use procpool_pool::{ChunkOutcome, ItemFailure, StopReason, WorkerExit};
use tonic::Code;

/// The outcome of an item that has a result.
pub(super) const SUCCEEDED: &str = "ok";
/// The outcome of an item whose call ended before.
pub(super) const DROPPED: &str = "dropped";

/// Returns the outcome of an item that failed.
pub(super) fn item_outcome(failure: &ItemFailure) -> &'static str {
    match failure {
        ItemFailure::Raised { .. } => "raised",
        ItemFailure::ResultNotEncodable { .. } => "result_not_encodable",
        ItemFailure::InvalidItem { .. } => "invalid_item",
        ItemFailure::WorkerCrashed { exit, .. } if exit.is_out_of_memory() => "worker_oom_killed",
        ItemFailure::WorkerCrashed { .. } => "worker_crashed",
        ItemFailure::CrashLimit { .. } => "crash_limit",
        ItemFailure::ItemTimeout { .. } => "item_timeout",
        ItemFailure::WorkerProtocol { .. } => "worker_protocol",
    }
}

/// Returns the outcome of a chunk.
pub(super) fn chunk_outcome(outcome: ChunkOutcome, num_failed: u32) -> &'static str {
    match outcome {
        ChunkOutcome::Finished if num_failed == 0 => SUCCEEDED,
        ChunkOutcome::Finished => "items_failed",
        ChunkOutcome::GivenBack => "given_back",
        ChunkOutcome::WorkerLost => "worker_lost",
    }
}

/// Returns why a worker is gone: why we made it stop, else how it ended.
pub(super) fn exit_reason(exit: &WorkerExit, stop_reason: Option<StopReason>) -> &'static str {
    match (stop_reason, exit) {
        (Some(StopReason::StartTimeout), _) | (None, WorkerExit::StartTimeout) => "start_timeout",
        (Some(StopReason::MaxItems), _) => "max_items",
        (Some(StopReason::MaxAge), _) => "max_age",
        (Some(StopReason::Idle), _) => "idle",
        (Some(StopReason::Memory), _) => "memory",
        (Some(StopReason::ItemTimeout), _) => "item_timeout",
        (Some(StopReason::Cancelled), _) => "cancelled",
        (Some(StopReason::Retry), _) => "retry",
        (Some(StopReason::Restart), _) => "restart",
        (Some(StopReason::Resize), _) => "resize",
        (Some(StopReason::Drain), _) => "drain",
        (None, WorkerExit::Code(_)) => "exited",
        (None, WorkerExit::Signal(_)) => "signal",
        (None, WorkerExit::MemoryLimit { .. } | WorkerExit::KernelOom) => "oom",
        (None, WorkerExit::Protocol(_)) => "protocol",
        (None, WorkerExit::SpawnFailed { .. }) => "spawn_failed",
    }
}

/// Returns the name of a code as gRPC writes it.
pub(super) fn code(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
