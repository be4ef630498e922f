//! What is posted to the driver, and what it publishes. Plain data: who waits for what is the business of the
//! handle and of the driver.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use procpool_scheduler::{Delivery, Demand, JobId, Readiness};
use tokio::sync::{oneshot, watch};

use crate::admission::{AdmittedItems, CommonPermit};
use crate::call::{Call, CommonArgument};
use crate::error::{CallError, DumpFailure};
use crate::function::FunctionTable;
use crate::outlet::Outlet;
use crate::snapshot::{PoolSnapshot, PoolWatch, Restart};

/// When a caller may try again while no worker can be started.
const DEGRADED_RETRY_AFTER: Duration = Duration::from_secs(5);

/// What a handle asks for. Each carries something that can't be lost; what can be said without waiting goes through
/// the notifier.
#[derive(Debug)]
pub(crate) enum Command {
    Submit(Box<Submission>),
    AddItems { job: JobId, items: AdmittedItems },
    CloseInput { job: JobId },
    Administer(AdminCommand),
}

/// What an operator asks for.
#[derive(Debug)]
pub(crate) enum AdminCommand {
    Snapshot(oneshot::Sender<PoolSnapshot>),
    Demand(oneshot::Sender<Demand>),
    Watch(oneshot::Sender<PoolWatch>),
    Resize { slots: NonZeroU32, answer: oneshot::Sender<u32> },
    Restart(oneshot::Sender<Restart>),
    CancelJob { job: JobId, answer: oneshot::Sender<bool> },
    Dump { worker_id: u64, answer: oneshot::Sender<Result<String, DumpFailure>> },
}

/// A job that was admitted.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) job: JobId,
    /// The caller has gone.
    pub(crate) is_abandoned: Arc<AtomicBool>,
    pub(crate) call: Call,
    pub(crate) max_attempts: u32,
    pub(crate) item_timeout: Option<Duration>,
    pub(crate) fail_fast: bool,
    pub(crate) delivery: Delivery,
    pub(crate) outlet: Outlet,
    pub(crate) common: Option<(CommonArgument, CommonPermit)>,
    /// All items; `None` if they come one list after the other, until [`Command::CloseInput`].
    pub(crate) items: Option<AdmittedItems>,
}

/// What the driver publishes about the pool.
#[derive(Debug, Clone)]
pub(crate) struct Status {
    pub(crate) readiness: Readiness,
    /// How the last worker that did not become ready ended.
    pub(crate) start_failure: String,
    /// The number of slots.
    pub(crate) num_slots: u32,
}

impl Status {
    /// Fails unless the pool is ready or starting.
    pub(crate) fn takes_calls(&self) -> Result<(), CallError> {
        match self.readiness {
            Readiness::Starting | Readiness::Ready => Ok(()),
            Readiness::Degraded => Err(self.degraded(false)),
            Readiness::Draining | Readiness::Stopped => Err(CallError::Draining { started: false }),
        }
    }

    /// Returns the error of a call while no worker can be started.
    pub(crate) fn degraded(&self, started: bool) -> CallError {
        CallError::Degraded { reason: self.start_failure.clone(), started, retry_after: DEGRADED_RETRY_AFTER }
    }
}

/// Where the driver publishes.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) status: watch::Sender<Status>,
    pub(crate) readiness: watch::Sender<Readiness>,
    pub(crate) functions: watch::Sender<Arc<FunctionTable>>,
}

/// Where what the driver publishes can be read.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) readiness: watch::Receiver<Readiness>,
    pub(crate) functions: watch::Receiver<Arc<FunctionTable>>,
}

impl Publisher {
    /// Returns both ends for a pool with so many slots.
    pub(crate) fn new(num_slots: u32) -> (Self, Published) {
        let status = Status { readiness: Readiness::Starting, start_failure: String::new(), num_slots };
        let (status, status_reader) = watch::channel(status);
        let (readiness, readiness_reader) = watch::channel(Readiness::Starting);
        let (functions, functions_reader) = watch::channel(Arc::default());
        let published = Published { status: status_reader, readiness: readiness_reader, functions: functions_reader };
        (Self { status, readiness, functions }, published)
    }
}
