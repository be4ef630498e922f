//! How a caller wants its items run: the part of a call that goes unchanged from the request to where it acts.

use std::num::NonZeroU32;
use std::time::Duration;

/// What a caller may say about how a call is run. The default suits most calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallOptions {
    /// Items handed to a worker at a time. `None`: chosen from the function's measured run time.
    pub chunk_size: Option<NonZeroU32>,
    /// The longest time that one item may run, from its start. `None`: the pool's default, if it has one.
    pub item_timeout: Option<Duration>,
    /// How often an item may be executed in all. `None`: once, or up to the crash limit if the function is idempotent.
    pub max_attempts: Option<NonZeroU32>,
    /// What to do when an item fails. `None`: fail fast if the results are delivered together, collect for streams.
    pub on_error: Option<OnError>,
    /// The share of the pool beside other calls: each step up doubles it. -8 to 8.
    pub priority: i32,
}

/// What to do when an item fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// The call fails with the first failure to arrive.
    FailFast,
    /// The call succeeds; errors come beside the results.
    Collect,
}
