//! The commands that call a function on a server.

pub(crate) mod apply;
pub(crate) mod imap;
pub(crate) mod map;

use procpool_client::{Call, Client, ConnectError, Encoding};

use crate::args::{CallArgs, ServerArgs};
use crate::exit::{Exit, Failure};
use crate::input::InputError;

impl From<InputError> for Failure {
    fn from(error: InputError) -> Self {
        Self::new(Exit::BadInput, error)
    }
}

/// Connects to the server of the command line.
pub(crate) async fn connect(args: &ServerArgs) -> Result<Client, ConnectError> {
    let builder = match args.timeout {
        None => Client::builder(),
        Some(timeout) => Client::builder().default_timeout(timeout),
    };
    builder.connect(&args.server).await
}

/// Connects for a call.
async fn connect_for_call(args: &CallArgs) -> Result<Client, ConnectError> {
    let client = connect(&args.server).await?;
    Ok(if args.json { client.with_encoding(Encoding::Json) } else { client })
}

/// Sets the options of the command line that all calls have.
fn with_options<V>(mut call: Call<V>, args: &CallArgs) -> Call<V> {
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

/// Says whether items failed.
fn exit_after(num_failed: u64) -> Exit {
    if num_failed == 0 { Exit::Ok } else { Exit::ItemsFailed }
}
