//! The commands that call a function on a server.

pub(crate) mod apply;
pub(crate) mod imap;
mod locate;
pub(crate) mod map;
mod reader;

use procpool_client::{Call, CallError, Client, ConnectError, Encoding, ItemError, RetryPolicy};
use serde::de::DeserializeOwned;

use self::locate::{locate, locate_item};
use crate::args::{CallArgs, ServerArgs};
use crate::config;
use crate::exit::{Exit, Failure};
use crate::input::InputError;
use crate::output::{JsonText, Output};
use crate::selection::Selection;

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// The one argument.
    Map,
    /// The list of arguments.
    Star,
}

impl From<InputError> for Failure {
    fn from(error: InputError) -> Self {
        Self::new(Exit::BadInput, error)
    }
}

/// What a result is decoded as. Values are trees; of JSON the text is taken, so that no number in it changes.
trait Answer: DeserializeOwned + Into<JsonText> + Send + 'static {}

impl<R: DeserializeOwned + Into<JsonText> + Send + 'static> Answer for R {}

/// Connects to the server of the command line.
pub(crate) async fn connect(args: &ServerArgs) -> Result<Client, ConnectError> {
    connect_with(args, RetryPolicy::default()).await
}

async fn connect_with(args: &ServerArgs, retry: RetryPolicy) -> Result<Client, ConnectError> {
    let builder = match args.timeout {
        None => Client::builder(),
        Some(timeout) => Client::builder().default_timeout(timeout),
    };
    let client = builder.retry(retry).connect(&args.server).await?;
    // The convention of OpenTelemetry for the trace that a process is to continue.
    let variable = |name| config::variable(name).unwrap_or_default();
    Ok(client.with_trace_context(&variable("TRACEPARENT"), &variable("TRACESTATE")))
}

/// Connects for a call.
async fn connect_for_call(args: &CallArgs) -> Result<Client, ConnectError> {
    let retry = if args.no_retry { RetryPolicy::none() } else { RetryPolicy::default() };
    let client = connect_with(&args.server, retry).await?;
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

/// Prints the result of the item that was sent at a position.
fn print<R: Into<JsonText>>(
    output: &mut Output,
    selection: &Selection,
    position: u64,
    result: Result<R, ItemError>,
) -> Result<(), Failure> {
    let index = selection.nth(position).unwrap_or(position);
    let result = result.map(R::into).map_err(|error| locate_item(error, selection));
    Ok(output.print(index, &result)?)
}

/// Ends a call that failed as a whole. If one item did it, that item has its line where items have a status.
fn fail(output: &mut Output, selection: &Selection, error: CallError) -> Result<(), Failure> {
    match error {
        CallError::ItemFailed(error) if output.has_status() => {
            let position = error.index;
            print::<JsonText>(output, selection, position, Err(*error))
        }
        error => Err(locate(error, selection).into()),
    }
}

/// Says whether items failed.
fn exit_after(num_failed: u64) -> Exit {
    if num_failed == 0 { Exit::Ok } else { Exit::ItemsFailed }
}
