//! `procpool map` and `procpool starmap`

use procpool_client::ItemError;
use serde_json::Value;

use super::{connect_for_call, exit_after, with_options};
use crate::args::{MapArgs, OnError};
use crate::exit::{Exit, Failure};
use crate::input::{Input, parse_common};
use crate::output::Output;
use crate::progress::Progress;

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// The one argument.
    Map,
    /// The list of arguments.
    Star,
}

/// Runs a function over a list in one request and prints all results.
pub(crate) async fn run(args: MapArgs, style: Style) -> Result<Exit, Failure> {
    let common = args.items.common.as_deref().map(parse_common).transpose()?;
    let items = Input::parse(&args.items)?.into_items().collect::<Result<Vec<Value>, _>>()?;
    let client = connect_for_call(&args.call).await?;
    let progress = Progress::of_call(format!("{} items", items.len()), args.items.quiet);
    let function = &args.items.function;
    let mut call = match style {
        Style::Map => client.map::<Value>(function, items),
        Style::Star => client.starmap::<Value>(function, items),
    };
    call = with_options(call, &args.call);
    if let Some(chunk_size) = args.items.chunk_size {
        call = call.chunk_size(chunk_size.get());
    }
    if let Some(common) = common {
        call = call.common(common);
    }
    let results: Vec<Result<Value, ItemError>> = match args.items.on_error {
        Some(OnError::Collect) => call.collect_errors().await?,
        Some(OnError::Fail) | None => call.await?.into_iter().map(Ok).collect(),
    };
    drop(progress);

    let mut output = Output::new(args.items.index);
    for (index, result) in (0..).zip(&results) {
        output.print(index, result)?;
    }
    output.flush()?;
    Ok(exit_after(output.num_failed()))
}
