//! `procpool apply`

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{Answer, connect_for_call, with_options};
use crate::args::ApplyArgs;
use crate::exit::{Exit, Failure};
use crate::input::{InputError, parse_value};
use crate::output::Output;
use crate::progress::Progress;

/// Runs a function once and prints its result.
pub(crate) async fn run(args: ApplyArgs) -> Result<Exit, Failure> {
    if args.call.json { call::<Box<RawValue>>(args).await } else { call::<Value>(args).await }
}

async fn call<R: Answer>(args: ApplyArgs) -> Result<Exit, Failure> {
    let arguments = args.arguments.iter().map(|text| parse_value(text)).collect::<Result<Vec<Value>, _>>()?;
    let kwargs = args.kwarg.iter().map(|text| parse_kwarg(text)).collect::<Result<Map<String, Value>, _>>()?;
    let client = connect_for_call(&args.call).await?;
    let mut call = with_options(client.apply::<R>(&args.function, arguments), &args.call);
    if !kwargs.is_empty() {
        call = call.kwargs(kwargs);
    }
    let progress = Progress::of_call(format!("{} runs", args.function), false);
    let result = call.await;
    drop(progress);
    let mut output = Output::of_values();
    output.print(0, &Ok(result?.into()))?;
    output.flush()?;
    Ok(Exit::Ok)
}

fn parse_kwarg(text: &str) -> Result<(String, Value), InputError> {
    let named = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = named.ok_or_else(|| InputError::KeywordArgument { text: text.to_owned() })?;
    Ok((name.to_owned(), parse_value(value)?))
}
