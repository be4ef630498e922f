//! `procpool imap`

use std::pin::pin;

use futures_util::FutureExt as _;
use procpool_client::{CallError, ResultStream};
use serde_json::Value;

use super::{connect_for_call, exit_after, with_options};
use crate::args::{ImapArgs, OnError};
use crate::exit::{Exit, Failure};
use crate::input::{Input, parse_common};
use crate::output::Output;
use crate::progress::Progress;

/// Runs a function over a stream of items and prints each result as it comes.
pub(crate) async fn run(args: ImapArgs) -> Result<Exit, Failure> {
    let common = args.items.common.as_deref().map(parse_common).transpose()?;
    let input = Input::parse(&args.items)?;
    let num_items = input.count();
    let client = connect_for_call(&args.call).await?;
    let (items, input_failure) = input.into_stream();
    let mut call = with_options(client.imap_stream::<Value>(&args.items.function, items), &args.call);
    if let Some(chunk_size) = args.items.chunk_size {
        call = call.chunk_size(chunk_size.get());
    }
    if let Some(common) = common {
        call = call.common(common);
    }
    if let Some(window) = args.window {
        call = call.window(window.get());
    }
    if args.star {
        call = call.star();
    }
    if args.unordered {
        call = call.unordered();
    }
    if args.items.on_error == Some(OnError::Fail) {
        call = call.fail_fast();
    }
    let progress = Progress::of_stream(num_items, args.items.quiet);
    let mut output = Output::new(args.items.index).beside(progress);
    let printed = print_all(call.await?, &mut output).await;
    // What came before an error is worth as much as without it.
    output.flush()?;
    let num_failed = output.num_failed();
    drop(output);
    printed?;
    // The results of the items before a bad line are there; now for the line.
    match input_failure.take() {
        None => Ok(exit_after(num_failed)),
        Some(error) => Err(error.into()),
    }
}

async fn print_all(mut results: ResultStream<Value>, output: &mut Output) -> Result<(), Failure> {
    while let Some(item) = next(&mut results, output).await? {
        output.print(item.index, &item.result)?;
    }
    Ok(())
}

/// Returns the next result; hands what was printed to stdout before it waits.
async fn next(
    results: &mut ResultStream<Value>,
    output: &mut Output,
) -> Result<Option<procpool_client::ItemResult<Value>>, Failure> {
    let mut next = pin!(results.try_next());
    let ready: Option<Result<_, CallError>> = next.as_mut().now_or_never();
    if let Some(next) = ready {
        return Ok(next?);
    }
    output.flush()?;
    Ok(next.await?)
}
