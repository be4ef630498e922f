//! Calls whose items are encoded already and whose results are not decoded: for bindings to other languages, which have
//! codecs of their own and want no object of this crate an item.

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use procpool_items::{Encoded, ItemKind, ItemSlab};
use procpool_proto::v1 as proto;

use crate::call::{Call, CollectMap, IMap, ItemSource, Map};
use crate::client::Client;
use crate::error::{CallError, ItemError};
use crate::item_sender::ItemInput;
use crate::payload::{self, Format, Payload};
use crate::status::item_error;

/// An encoded list of items: a `ListValue` or a `BlobList`.
#[derive(Debug, Clone)]
pub struct EncodedList {
    /// What the items are.
    pub kind: ItemKind,
    /// The list.
    pub bytes: Bytes,
    /// The number of items.
    pub count: usize,
}

/// Results as they came.
#[derive(Debug, Clone)]
pub struct EncodedBatch {
    /// The index of the first result; the others follow it, unless there are `indexes`.
    pub first_index: u64,
    /// The index of each result of an unordered stream; empty for an ordered one.
    pub indexes: Vec<u64>,
    /// The results. A failed item is null, or an empty blob.
    pub results: EncodedList,
    /// The items of the batch that failed, by rising index.
    pub errors: Vec<ItemError>,
    /// The number of items of the call that the server accepts so far; 0 if it got them all at once.
    pub items_allowed: u64,
}

impl EncodedBatch {
    pub(crate) fn new(message: proto::IMapStreamResponse) -> Result<Self, CallError> {
        let proto::IMapStreamResponse { first_index, indexes, results, errors, items_allowed, .. } = message;
        let none = Encoded { kind: ItemKind::Blobs, bytes: Bytes::new() };
        let list = results.map_or(none, Encoded::from);
        let protocol = |message| CallError::Protocol { message };
        let count = ItemSlab::count(list.kind, &list.bytes);
        let count = count.map_err(|error| protocol(format!("malformed results: {error}")))?;
        if !indexes.is_empty() && indexes.len() != count {
            return Err(protocol(format!("{} indexes came with {count} results", indexes.len())));
        }
        let results = EncodedList { kind: list.kind, bytes: list.bytes, count };
        let errors = errors.into_iter().map(item_error).collect();
        Ok(Self { first_index, indexes, results, errors, items_allowed })
    }
}

impl Client {
    /// Like [`Client::map`] with encoded items; [`Call::encoded`] returns the results as they are.
    pub fn map_encoded(&self, function: impl Into<String>, items: EncodedList) -> Call<Map<Bytes>> {
        let (format, items) = payload(items);
        self.call(function, format, Map::new(Ok(items), payload::raw))
    }

    /// Like [`Client::imap`] with encoded items; [`ResultStream::next_batch`](crate::ResultStream::next_batch) returns the
    /// results as they are.
    pub fn imap_encoded(&self, function: impl Into<String>, items: EncodedList) -> Call<IMap<Bytes>> {
        let (format, items) = payload(items);
        self.call(function, format, IMap::new(ItemSource::List(Ok(items)), payload::raw))
    }

    /// Like [`Client::imap_stream`] with encoded lists, each of which is sent as one message. The caller sees to it that
    /// there are no more items than the server allows: a list beyond that waits as a whole.
    pub fn imap_stream_encoded(
        &self,
        function: impl Into<String>,
        kind: ItemKind,
        lists: impl Stream<Item = EncodedList> + Send + 'static,
    ) -> Call<IMap<Bytes>> {
        let items = ItemSource::Stream(ItemInput::Lists(lists.boxed()));
        self.call(function, Format::of_encoded(kind), IMap::new(items, payload::raw))
    }
}

impl Call<Map<Bytes>> {
    /// Takes each item as the arguments of one call, as [`Client::starmap`] does.
    pub fn star(mut self) -> Self {
        self.verb.star = true;
        self
    }
}

impl Call<CollectMap<Bytes>> {
    /// Makes the call, and returns the results as they are.
    ///
    /// # Errors
    ///
    /// As awaiting the call; nothing is decoded.
    pub async fn encoded(self) -> Result<EncodedBatch, CallError> {
        let Self { mut parts, verb: CollectMap(verb) } = self;
        let Payload { list, count } = verb.items?;
        let common = parts.take_common()?;
        let results = parts.map(verb.star, list, common).await?;
        let message = proto::IMapStreamResponse {
            results: results.list.map(Into::into),
            errors: results.errors,
            ..Default::default()
        };
        let batch = EncodedBatch::new(message)?;
        if batch.results.count != count {
            let message = format!("{} results came for {count} items", batch.results.count);
            return Err(CallError::Protocol { message });
        }
        Ok(batch)
    }
}

impl Call<Map<Bytes>> {
    /// As [`Call::encoded`] of a call that collects errors: here the first one is the call's.
    ///
    /// # Errors
    ///
    /// As awaiting the call; nothing is decoded.
    pub async fn encoded(self) -> Result<EncodedBatch, CallError> {
        self.fail_fast().encoded().await
    }
}

fn payload(items: EncodedList) -> (Format, Payload) {
    let EncodedList { kind, bytes, count } = items;
    (Format::of_encoded(kind), Payload { list: Encoded { kind, bytes }, count })
}
