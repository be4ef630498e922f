//! What a caller says about a job: its items, its results, its deadline, and the options of its call, which go unchanged
//! from the request to where they act.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::id::{FunctionId, JobId};
use crate::time::Time;

/// A job, as far as scheduling is concerned.
#[derive(Debug, Clone)]
pub struct JobSpec {
    /// Its name.
    pub id: JobId,
    /// What runs its items.
    pub function: FunctionId,
    /// How many items are there already.
    pub num_items: u64,
    /// No more items will come.
    pub input_closed: bool,
    /// All items share an argument.
    pub has_common: bool,
    /// How results are delivered.
    pub delivery: Delivery,
    /// What its answer can hold, if it delivers all together. `None`: any number of bytes.
    pub max_answer_bytes: Option<u64>,
    /// The mean length of an item, in bytes: large items make small chunks.
    pub item_bytes: u64,
    /// When the caller stops waiting.
    pub deadline: Option<Time>,
    /// How the caller wants it run.
    pub options: CallOptions,
}

impl JobSpec {
    /// Returns a job whose items are all there, with everything else at its default.
    pub fn new(id: JobId, function: FunctionId, num_items: u64) -> Self {
        Self {
            id,
            function,
            num_items,
            input_closed: true,
            has_common: false,
            delivery: Delivery::Whole,
            max_answer_bytes: None,
            item_bytes: 0,
            deadline: None,
            options: CallOptions::default(),
        }
    }

    /// Returns how many items a chunk has, if the caller has said it.
    pub fn chunk_size(&self) -> Option<u32> {
        self.options.chunk_size.map(NonZeroU32::get)
    }

    /// Returns how often an item may be executed in all. At least 1.
    pub fn max_attempts(&self) -> u32 {
        self.options.max_attempts.map_or(1, NonZeroU32::get)
    }

    /// Returns whether the first failure ends the job.
    pub fn fails_fast(&self) -> bool {
        self.options.on_error.map_or(self.delivery == Delivery::Whole, |on_error| on_error == OnError::FailFast)
    }
}

/// How the results of a job are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// All together at the end.
    Whole,
    /// As a stream in the order of the items, at most `window` ahead of the reader. `None`: adaptive.
    Ordered {
        /// In items. At least 1.
        window: Option<u32>,
    },
    /// As a stream in the order of completion, at most `window` ahead of the reader. `None`: adaptive.
    Unordered {
        /// In items. At least 1.
        window: Option<u32>,
    },
}

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
