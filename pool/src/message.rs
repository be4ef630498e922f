//! What is posted to the driver, and the status that it publishes. Plain data: who waits for what is the business of the
//! handle and of the driver.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use procpool_scheduler::{Delivery, Demand, JobId, Readiness};
use tokio::sync::oneshot;

use crate::admission::{AdmittedItems, CommonPermit};
use crate::call::{Call, CommonArgument};
use crate::error::{CallError, DumpFailure};
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
