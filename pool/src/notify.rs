//! What callers notify the driver of without waiting: that they are gone, how far they have read, and which
//! memory of results they have given back.
//!
//! A channel would have to be unbounded, since a drop can't wait. This is bounded by the number of jobs, and of those that have
//! ended and whose results are still held.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use procpool_scheduler::JobId;
use tokio::sync::Notify;

/// Wakes the driver. Callers have one end, the driver the other.
#[derive(Debug, Default)]
pub(crate) struct Notifier {
    pending: Mutex<Notifications>,
    changed: Notify,
}

/// What the driver was notified of since it looked last.
#[derive(Debug, Default)]
pub(crate) struct Notifications {
    /// These jobs have no caller any more.
    pub(crate) cancelled: BTreeSet<JobId>,
    /// The readers of these jobs have taken so many results in all.
    pub(crate) taken: BTreeMap<JobId, u64>,
    /// What the readers of these jobs have given back.
    pub(crate) given_back: BTreeMap<JobId, GivenBack>,
    /// Take nothing new.
    pub(crate) drain: bool,
    /// Stop now.
    pub(crate) stop: bool,
}

/// Memory of results that a reader needs no more.
#[derive(Debug, Default)]
pub(crate) struct GivenBack {
    pub(crate) bytes: u64,
    /// Of how many results this was the rest.
    pub(crate) count: u64,
}

impl Notifier {
    /// Changes what is pending, and wakes the driver.
    pub(crate) fn notify(&self, write: impl FnOnce(&mut Notifications)) {
        write(&mut self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    /// Waits for notifications and takes them all.
    ///
    /// # Cancel safety
    ///
    /// Notifications are taken only when the future is ready.
    pub(crate) async fn notified(&self) -> Notifications {
        self.changed.notified().await;
        self.take()
    }

    /// Takes all pending notifications; often none.
    pub(crate) fn take(&self) -> Notifications {
        std::mem::take(&mut self.pending.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
