//! The rules that a pool is scheduled by. Plain data.

use std::time::Duration;

/// The rules that a pool is scheduled by.
#[derive(Debug, Clone)]
pub struct SchedulerConfig {
    /// The number of slots. At least 1.
    pub slots: u32,
    /// The longest that a worker may take from its start to Ready.
    pub worker_start_timeout: Duration,
    /// From terminate to kill.
    pub kill_grace_period: Duration,
    /// A worker is replaced after this many items. `None`: never.
    pub max_items_per_worker: Option<u32>,
    /// A worker is replaced when it is this old. `None`: never.
    pub max_worker_age: Option<Duration>,
    /// A worker is replaced when it has been idle this long. `None`: never.
    pub idle_timeout: Option<Duration>,
    /// An item that killed this many workers is not run again. At least 1.
    pub crash_limit: u32,
    /// The most bytes of results held at a time, over all jobs, beside those of what runs: three quarters for jobs that
    /// deliver all together and fail beyond that, a quarter for streams, which are paused.
    pub max_result_bytes: u64,
    /// Where the jitter comes from.
    pub seed: u64,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            slots: 1,
            worker_start_timeout: Duration::from_secs(60),
            kill_grace_period: Duration::from_secs(2),
            max_items_per_worker: None,
            max_worker_age: None,
            idle_timeout: None,
            crash_limit: 3,
            max_result_bytes: 256 << 20,
            seed: 0,
        }
    }
}
