//! Calls whose items are encoded already and whose results are not decoded: for bindings to other languages, which have
//! codecs of their own and want no object of this crate an item.

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use procpool_items::{Encoded, ItemKind};
use procpool_proto::v1 as proto;

use crate::call::{Call, CollectMap, IMap, ItemSource, Map};
use crate::client::Client;
use crate::encoded::{EncodedBatch, EncodedList};
use crate::error::CallError;
use crate::item_sender::ItemInput;
use crate::payload::{self, Format, Payload};

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
