//! `procpool map` and `procpool starmap`

use std::pin::pin;

use clap::Args;
use futures_util::StreamExt as _;
use procpool_client::{Call, CallError, DEFAULT_MAX_MESSAGE_BYTES, IMap, ItemError};
use serde_json::Value;

use super::reader::while_read;
use super::{
    CallArgs, JSON_TYPE, Style, ToText, connect_for_call, exit_after, explained, fail, form_of, print, text_of,
    with_options,
};
use crate::exit::{self, Exit, Failure};
use crate::input::{Input, Item, ItemForm, parse_common};
use crate::list_args::{ItemsArgs, OnError, OutputFormat};
use crate::output::{Destination, JsonText, Output};
use crate::progress::Progress;

#[derive(Debug, Args)]
#[command(after_help = exit::HELP)]
pub(crate) struct MapArgs {
    #[command(flatten)]
    pub(crate) items: ItemsArgs,
    #[command(flatten)]
    pub(crate) call: CallArgs,
}

/// Runs a function over a list in one request and prints all results when they are there. They come as a stream all the
/// same, so that it can be said how far the call is.
pub(crate) async fn run(args: MapArgs, style: Style) -> Result<Exit, Failure> {
    while_read(call(&args, style), &args.items.output).await
}

async fn call(args: &MapArgs, style: Style) -> Result<Exit, Failure> {
    let form = form_of(&args.items, &args.call);
    let common = args.items.common.as_deref().map(|text| parse_common(text, form)).transpose()?;
    let destination = Destination::open(args.items.output.output_file.as_deref())?;
    let input = Input::parse(&args.items, style, form)?;
    let selection = input.selection().clone();
    let items = read_all(input).await?;
    let num_items = items.len() as u64;
    let mut output = Output::new(&args.items.output, selection.nth(num_items.saturating_sub(1)), destination);
    let progress = Progress::of_stream(Some(num_items), args.items.output.hides_progress());
    let notices = progress.notices();
    let client = connect_for_call(&args.call, notices.clone()).await?;
    // Without a window: that would be kept by sending the items one after the other, and the call should be taken or
    // refused as a whole.
    let function = &args.items.function;
    let results = async {
        match form {
            ItemForm::Values => {
                let call = client.imap::<Value>(function, items.into_iter().map(Item::into_value));
                results_of(with_settings(call, args, style, common), JsonText::of_value, num_items, &progress).await
            }
            ItemForm::Json | ItemForm::Bytes => {
                let call = client.imap_bytes(function, items.into_iter().map(Item::into_bytes));
                let (content_type, to_text): (_, ToText<_>) =
                    if form == ItemForm::Json { (JSON_TYPE, JsonText::of_json) } else { ("", JsonText::of_bytes) };
                let call = with_settings(call.content_type(content_type), args, style, common);
                results_of(call, to_text, num_items, &progress).await
            }
        }
    };
    let results = explained(&client, function, notices, results).await;
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

fn with_settings<R>(call: Call<IMap<R>>, args: &MapArgs, style: Style, common: Option<Item>) -> Call<IMap<R>> {
    let mut call = with_options(call, &args.call);
    if style == Style::Star {
        call = call.star();
    }
    if let Some(chunk_size) = args.items.chunk_size {
        call = call.chunk_size(chunk_size.get());
    }
    call = match common {
        None => call,
        Some(Item::Value(value)) => call.common(value),
        Some(Item::Blob(text)) => call.common_bytes(text),
    };
    // Results alone do not say which of them is missing.
    let is_alone = args.items.output.output == OutputFormat::Values;
    let on_error = args.items.on_error.unwrap_or(if is_alone { OnError::Fail } else { OnError::Collect });
    if on_error == OnError::Fail { call.fail_fast() } else { call }
}

async fn results_of<R: 'static>(
    call: Call<IMap<R>>,
    to_text: ToText<R>,
    num_items: u64,
    progress: &Progress,
) -> Result<Vec<Result<JsonText, ItemError>>, CallError> {
    let mut stream = call.await?;
    let mut results = Vec::with_capacity(usize::try_from(num_items).unwrap_or(0));
    while let Some(item) = stream.try_next().await? {
        results.push(text_of(item.index, item.result, to_text)?);
        progress.set(results.len() as u64);
    }
    Ok(results)
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
