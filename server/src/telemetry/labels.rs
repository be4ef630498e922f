//! The values of labels and attributes. Each is one of a closed set.

use procpool_pool::{ChunkOutcome, ItemFailure};

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
