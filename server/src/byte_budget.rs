//! How many bytes of requests may be in memory at a time, before a pool takes them over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The budget of all requests that are being received.
#[derive(Debug)]
pub(crate) struct ByteBudget {
    limit: u64,
    used: AtomicU64,
}

impl ByteBudget {
    pub(crate) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU64::new(0) })
    }

    /// Takes bytes, unless that would exceed the limit.
    pub(crate) fn try_take(&self, bytes: u64) -> bool {
        self.try_take_below(bytes, self.limit)
    }

    /// Takes bytes for messages that wait for their handler. These may use half of the budget, so that clients that send
    /// faster than their handlers work cannot exhaust it for all others.
    pub(crate) fn try_take_ahead(&self, bytes: u64) -> bool {
        self.try_take_below(bytes, self.limit / 2)
    }

    fn try_take_below(&self, bytes: u64, limit: u64) -> bool {
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|used| *used <= limit)
        });
        taken.is_ok()
    }

    pub(crate) fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Takes bytes for a complete request that waits for a pool, unless that would exceed the limit.
    pub(crate) fn try_hold(self: &Arc<Self>, bytes: u64) -> Option<HeldRequest> {
        self.try_take(bytes).then(|| HeldRequest { budget: Arc::clone(self), bytes })
    }

    /// Returns the limit in bytes.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Returns the bytes in use.
    #[cfg(test)]
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

/// The bytes of a request that waits for a pool.
#[derive(Debug)]
pub(crate) struct HeldRequest {
    budget: Arc<ByteBudget>,
    bytes: u64,
}

impl Drop for HeldRequest {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}
