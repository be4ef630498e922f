//! What the driver knows of each worker, of each job, and of what came with the event that is being applied.

use std::collections::BTreeSet;
use std::sync::Arc;

use procpool_scheduler::{JobId, StopReason};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::call::{CallLabel, CommonArgument};
use crate::error::{ExitUsage, WorkerExit};
use crate::function::FunctionTable;
use crate::outlet::Outlet;
use crate::payload::JobPayload;
use crate::supervisor::{ChunkCommon, ChunkResults, WorkerCommand};

/// What the driver knows of a worker.
pub(super) struct WorkerLink {
    pub(super) commands: mpsc::Sender<WorkerCommand>,
    pub(super) started_at: Instant,
    /// 0 until its process was started.
    pub(super) pid: u32,
    pub(super) is_ready: bool,
    /// What it can run; empty until it said Hello.
    pub(super) functions: Arc<FunctionTable>,
    pub(super) has_results: bool,
    /// It was given a chunk.
    pub(super) has_had_work: bool,
    /// Why we made it stop, if we did.
    pub(super) stop_reason: Option<StopReason>,
    /// The jobs whose common argument it has. Bounded by the jobs.
    pub(super) commons: BTreeSet<JobId>,
    /// The jobs that have ended and whose common argument it still has.
    pub(super) dropped_commons: Vec<JobId>,
}

impl WorkerLink {
    pub(super) fn new(commands: mpsc::Sender<WorkerCommand>) -> Self {
        Self {
            commands,
            started_at: Instant::now(),
            pid: 0,
            is_ready: false,
            functions: Arc::default(),
            has_results: false,
            has_had_work: false,
            stop_reason: None,
            commons: BTreeSet::new(),
            dropped_commons: Vec::new(),
        }
    }

    /// Returns what a chunk of this job says of its common argument.
    pub(super) fn common_of(&mut self, job: JobId, argument: &CommonArgument) -> ChunkCommon {
        let is_new = self.commons.insert(job);
        ChunkCommon { common: job.0, argument: is_new.then(|| argument.clone()) }
    }
}

/// What the driver knows of a job.
pub(super) struct JobEntry {
    pub(super) label: CallLabel,
    pub(super) submitted_at: Instant,
    pub(super) payload: JobPayload,
    pub(super) outlet: Outlet,
}

/// What came with the event that is being applied, for its effects.
pub(super) enum Occasion {
    Nothing,
    Results(ChunkResults),
    /// The stacks of a worker whose item has run for too long.
    Stack(String),
    Exit(ExitReport),
    /// An operator has cancelled a job.
    CancelledByOperator,
}

impl Occasion {
    /// Returns how the worker ended of which something fails.
    pub(super) fn exit(&self) -> ExitReport {
        match self {
            Self::Exit(report) => report.clone(),
            // The scheduler fails nothing of a death but at the exit. Should it, that is no reason to end the pool.
            Self::Nothing | Self::Results(_) | Self::Stack(_) | Self::CancelledByOperator => ExitReport {
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
