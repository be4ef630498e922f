//! Time as the scheduler sees it: an argument.

use std::time::Duration;

/// A moment, in nanoseconds since the pool started. The driver's monotonic clock; wall clock jumps do not exist here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(u64);

impl Time {
    /// When the pool started.
    pub const ZERO: Self = Self(0);

    /// Returns the moment this long after the pool started.
    pub fn from_start(elapsed: Duration) -> Self {
        Self(saturating_nanos(elapsed))
    }

    /// Returns the moment this much later; the end of time if there is none.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(saturating_nanos(delay)))
    }

    /// Returns how long ago an earlier moment was; zero if it was not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Returns how long after the start of the pool this is.
    pub fn elapsed(self) -> Duration {
        Duration::from_nanos(self.0)
    }
}

/// A `u64` of nanoseconds lasts 584 years.
pub(crate) fn saturating_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
