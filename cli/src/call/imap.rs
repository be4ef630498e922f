//! `procpool imap`

use clap::Args;
use futures_util::{FutureExt as _, StreamExt as _};
use procpool_client::Client;

use super::list::{Items, ListCall, StreamArgs};
use super::options::CallArgs;
use super::reader::while_read;
use super::{connect_for_call, exit_after, explained, fail, print};
use crate::exit::{self, Exit, Failure};
use crate::list_args::{ItemsArgs, OnError};
use crate::output::{Output, destination};
use crate::progress::Progress;
use crate::selection::Selection;

#[derive(Debug, Args)]
#[command(after_help = exit::HELP)]
pub(crate) struct ImapArgs {
    #[command(flatten)]
    pub(crate) items: ItemsArgs,
    #[command(flatten)]
    pub(crate) call: CallArgs,
    #[command(flatten)]
    pub(crate) stream: StreamArgs,
}

/// Runs a function over a stream of items and prints each result as it comes.
pub(crate) async fn run(args: ImapArgs) -> Result<Exit, Failure> {
    while_read(call(&args), &args.items.output).await
}

async fn call(args: &ImapArgs) -> Result<Exit, Failure> {
    let is_fail_fast = args.items.on_error == Some(OnError::Fail);
    let list = ListCall::new(&args.items, &args.call, &args.stream, is_fail_fast)?;
    let destination = destination(args.items.output.output_file.as_deref())?;
    let input = list.input()?;
    let (num_items, selection) = (input.count(), input.selection().clone());
    let progress = Progress::of_stream(num_items, args.items.output.hides_progress());
    let notices = progress.notices();
    let client = connect_for_call(&args.call, notices.clone()).await?;
    let (items, input_failure) = input.into_stream();
    let last_index = num_items.map(|count| selection.nth(count.saturating_sub(1)).unwrap_or(0));
    let mut output = Output::new(&args.items.output, last_index, destination).beside(progress);
    let printing = print_all(list, &client, Items::Stream(items.boxed()), &mut output, &selection);
    let printed = explained(&client, &args.items.function, notices, printing).await;
    match &printed {
        Ok(()) => output.finish()?,
        // What came before an error is worth as much as without it.
        Err(_) => output.flush()?,
    }
    let num_failed = output.num_failed();
    drop(output);
    printed?;
    // The results of the items before a bad line are there; now for the line.
    match input_failure.take() {
        None => Ok(exit_after(num_failed)),
        Some(error) => Err(error.into()),
    }
}

/// Prints the results as they come. Hands what was printed to stdout before it waits for the next.
async fn print_all(
    list: ListCall<'_>,
    client: &Client,
    items: Items,
    output: &mut Output,
    selection: &Selection,
) -> Result<(), Failure> {
    let mut results = match list.start(client, items).await {
        Ok(results) => results,
        Err(error) => return fail(output, selection, error),
    };
    loop {
        let next = if let Some(next) = results.next().now_or_never() {
            next
        } else {
            output.flush()?;
            results.next().await
        };
        match next {
            Some(Ok((position, result))) => print(output, selection, position, result)?,
            Some(Err(error)) => return fail(output, selection, error),
            None => return Ok(()),
        }
    }
}
