//! `procpool apply`

use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::Args;
use procpool_client::{Apply, Call, CallError, Client};
use serde_json::{Map, Value};

use super::options::{CallArgs, with_options};
use super::{JSON_TYPE, connect_for_call, explained};
use crate::exit::{self, Exit, Failure, OnlyItem};
use crate::input::{FileOrStdin, InputError, Item, ItemForm, parse_item};
use crate::output::JsonText;
use crate::print::{OutputError, print_stdout};
use crate::progress::Progress;
use crate::text;

#[derive(Debug, Args)]
#[command(after_help = exit::HELP)]
pub(crate) struct ApplyArgs {
    /// The name of the function; `procpool functions` lists them
    pub(crate) function: String,
    /// The arguments, JSON values
    #[arg(value_name = "ARGUMENT", allow_negative_numbers = true)]
    pub(crate) arguments: Vec<String>,
    /// A keyword argument, for functions in a language that has them
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) kwarg: Vec<String>,
    /// A file whose bytes are an argument, for functions that take bytes; `-` is stdin. May be given more than once. What
    /// the function returns, bytes too, is written to stdout just as it is
    #[arg(long, value_name = "FILE", conflicts_with_all = ["arguments", "json"])]
    pub(crate) blob: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) call: CallArgs,
}

/// Runs a function once and prints its result.
pub(crate) async fn run(args: ApplyArgs) -> Result<Exit, Failure> {
    let form = ItemForm::new(args.call.json, !args.blob.is_empty());
    let arguments = args.arguments.iter().map(|text| parse_item(text, form)).collect::<Result<Vec<Item>, _>>()?;
    let kwargs = args.kwarg.iter().map(|text| parse_kwarg(text)).collect::<Result<Map<String, Value>, _>>()?;
    let blobs = args.blob.iter().map(|path| FileOrStdin::of(path).read_all()).collect::<Result<Vec<_>, _>>()?;
    let progress = Progress::of_call(format!("{} runs", args.function), false);
    let client = connect_for_call(&args.call, progress.notices()).await?;
    let apply = ApplyCall { client: &client, args: &args, kwargs, progress };
    let text = match form {
        ItemForm::Bytes => {
            let result = apply.result_of(client.apply_bytes(&args.function, blobs)).await?;
            io::stdout().write_all(&result).map_err(OutputError::from)?;
            return Ok(Exit::Ok);
        }
        ItemForm::Json => {
            let arguments = arguments.into_iter().map(Item::into_bytes);
            let call = client.apply_bytes(&args.function, arguments).content_type(JSON_TYPE);
            let result = apply.result_of(call).await?;
            JsonText::of_json(&result).map_err(|error| CallError::Decode { index: 0, source: error.into() })?
        }
        ItemForm::Values => {
            let arguments: Vec<Value> = arguments.into_iter().map(Item::into_value).collect();
            apply.result_of(client.apply::<Value>(&args.function, arguments)).await?.into()
        }
    };
    print_stdout(&format!("{}\n", text::json(&text.to_string())))?;
    Ok(Exit::Ok)
}

/// What a call of any form needs.
struct ApplyCall<'a> {
    client: &'a Client,
    args: &'a ApplyArgs,
    kwargs: Map<String, Value>,
    progress: Progress,
}

impl ApplyCall<'_> {
    async fn result_of<R: 'static>(self, call: Call<Apply<R>>) -> Result<R, Failure> {
        let mut call = with_options(call, &self.args.call);
        if !self.kwargs.is_empty() {
            call = call.kwargs(self.kwargs);
        }
        let called = explained(self.client, &self.args.function, self.progress.notices(), call.into_future()).await;
        called.map_err(|error| match error {
            CallError::ItemFailed(item) => Failure::new(Exit::ItemsFailed, OnlyItem(item)),
            error => error.into(),
        })
    }
}

fn parse_kwarg(text: &str) -> Result<(String, Value), InputError> {
    let named = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = named.ok_or_else(|| InputError::KeywordArgument { text: text.to_owned() })?;
    Ok((name.to_owned(), parse_item(value, ItemForm::Values)?.into_value()))
}
