//! The commands that call a function on a server.

pub(crate) mod apply;
pub(crate) mod imap;
mod list;
mod locate;
pub(crate) mod map;
mod options;
mod reader;

use std::time::Duration;

use procpool_client::{CallError, Client, ConnectError, ItemError, RetryPolicy};

use self::locate::{locate, locate_item};
use self::options::CallArgs;
use crate::connect::connect_with;
use crate::exit::{Exit, Failure};
use crate::health::why_it_waits;
use crate::input::InputError;
use crate::output::{JsonText, Output};
use crate::progress::Notices;
use crate::selection::Selection;

/// What the worker's SDK decodes by itself.
const JSON_TYPE: &str = "application/json";
/// How long a call may go without a result before the server is asked why.
const SILENCE: Duration = Duration::from_secs(2);

impl From<InputError> for Failure {
    fn from(error: InputError) -> Self {
        Self::new(Exit::BadInput, error)
    }
}

/// Connects for a call. Prints a notice when it is refused and retried.
async fn connect_for_call(args: &CallArgs, notices: Notices) -> Result<Client, ConnectError> {
    let retry = if args.no_retry { RetryPolicy::none() } else { RetryPolicy::default() };
    let builder = Client::builder().retry(retry).on_retry(move |refusal, wait| {
        notices.print(&format!("the server refused the call, which is made again in {wait:.1?}: {refusal}"));
    });
    connect_with(&args.server, builder).await
}

/// Waits for a call. Prints a notice if it waits long because no worker is ready.
async fn explained<T>(client: &Client, function: &str, notices: Notices, call: impl Future<Output = T>) -> T {
    let explain = async {
        tokio::time::sleep(SILENCE).await;
        if let Some(reason) = why_it_waits(client, function).await {
            notices.print(&format!("the call waits: {reason}"));
        }
        std::future::pending::<std::convert::Infallible>().await
    };
    tokio::select! {
        biased;
        answer = call => answer,
        never = explain => match never {},
    }
}

/// Prints the result of the item that was sent at a position.
fn print(
    output: &mut Output,
    selection: &Selection,
    position: u64,
    result: Result<JsonText, ItemError>,
) -> Result<(), Failure> {
    let index = selection.nth(position).unwrap_or(position);
    let result = result.map_err(|error| locate_item(error, selection));
    Ok(output.print(index, &result)?)
}

/// Ends a call that failed as a whole. If one item did it, that item has its line where items have a status.
fn fail(output: &mut Output, selection: &Selection, error: CallError) -> Result<(), Failure> {
    match error {
        CallError::ItemFailed(error) if output.has_status() => {
            let position = error.index;
            print(output, selection, position, Err(*error))
        }
        error => Err(locate(error, selection).into()),
    }
}

/// Says whether items failed.
fn exit_after(num_failed: u64) -> Exit {
    if num_failed == 0 { Exit::Ok } else { Exit::ItemsFailed }
}
