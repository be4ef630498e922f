//! The settings of a pool, with their defaults. Plain data; nothing here reads the environment.

use std::num::NonZeroU32;
use std::time::Duration;

use procpool_scheduler::{GracePeriods, SchedulerConfig};

const DEFAULT_CRASH_LIMIT: NonZeroU32 = NonZeroU32::new(3).expect("3 is not 0");

/// How a pool of workers is kept and fed.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// The number of slots: how many items run at a time.
    pub processes: NonZeroU32,
    /// The most items queued or running at a time, over all calls. Default 10,000,000.
    pub max_queued_items: u32,
    /// The most bytes of items held at a time, over all calls. Default 256 MiB.
    pub max_queued_bytes: u32,
    /// The most bytes of results held at a time, over all calls, beside those of what runs: three quarters for calls that
    /// answer at once and fail beyond that, a quarter for streams, which are paused. Default 256 MiB.
    pub max_result_bytes: u32,
    /// The default limit on the run time of one item. `None` (the default): none.
    pub item_timeout: Option<Duration>,
    /// The longest that a worker may take from its start to Ready. Default 60 s.
    pub worker_start_timeout: Duration,
    /// How long a cancelled or timed-out item may go on by itself before SIGTERM. Default 2 s.
    pub cancel_grace_period: Duration,
    /// From SIGTERM to SIGKILL. Default 2 s.
    pub kill_grace_period: Duration,
    /// Replace a worker that has run this many items. `None` (the default): never.
    pub max_items_per_worker: Option<NonZeroU32>,
    /// Replace a worker that is this old. `None` (the default): never.
    pub max_worker_age: Option<Duration>,
    /// Replace a worker that has been idle this long. `None` (the default): never.
    pub idle_timeout: Option<Duration>,
    /// An item that kills this many workers is not tried again. Default 3.
    pub crash_limit: NonZeroU32,
    /// Where the jitter of waits comes from. Default: the number of this process, so that servers differ.
    pub jitter_seed: u64,
}

impl PoolConfig {
    /// Returns the default settings for a pool of this size.
    pub fn new(processes: NonZeroU32) -> Self {
        Self {
            processes,
            max_queued_items: 10_000_000,
            max_queued_bytes: 256 << 20,
            max_result_bytes: 256 << 20,
            item_timeout: None,
            worker_start_timeout: Duration::from_secs(60),
            cancel_grace_period: Duration::from_secs(2),
            kill_grace_period: Duration::from_secs(2),
            max_items_per_worker: None,
            max_worker_age: None,
            idle_timeout: None,
            crash_limit: DEFAULT_CRASH_LIMIT,
            jitter_seed: u64::from(std::process::id()),
        }
    }

    /// Returns the part that the scheduler needs.
    pub(crate) fn scheduler(&self) -> SchedulerConfig {
        SchedulerConfig {
            slots: self.processes.get(),
            worker_start_timeout: self.worker_start_timeout,
            kill_grace_period: self.kill_grace_period,
            max_items_per_worker: self.max_items_per_worker.map(NonZeroU32::get),
            max_worker_age: self.max_worker_age,
            idle_timeout: self.idle_timeout,
            crash_limit: self.crash_limit.get(),
            max_result_bytes: self.max_result_bytes.into(),
            // Only jitter comes from it: two pools that start together should not recycle together.
            seed: self.jitter_seed,
        }
    }

    /// Returns what items have when they should end.
    pub(crate) fn grace(&self) -> GracePeriods {
        GracePeriods { cancel: self.cancel_grace_period, kill: self.kill_grace_period }
    }
}
