//! What the driver publishes, and where it can be read.

use std::sync::Arc;

use procpool_scheduler::Readiness;
use tokio::sync::watch;

use crate::function::FunctionTable;
use crate::message::Status;

/// Where the driver publishes.
pub(crate) struct Publisher {
    pub(super) status: watch::Sender<Status>,
    pub(super) readiness: watch::Sender<Readiness>,
    pub(super) functions: watch::Sender<Arc<FunctionTable>>,
}

/// Where what the driver publishes can be read.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) readiness: watch::Receiver<Readiness>,
    pub(crate) functions: watch::Receiver<Arc<FunctionTable>>,
}

/// Returns both ends of what the driver of a pool with so many slots publishes.
pub(crate) fn channels(num_slots: u32) -> (Publisher, Published) {
    let status = Status { readiness: Readiness::Starting, start_failure: String::new(), num_slots };
    let (status, status_reader) = watch::channel(status);
    let (readiness, readiness_reader) = watch::channel(Readiness::Starting);
    let (functions, functions_reader) = watch::channel(Arc::default());
    let published = Published { status: status_reader, readiness: readiness_reader, functions: functions_reader };
    (Publisher { status, readiness, functions }, published)
}
