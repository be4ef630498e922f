//! What `map`, `starmap` and `imap` have in common: a call over a list whose results are printed as JSON.

use std::num::NonZeroU32;

use clap::Args;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use procpool_client::{Call, CallError, Client, IMap, ItemError, ItemResult};
use serde_json::Value;

use super::JSON_TYPE;
use super::options::{CallArgs, with_options};
use crate::input::{Input, InputError, Item, ItemForm, parse_common};
use crate::list_args::ItemsArgs;
use crate::output::JsonText;
use crate::quantity;

/// How items and results go.
#[derive(Debug, Default, Args)]
pub(crate) struct StreamArgs {
    /// Print results as they finish instead of in the order of the items
    #[arg(long)]
    pub(super) unordered: bool,
    /// Each item is a list, the arguments of one call
    #[arg(long)]
    pub(super) star: bool,
    /// How many items the pool may run ahead of the reader. Default: enough to keep it busy
    #[arg(long, value_name = "N", value_parser = quantity::positive)]
    pub(super) window: Option<NonZeroU32>,
}

/// A call over a list that is not yet read.
pub(super) struct ListCall<'a> {
    items: &'a ItemsArgs,
    call: &'a CallArgs,
    stream: &'a StreamArgs,
    form: ItemForm,
    common: Option<Item>,
    is_fail_fast: bool,
}

/// The items of a call.
pub(super) enum Items {
    /// All in one request.
    List(Vec<Item>),
    /// Sent as the server allows them.
    Stream(BoxStream<'static, Item>),
}

/// Results, each with the position of its item among those that were sent.
pub(super) type Results = BoxStream<'static, Result<(u64, Result<JsonText, ItemError>), CallError>>;

impl<'a> ListCall<'a> {
    pub(super) fn new(
        items: &'a ItemsArgs,
        call: &'a CallArgs,
        stream: &'a StreamArgs,
        is_fail_fast: bool,
    ) -> Result<Self, InputError> {
        let form = ItemForm::new(call.json, items.list.each_file.is_some());
        let common = items.common.as_deref().map(|text| parse_common(text, form)).transpose()?;
        Ok(Self { items, call, stream, form, common, is_fail_fast })
    }

    pub(super) fn input(&self) -> Result<Input, InputError> {
        Input::parse(self.items, self.stream.star, self.form)
    }

    /// Starts the call.
    pub(super) async fn start(self, client: &Client, items: Items) -> Result<Results, CallError> {
        let function = &self.items.function;
        if self.form == ItemForm::Values {
            let call = match items {
                Items::List(items) => client.imap::<Value>(function, items.into_iter().map(Item::into_value)),
                Items::Stream(items) => client.imap_stream(function, items.map(Item::into_value)),
            };
            return results_of(self.with_options(call), JsonText::of_value).await;
        }
        let call = match items {
            Items::List(items) => client.imap_bytes(function, items.into_iter().map(Item::into_bytes)),
            Items::Stream(items) => client.imap_stream_bytes(function, items.map(Item::into_bytes)),
        };
        if self.form == ItemForm::Json {
            results_of(self.with_options(call.content_type(JSON_TYPE)), JsonText::of_json).await
        } else {
            results_of(self.with_options(call), JsonText::of_bytes).await
        }
    }

    /// Sets the options of the command line.
    fn with_options<R>(self, call: Call<IMap<R>>) -> Call<IMap<R>> {
        let mut call = with_options(call, self.call);
        if let Some(chunk_size) = self.items.chunk_size {
            call = call.chunk_size(chunk_size.get());
        }
        call = match self.common {
            None => call,
            Some(Item::Value(value)) => call.common(value),
            Some(Item::Blob(text)) => call.common_bytes(text),
        };
        if let Some(window) = self.stream.window {
            call = call.window(window.get());
        }
        if self.stream.star {
            call = call.star();
        }
        if self.stream.unordered {
            call = call.unordered();
        }
        if self.is_fail_fast { call.fail_fast() } else { call }
    }
}

/// Starts a call. A result that the worker did not write as JSON is an error of the call.
async fn results_of<R: 'static>(
    call: Call<IMap<R>>,
    to_text: fn(&R) -> Result<JsonText, serde_json::Error>,
) -> Result<Results, CallError> {
    let text_of = move |ItemResult { index, result }: ItemResult<R>| match result.map(|result| to_text(&result)) {
        Ok(Ok(text)) => Ok((index, Ok(text))),
        Ok(Err(error)) => Err(CallError::Decode { index, source: error.into() }),
        Err(error) => Ok((index, Err(error))),
    };
    Ok(call.await?.map(move |item| item.and_then(text_of)).boxed())
}
