//! The claim of results on the memory of their pool, in the hands of whoever has them. What all of them take is counted by
//! the scheduler, which hears of what is given back from the driver.

use std::sync::Arc;

use procpool_scheduler::JobId;

use crate::notify::Notifier;

/// The claim of results on the memory of their pool. Whoever has them holds on to it for as long; dropping it gives the
/// memory back, and streams that were paused for want of it resume.
#[derive(Debug, Default)]
pub struct ResultBytes {
    bytes: u64,
    /// How many results these are the bytes of.
    count: u64,
    /// Whose they are. `None`: there are no results.
    owner: Option<(JobId, Arc<Notifier>)>,
}

impl ResultBytes {
    /// Returns the claim of results of a job that take so many bytes.
    pub(crate) fn new(job: JobId, bytes: u64, count: u64, notifier: &Arc<Notifier>) -> Self {
        Self { bytes, count, owner: Some((job, Arc::clone(notifier))) }
    }

    /// Adds the claim of results of the same job.
    pub(crate) fn add(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
        self.count += std::mem::take(&mut other.count);
        self.owner = self.owner.take().or_else(|| other.owner.take());
    }

    /// Gives back a part of it before the rest: these results are not held any more.
    pub fn give_back(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        if bytes == 0 {
            return;
        }
        self.bytes -= bytes;
        let count = if self.bytes == 0 { std::mem::take(&mut self.count) } else { 0 };
        if let Some((job, notifier)) = &self.owner {
            notifier.notify(|notifications| {
                let given_back = notifications.given_back.entry(*job).or_default();
                given_back.bytes += bytes;
                given_back.count += count;
            });
        }
    }
}

impl Drop for ResultBytes {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}
