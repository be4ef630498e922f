//! Lists of items and of results as they are on the wire.

use bytes::Bytes;
use procpool_items::{Encoded, ItemKind, ItemSlab};
use procpool_proto::v1 as proto;

use crate::error::{CallError, ItemError};
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
