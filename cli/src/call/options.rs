//! The options of calls: the flags, and what each sets.

use std::num::NonZeroU32;
use std::time::Duration;

use clap::Args;
use procpool_client::Call;

use crate::connect::ServerArgs;
use crate::quantity;

/// How a call is run.
#[derive(Debug, Args)]
pub(crate) struct CallArgs {
    #[command(flatten)]
    pub(super) server: ServerArgs,
    /// How long one item may run, from its start. Default: the server's limit
    #[arg(long, value_name = "DURATION", value_parser = quantity::duration)]
    pub(super) item_timeout: Option<Duration>,
    /// How often an item may be executed in all when its worker dies or its time runs out. Default: once, or 3 times for an
    /// idempotent function
    #[arg(long, value_name = "N", value_parser = quantity::positive)]
    pub(super) max_attempts: Option<NonZeroU32>,
    /// The share of the pool beside other calls, -8 to 8: each step up doubles it
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-8..=8))]
    pub(super) priority: Option<i32>,
    /// Send items as the JSON text that they are, which keeps integers beyond 2^53 exact. How large one may be is for the
    /// workers to say: in Python up to 4300 digits
    #[arg(long)]
    pub(super) json: bool,
    /// Give up when the server refuses the call, instead of trying again up to three times when it says
    #[arg(long)]
    pub(super) no_retry: bool,
}

/// Sets the options of the command line that all calls have.
pub(super) fn with_options<V>(mut call: Call<V>, args: &CallArgs) -> Call<V> {
    if let Some(timeout) = args.item_timeout {
        call = call.item_timeout(timeout);
    }
    if let Some(attempts) = args.max_attempts {
        call = call.max_attempts(attempts.get());
    }
    if let Some(priority) = args.priority {
        call = call.priority(priority);
    }
    call
}
