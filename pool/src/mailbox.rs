//! What callers tell the driver without waiting: that they are gone, and how far they have read.
//!
//! A channel would have to be unbounded, since a drop can't wait. This is bounded by the number of jobs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use procpool_scheduler::JobId;
use tokio::sync::Notify;

/// The callers' end and the driver's.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    letters: Mutex<Letters>,
    changed: Notify,
}

/// What has been said since the driver looked last.
#[derive(Debug, Default)]
pub(crate) struct Letters {
    /// These jobs have no caller any more.
    pub(crate) cancelled: BTreeSet<JobId>,
    /// The readers of these jobs have taken so many results in all.
    pub(crate) taken: BTreeMap<JobId, u64>,
    /// Results have left the hands of a reader, while the driver waited for that.
    pub(crate) results_given_back: bool,
    /// Take nothing new.
    pub(crate) drain: bool,
    /// Stop now.
    pub(crate) stop: bool,
}

impl Mailbox {
    /// Says something.
    pub(crate) fn post(&self, write: impl FnOnce(&mut Letters)) {
        write(&mut self.letters.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    /// Waits for letters and takes them all.
    ///
    /// # Cancel safety
    ///
    /// Letters are taken only when the future is ready.
    pub(crate) async fn collect(&self) -> Letters {
        self.changed.notified().await;
        self.take()
    }

    /// Takes all letters there are; often none.
    pub(crate) fn take(&self) -> Letters {
        std::mem::take(&mut self.letters.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
