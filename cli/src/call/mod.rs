//! The commands that call a function on a server.

pub(crate) mod apply;
pub(crate) mod imap;
mod locate;
pub(crate) mod map;
mod reader;

use std::num::NonZeroU32;
use std::time::Duration;

use clap::Args;
use procpool_client::{Call, CallError, Client, ConnectError, ItemError, RetryPolicy};

use self::locate::{locate, locate_item};
use crate::connect::{ServerArgs, connect_with};
use crate::exit::{Exit, Failure};
use crate::health::why_it_waits;
use crate::input::{InputError, ItemForm};
use crate::list_args::ItemsArgs;
use crate::output::{JsonText, Output};
use crate::progress::Notices;
use crate::quantity;
use crate::selection::Selection;

/// What the worker's SDK decodes by itself.
const JSON_TYPE: &str = "application/json";
/// How long a call may go without a word before it is asked why.
const SILENCE: Duration = Duration::from_secs(2);

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// The one argument.
    Map,
    /// The list of arguments.
    Star,
}

/// How a call is run.
#[derive(Debug, Args)]
pub(crate) struct CallArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// How long one item may run, from its start. Default: the server's limit
    #[arg(long, value_name = "DURATION", value_parser = quantity::duration)]
    pub(crate) item_timeout: Option<Duration>,
    /// How often an item may be executed in all when its worker dies or its time runs out. Default: once, or 3 times for an
    /// idempotent function
    #[arg(long, value_name = "N", value_parser = quantity::positive)]
    pub(crate) max_attempts: Option<NonZeroU32>,
    /// The share of the pool beside other calls, -8 to 8: each step up doubles it
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-8..=8))]
    pub(crate) priority: Option<i32>,
    /// Send items as the JSON text that they are, which keeps integers beyond 2^53 exact. How large one may be is for the
    /// workers to say: in Python up to 4300 digits
    #[arg(long)]
    pub(crate) json: bool,
    /// Give up when the server refuses the call, instead of trying again up to three times when it says
    #[arg(long)]
    pub(crate) no_retry: bool,
}

impl From<InputError> for Failure {
    fn from(error: InputError) -> Self {
        Self::new(Exit::BadInput, error)
    }
}

/// Returns the JSON text of a result.
type ToText<R> = fn(&R) -> Result<JsonText, serde_json::Error>;

/// Returns how the items of a list are sent.
fn form_of(items: &ItemsArgs, call: &CallArgs) -> ItemForm {
    match (call.json, items.list.each_file.is_some()) {
        (true, _) => ItemForm::Json,
        (false, true) => ItemForm::Bytes,
        (false, false) => ItemForm::Values,
    }
}

/// Connects for a call. Whoever waits for it is told when it is refused and made again.
async fn connect_for_call(args: &CallArgs, notices: Notices) -> Result<Client, ConnectError> {
    let retry = if args.no_retry { RetryPolicy::none() } else { RetryPolicy::default() };
    let builder = Client::builder().retry(retry).on_retry(move |refusal, wait| {
        notices.print(&format!("the server refused the call, which is made again in {wait:.1?}: {refusal}"));
    });
    connect_with(&args.server, builder).await
}

/// Waits for a call. If it takes a while because no worker runs anything, says so.
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

/// Returns the text of the result of the item that was sent at a position.
///
/// # Errors
///
/// If the worker wrote what is none.
fn text_of<R>(
    position: u64,
    result: Result<R, ItemError>,
    to_text: ToText<R>,
) -> Result<Result<JsonText, ItemError>, CallError> {
    match result {
        Ok(result) => match to_text(&result) {
            Ok(text) => Ok(Ok(text)),
            Err(error) => Err(CallError::Decode { index: position, source: error.into() }),
        },
        Err(error) => Ok(Err(error)),
    }
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
