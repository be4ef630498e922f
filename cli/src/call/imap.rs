//! `procpool imap`

use std::num::NonZeroU32;
use std::pin::pin;

use clap::Args;
use futures_util::{FutureExt as _, StreamExt as _};
use procpool_client::{Call, CallError, IMap, ItemResult, ResultStream};
use serde_json::Value;

use super::reader::while_read;
use super::{
    CallArgs, JSON_TYPE, Style, ToText, connect_for_call, exit_after, explained, fail, form_of, print, text_of,
    with_options,
};
use crate::exit::{self, Exit, Failure};
use crate::input::{Input, Item, ItemForm, parse_common};
use crate::list_args::{ItemsArgs, OnError};
use crate::output::{Destination, JsonText, Output};
use crate::print::OutputError;
use crate::progress::Progress;
use crate::quantity;
use crate::selection::Selection;

#[derive(Debug, Args)]
#[command(after_help = exit::HELP)]
pub(crate) struct ImapArgs {
    #[command(flatten)]
    pub(crate) items: ItemsArgs,
    #[command(flatten)]
    pub(crate) call: CallArgs,
    /// Print results as they finish instead of in the order of the items
    #[arg(long)]
    pub(crate) unordered: bool,
    /// Each item is a list, the arguments of one call
    #[arg(long)]
    pub(crate) star: bool,
    /// How many items the pool may run ahead of the reader. Default: enough to keep it busy
    #[arg(long, value_name = "N", value_parser = quantity::positive)]
    pub(crate) window: Option<NonZeroU32>,
}

/// Runs a function over a stream of items and prints each result as it comes.
pub(crate) async fn run(args: ImapArgs) -> Result<Exit, Failure> {
    while_read(call(&args), &args.items.output).await
}

async fn call(args: &ImapArgs) -> Result<Exit, Failure> {
    let form = form_of(&args.items, &args.call);
    let common = args.items.common.as_deref().map(|text| parse_common(text, form)).transpose()?;
    let destination = Destination::open(args.items.output.output_file.as_deref())?;
    let input = Input::parse(&args.items, if args.star { Style::Star } else { Style::Map }, form)?;
    let (num_items, selection) = (input.count(), input.selection().clone());
    let progress = Progress::of_stream(num_items, args.items.output.hides_progress());
    let notices = progress.notices();
    let client = connect_for_call(&args.call, notices.clone()).await?;
    let (items, input_failure) = input.into_stream();
    let last_index = num_items.map(|count| selection.nth(count.saturating_sub(1)).unwrap_or(0));
    let mut output = Output::new(&args.items.output, last_index, destination).beside(progress);
    let function = &args.items.function;
    let printing = async {
        match form {
            ItemForm::Values => {
                let call = client.imap_stream::<Value>(function, items.map(Item::into_value));
                print_all(with_settings(call, args, common), JsonText::of_value, &mut output, &selection).await
            }
            ItemForm::Json | ItemForm::Bytes => {
                let call = client.imap_stream_bytes(function, items.map(Item::into_bytes));
                let (content_type, to_text): (_, ToText<_>) =
                    if form == ItemForm::Json { (JSON_TYPE, JsonText::of_json) } else { ("", JsonText::of_bytes) };
                let call = with_settings(call.content_type(content_type), args, common);
                print_all(call, to_text, &mut output, &selection).await
            }
        }
    };
    let printed = explained(&client, function, notices, printing).await;
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

fn with_settings<R>(call: Call<IMap<R>>, args: &ImapArgs, common: Option<Item>) -> Call<IMap<R>> {
    let mut call = with_options(call, &args.call);
    if let Some(chunk_size) = args.items.chunk_size {
        call = call.chunk_size(chunk_size.get());
    }
    call = match common {
        None => call,
        Some(Item::Value(value)) => call.common(value),
        Some(Item::Blob(text)) => call.common_bytes(text),
    };
    if let Some(window) = args.window {
        call = call.window(window.get());
    }
    if args.star {
        call = call.star();
    }
    if args.unordered {
        call = call.unordered();
    }
    if args.items.on_error == Some(OnError::Fail) { call.fail_fast() } else { call }
}

async fn print_all<R: 'static>(
    call: Call<IMap<R>>,
    to_text: ToText<R>,
    output: &mut Output,
    selection: &Selection,
) -> Result<(), Failure> {
    let mut results = match call.await {
        Ok(results) => results,
        Err(error) => return fail(output, selection, error),
    };
    loop {
        match next(&mut results, output).await? {
            Ok(Some(ItemResult { index: position, result })) => match text_of(position, result, to_text) {
                Ok(result) => print(output, selection, position, result)?,
                Err(error) => return fail(output, selection, error),
            },
            Ok(None) => return Ok(()),
            Err(error) => return fail(output, selection, error),
        }
    }
}

/// Returns the next result; hands what was printed to stdout before it waits.
async fn next<R>(
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
