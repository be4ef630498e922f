//! `procpool map` and `procpool starmap`

use std::pin::pin;

use clap::Args;
use futures_util::{StreamExt as _, TryStreamExt as _};
use procpool_client::{CallError, DEFAULT_MAX_MESSAGE_BYTES};

use super::list::{Items, ListCall, StreamArgs};
use super::options::CallArgs;
use super::reader::while_read;
use super::{connect_for_call, exit_after, explained, fail, print};
use crate::exit::{self, Exit, Failure};
use crate::input::{Input, Item};
use crate::list_args::{ItemsArgs, OnError, OutputFormat};
use crate::output::{Output, destination};
use crate::progress::Progress;

#[derive(Debug, Args)]
#[command(after_help = exit::HELP)]
pub(crate) struct MapArgs {
    #[command(flatten)]
    pub(crate) items: ItemsArgs,
    #[command(flatten)]
    pub(crate) call: CallArgs,
}

/// Runs a function over a list; each item is its one argument.
pub(crate) async fn map(args: MapArgs) -> Result<Exit, Failure> {
    while_read(call(&args, false), &args.items.output).await
}

/// Runs a function over a list; each item is the list of its arguments.
pub(crate) async fn starmap(args: MapArgs) -> Result<Exit, Failure> {
    while_read(call(&args, true), &args.items.output).await
}

/// Sends the list in one request and prints all results when they are there. They come as a stream all the same, so that
/// it can be said how far the call is.
async fn call(args: &MapArgs, star: bool) -> Result<Exit, Failure> {
    // Results alone do not say which of them is missing.
    let is_alone = args.items.output.output == OutputFormat::Values;
    let on_error = args.items.on_error.unwrap_or(if is_alone { OnError::Fail } else { OnError::Collect });
    // Without a window: that would be kept by sending the items one after the other, and the call should be taken or
    // refused as a whole.
    let stream = StreamArgs { star, ..StreamArgs::default() };
    let list = ListCall::new(&args.items, &args.call, &stream, on_error == OnError::Fail)?;
    let destination = destination(args.items.output.output_file.as_deref())?;
    let input = list.input()?;
    let selection = input.selection().clone();
    let items = read_all(input).await?;
    let num_items = items.len() as u64;
    let mut output = Output::new(&args.items.output, selection.nth(num_items.saturating_sub(1)), destination);
    let progress = Progress::of_stream(Some(num_items), args.items.output.hides_progress());
    let notices = progress.notices();
    let client = connect_for_call(&args.call, notices.clone()).await?;
    let results = async {
        let mut count = 0;
        let results = list.start(&client, Items::List(items)).await?.inspect_ok(|_| {
            count += 1;
            progress.set(count);
        });
        results.try_collect::<Vec<_>>().await
    };
    let results = explained(&client, &args.items.function, notices, results).await;
    drop(progress);

    match results {
        Ok(results) => {
            for (position, result) in results {
                print(&mut output, &selection, position, result)?;
            }
        }
        Err(error) => fail(&mut output, &selection, error)?,
    }
    output.finish()?;
    Ok(exit_after(output.num_failed()))
}

/// Reads the whole list, unless it is longer than a request may be.
async fn read_all(input: Input) -> Result<Vec<Item>, Failure> {
    let (items, failure) = input.into_stream();
    let mut items = pin!(items);
    let mut list = Vec::new();
    let mut num_bytes = 0;
    while let Some(item) = items.next().await {
        num_bytes += item.least_bytes();
        if num_bytes > DEFAULT_MAX_MESSAGE_BYTES {
            let message = format!(
                "{} items have more than {DEFAULT_MAX_MESSAGE_BYTES} bytes, the limit of one call; \
                 procpool imap takes any number",
                list.len()
            );
            return Err(CallError::MessageTooLarge { message }.into());
        }
        list.push(item);
    }
    match failure.take() {
        None => Ok(list),
        Some(error) => Err(error.into()),
    }
}
