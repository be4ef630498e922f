//! What the parts of the state machine tell each other when they call.

use std::time::Duration;

use crate::event::ResultSize;
use crate::id::{FunctionId, JobId, SlotId, WorkerId};

/// Results of consecutive items of a chunk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Finished<'a> {
    pub(super) first: u32,
    pub(super) count: u32,
    pub(super) failed: &'a [u32],
    pub(super) busy: Duration,
    pub(super) size: ResultSize,
    /// Nobody knows what became of them, and they prove nothing.
    pub(super) are_lost: bool,
}

/// Consecutive items of a job that a worker dealt with.
#[derive(Debug, Clone, Copy)]
pub(super) struct ItemsOf {
    pub(super) job: JobId,
    pub(super) first: u64,
    pub(super) count: u64,
    pub(super) slot: SlotId,
}

/// An item that failed, and where.
#[derive(Debug, Clone, Copy)]
pub(super) struct FailedAt {
    pub(super) job: JobId,
    pub(super) index: u64,
    pub(super) worker: WorkerId,
}

/// How a worker was lost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Loss {
    /// It ran an item of this function.
    pub(super) begun: Option<FunctionId>,
    /// The system had nothing to start it with.
    pub(super) by_shortage: bool,
}
