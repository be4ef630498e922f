//! `procpool imap`

use std::pin::pin;

use futures_util::FutureExt as _;
use procpool_client::{Call, CallError, IMapStream, ItemResult, ResultStream};
use serde_json::Value;
use serde_json::value::RawValue;

use super::reader::while_read;
use super::{Answer, Style, connect_for_call, exit_after, fail, print, with_options};
use crate::args::{ImapArgs, OnError};
use crate::exit::{Exit, Failure};
use crate::input::{Input, parse_common};
use crate::output::{Output, OutputError};
use crate::progress::Progress;
use crate::selection::Selection;

/// Runs a function over a stream of items and prints each result as it comes.
pub(crate) async fn run(args: ImapArgs) -> Result<Exit, Failure> {
    let format = args.items.output.output;
    if args.call.json {
        while_read(call::<Box<RawValue>>(args), format).await
    } else {
        while_read(call::<Value>(args), format).await
    }
}

async fn call<R: Answer>(args: ImapArgs) -> Result<Exit, Failure> {
    let common = args.items.common.as_deref().map(parse_common).transpose()?;
    let input = Input::parse(&args.items, if args.star { Style::Star } else { Style::Map })?;
    let (num_items, selection) = (input.count(), input.selection().clone());
    let client = connect_for_call(&args.call).await?;
    let (items, input_failure) = input.into_stream();
    let mut call = with_options(client.imap_stream::<R>(&args.items.function, items), &args.call);
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
    let progress = Progress::of_stream(num_items, args.items.output.hides_progress());
    let last_index = num_items.map(|count| selection.nth(count.saturating_sub(1)).unwrap_or(0));
    let mut output = Output::new(&args.items.output, last_index).beside(progress);
    let printed = print_all(call, &mut output, &selection).await;
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

async fn print_all<R: Answer>(
    call: Call<IMapStream<R>>,
    output: &mut Output,
    selection: &Selection,
) -> Result<(), Failure> {
    let mut results = match call.await {
        Ok(results) => results,
        Err(error) => return fail(output, selection, error),
    };
    loop {
        match next(&mut results, output).await? {
            Ok(Some(ItemResult { index: position, result })) => print(output, selection, position, result)?,
            Ok(None) => return Ok(()),
            Err(error) => return fail(output, selection, error),
        }
    }
}

/// Returns the next result; hands what was printed to stdout before it waits.
async fn next<R: Answer>(
    results: &mut ResultStream<R>,
    output: &mut Output,
) -> Result<Result<Option<ItemResult<R>>, CallError>, OutputError> {
    let mut next = pin!(results.try_next());
    if let Some(next) = next.as_mut().now_or_never() {
        return Ok(next);
    }
    output.flush()?;
    Ok(next.await)
}
