//! `procpool map` and `procpool starmap`

use std::pin::pin;

use futures_util::StreamExt as _;
use procpool_client::{Call, CallError, DEFAULT_MAX_MESSAGE_BYTES, IMap, ItemError};
use serde_json::Value;
use serde_json::value::RawValue;

use super::reader::while_read;
use super::{Answer, Style, connect_for_call, exit_after, fail, print, with_options};
use crate::args::{MapArgs, OnError};
use crate::exit::{Exit, Failure};
use crate::input::{Input, parse_common};
use crate::list_args::OutputFormat;
use crate::output::Output;
use crate::progress::Progress;

/// Runs a function over a list in one request and prints all results when they are there. They come as a stream all the
/// same, so that it can be said how far the call is.
pub(crate) async fn run(args: MapArgs, style: Style) -> Result<Exit, Failure> {
    let format = args.items.output.output;
    if args.call.json {
        while_read(call::<Box<RawValue>>(args, style), format).await
    } else {
        while_read(call::<Value>(args, style), format).await
    }
}

async fn call<R: Answer>(args: MapArgs, style: Style) -> Result<Exit, Failure> {
    let common = args.items.common.as_deref().map(parse_common).transpose()?;
    let input = Input::parse(&args.items, style)?;
    let selection = input.selection().clone();
    let items = read_all(input, args.call.json).await?;
    let last_position = (items.len() as u64).saturating_sub(1);
    let mut output = Output::new(&args.items.output, selection.nth(last_position));
    let client = connect_for_call(&args.call).await?;
    let num_items = items.len();
    let progress = Progress::of_stream(Some(num_items as u64), args.items.output.hides_progress());
    // Without a window: that would be kept by sending the items one after the other, and the call should be taken or
    // refused as a whole.
    let mut call = with_options(client.imap::<R>(&args.items.function, items), &args.call);
    if style == Style::Star {
        call = call.star();
    }
    if let Some(chunk_size) = args.items.chunk_size {
        call = call.chunk_size(chunk_size.get());
    }
    if let Some(common) = common {
        call = call.common(common);
    }
    // Results alone do not say which of them is missing.
    let is_alone = args.items.output.output == OutputFormat::Values;
    let on_error = args.items.on_error.unwrap_or(if is_alone { OnError::Fail } else { OnError::Collect });
    if on_error == OnError::Fail {
        call = call.fail_fast();
    }
    let results = results_of(call, num_items, &progress).await;
    drop(progress);

    match results {
        Ok(results) => {
            (0..).zip(results).try_for_each(|(position, result)| print(&mut output, &selection, position, result))?;
        }
        Err(error) => fail(&mut output, &selection, error)?,
    }
    output.finish()?;
    Ok(exit_after(output.num_failed()))
}

async fn results_of<R: Answer>(
    call: Call<IMap<R>>,
    num_items: usize,
    progress: &Progress,
) -> Result<Vec<Result<R, ItemError>>, CallError> {
    let mut stream = call.await?;
    let mut results = Vec::with_capacity(num_items);
    while let Some(item) = stream.try_next().await? {
        results.push(item.result);
        progress.set(results.len() as u64);
    }
    Ok(results)
}

/// Reads the whole list, unless it is longer than a request may be.
async fn read_all(input: Input, as_json: bool) -> Result<Vec<Value>, Failure> {
    let (items, failure) = input.into_stream();
    let mut items = pin!(items);
    let mut list = Vec::new();
    let mut num_bytes = 0;
    while let Some(item) = items.next().await {
        num_bytes += least_bytes(&item, as_json);
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

/// Returns how many bytes an item takes at least in a request. That is not exact; the client knows, when all is in memory.
fn least_bytes(item: &Value, as_json: bool) -> usize {
    // Tags and lengths; for JSON, quotes and commas.
    let overhead = if as_json { 2 } else { 4 };
    match item {
        Value::Number(_) if !as_json => 11,
        Value::Null | Value::Bool(_) | Value::Number(_) => overhead,
        Value::String(text) => overhead + text.len(),
        Value::Array(items) => overhead + items.iter().map(|item| least_bytes(item, as_json)).sum::<usize>(),
        Value::Object(fields) => {
            overhead + fields.iter().map(|(name, value)| name.len() + least_bytes(value, as_json)).sum::<usize>()
        }
    }
}
