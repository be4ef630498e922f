//! What came with the event that is being applied, for its effects.

use crate::error::{ExitUsage, WorkerExit};
use crate::supervisor::ChunkResults;

/// What came with the event that is being applied, for its effects.
pub(super) enum Occasion {
    Nothing,
    Results(ChunkResults),
    /// The stacks of a worker whose item has run for too long.
    Stack(String),
    Exit(ExitReport),
}

impl Occasion {
    /// Returns how the worker ended of which something fails.
    pub(super) fn exit(&self) -> ExitReport {
        match self {
            Self::Exit(report) => report.clone(),
            // The scheduler fails nothing of a death but at the exit. Should it, that is no reason to end the pool.
            Self::Nothing | Self::Results(_) | Self::Stack(_) => ExitReport {
                exit: WorkerExit::GivenUp { reason: "it was lost" },
                usage: ExitUsage::default(),
                pid: 0,
                stderr_tail: String::new(),
            },
        }
    }
}

/// How a worker ended.
#[derive(Clone)]
pub(super) struct ExitReport {
    pub(super) exit: WorkerExit,
    pub(super) usage: ExitUsage,
    pub(super) pid: u32,
    pub(super) stderr_tail: String,
}
