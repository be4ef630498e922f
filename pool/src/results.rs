//! How much memory the results of a pool take, from the moment the driver stores them until their reader has them.
//!
//! Items are admitted before they are held. Results cannot be: whoever ran the item has them already. So they are
//! counted, and nobody waits; what follows from the count is the business of the driver. What was running then may still
//! pass a limit by its own results.
//!
//! Calls that answer at once and streams have a room each: neither should pay for the other. The first hold their
//! results until the call ends, which may be late, and fail when there is no room; the second depend on their readers,
//! and are paused. At first each call may hold what it likes. When a part of the room is in use, none may hold more
//! than its share of the next part, so that small calls get on beside large ones, and all of them stay within the room.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::config::PoolConfig;
use crate::notify::Notifier;

/// The part of the memory that is for streams.
const STREAMS_DIVISOR: u64 = 4;

/// What the results of all jobs of a pool may take, and do.
#[derive(Debug)]
pub(crate) struct ResultBudget {
    pub(crate) whole: Room,
    pub(crate) streams: Room,
    /// The driver waits for something to be given back.
    is_awaited: AtomicBool,
    notifier: Arc<Notifier>,
}

/// Room for the results of jobs of one sort.
#[derive(Debug)]
pub(crate) struct Room {
    /// In bytes.
    pub(crate) limit: u64,
    /// As long as no more is in use, each job may hold what it likes.
    free: u64,
    /// What jobs share then.
    shared: u64,
    used: AtomicU64,
    num_jobs: AtomicU64,
}

/// How much of a room is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// No more than all jobs together should need.
    Shared,
    /// More than that.
    Full,
    /// More than the limit.
    Over,
}

impl Room {
    fn new(limit: u64, free: u64, shared: u64) -> Self {
        Self { limit, free, shared, used: AtomicU64::new(0), num_jobs: AtomicU64::new(0) }
    }

    /// Returns how many bytes are in use; may be more than the limit.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::SeqCst)
    }

    /// Returns whether a job should not hold as much as this, when so much is in use.
    fn is_too_much(&self, bytes: u64, used: u64) -> bool {
        let share = self.shared / self.num_jobs.load(Ordering::SeqCst).max(1);
        used > self.free && bytes > share
    }

    /// Returns how full the room is, with so much more.
    pub(crate) fn level_with(&self, coming: u64) -> Level {
        match self.used() + coming {
            used if used <= self.free + self.shared => Level::Shared,
            used if used <= self.limit => Level::Full,
            _ => Level::Over,
        }
    }
}

impl ResultBudget {
    /// Returns the budget of a pool. `notifier` is what wakes the driver when something was given back.
    pub(crate) fn new(config: &PoolConfig, notifier: Arc<Notifier>) -> Arc<Self> {
        let limit = u64::from(config.max_result_bytes);
        let streams = limit / STREAMS_DIVISOR;
        let whole = limit - streams;
        // It is bad when a call fails, and not when a stream is paused: what was running needs room, too.
        let whole = Room::new(whole, whole - whole / 8, whole / 8);
        let streams = Room::new(streams, streams / 4, streams / 4);
        Arc::new(Self { whole, streams, is_awaited: AtomicBool::new(false), notifier })
    }

    /// Sets whether the driver is notified when something is given back. It must look again after it has set it: what was
    /// given back a moment before came without a notification.
    pub(crate) fn await_room(&self, is_awaited: bool) {
        self.is_awaited.store(is_awaited, Ordering::SeqCst);
    }
}

/// The results of one job, as far as they take memory.
#[derive(Debug)]
pub(crate) struct ResultAccount {
    budget: Arc<ResultBudget>,
    is_stream: bool,
    /// What the driver holds.
    stored: AtomicU64,
    /// What is on its way to the reader, or in its hands.
    handed_out: AtomicU64,
}

impl ResultAccount {
    pub(crate) fn new(budget: &Arc<ResultBudget>, is_stream: bool) -> Arc<Self> {
        let (stored, handed_out) = (AtomicU64::new(0), AtomicU64::new(0));
        let account = Self { budget: Arc::clone(budget), is_stream, stored, handed_out };
        account.room().num_jobs.fetch_add(1, Ordering::SeqCst);
        Arc::new(account)
    }

    /// Returns whether the job holds more than it should, with so much more.
    pub(crate) fn holds_too_much_with(&self, coming: u64) -> bool {
        let bytes = self.stored() + self.handed_out() + coming;
        self.room().is_too_much(bytes, self.room().used() + coming)
    }

    /// Returns whether the job is a stream.
    pub(crate) fn is_stream(&self) -> bool {
        self.is_stream
    }

    fn room(&self) -> &Room {
        if self.is_stream { &self.budget.streams } else { &self.budget.whole }
    }

    /// Returns how many bytes the driver holds.
    pub(crate) fn stored(&self) -> u64 {
        self.stored.load(Ordering::SeqCst)
    }

    /// Returns how many bytes are on their way to the reader, or in its hands.
    pub(crate) fn handed_out(&self) -> u64 {
        self.handed_out.load(Ordering::SeqCst)
    }

    /// Counts results that the driver holds from now on.
    pub(crate) fn store(&self, bytes: u64) {
        self.stored.fetch_add(bytes, Ordering::SeqCst);
        self.room().used.fetch_add(bytes, Ordering::SeqCst);
    }

    /// Counts what was stored as handed out, until the claim is dropped.
    pub(crate) fn hand_out(self: &Arc<Self>, bytes: u64) -> ResultBytes {
        self.stored.fetch_sub(bytes, Ordering::SeqCst);
        self.handed_out.fetch_add(bytes, Ordering::SeqCst);
        ResultBytes { bytes, account: Some(Arc::clone(self)) }
    }

    /// Counts a part of what is stored as gone.
    pub(crate) fn drop_some(&self, bytes: u64) {
        self.stored.fetch_sub(bytes, Ordering::SeqCst);
        self.free(bytes);
    }

    /// Counts results as gone that the driver held and nobody gets.
    pub(crate) fn drop_stored(&self) {
        self.free(self.stored.swap(0, Ordering::SeqCst));
    }

    fn free(&self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        self.room().used.fetch_sub(bytes, Ordering::SeqCst);
        if self.budget.is_awaited.load(Ordering::SeqCst) {
            self.budget.notifier.notify(|notifications| notifications.results_given_back = true);
        }
    }
}

impl Drop for ResultAccount {
    fn drop(&mut self) {
        self.room().num_jobs.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The claim of results on the memory of their pool. Whoever has them holds on to it for as long; dropping it gives the
/// memory back, and streams that were paused for want of it resume.
#[derive(Debug, Default)]
pub struct ResultBytes {
    bytes: u64,
    /// `None`: there are no results.
    account: Option<Arc<ResultAccount>>,
}

impl ResultBytes {
    /// Adds the claim of results of the same job.
    pub(crate) fn add(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
        self.account = self.account.take().or_else(|| other.account.take());
    }

    /// Gives back a part of it before the rest: these results are not held any more.
    pub fn give_back(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        if let Some(account) = &self.account {
            account.handed_out.fetch_sub(bytes, Ordering::SeqCst);
            account.free(bytes);
        }
    }
}

impl Drop for ResultBytes {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}
