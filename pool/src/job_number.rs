//! The numbers of jobs: who gives them out, and how a caller learns that of its call.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use procpool_scheduler::JobId;

/// Gives out the numbers of jobs, from 1. Pools that share it never give out the same one.
#[derive(Debug, Clone, Default)]
pub struct JobNumbers(Arc<AtomicU64>);

impl JobNumbers {
    pub(crate) fn next(&self) -> JobId {
        JobId(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// The number of the job that a call has become. Clones share it. A call that is refused at once gets none, nor does one
/// without items.
#[derive(Debug, Clone, Default)]
pub struct JobNumber(Arc<OnceLock<u64>>);

impl JobNumber {
    /// Returns the number; `None` as long as there is no job.
    pub fn get(&self) -> Option<u64> {
        self.0.get().copied()
    }

    /// Sets the number, once: of a call that is cloned and submitted again, it stays that of the first job.
    pub(crate) fn set(&self, job: JobId) {
        let _ = self.0.set(job.0);
    }
}

/// Shows the number, or nothing.
impl fmt::Display for JobNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().map_or(Ok(()), |job| job.fmt(formatter))
    }
}
