//! What a caller asks of the pool, and what it gets. Plain data.

use std::num::NonZeroU32;

use bytes::Bytes;
pub use procpool_items::ItemKind;
use procpool_items::{ItemSlab, SlabBuilder};
use procpool_proto::worker::v1::ApplyArguments;
pub use procpool_scheduler::{CallOptions, OnError};
use prost::Message as _;
use tokio::time::Instant;

use crate::error::ItemError;
use crate::job_number::JobNumber;
use crate::results::ResultBytes;

/// What to run, and how.
#[derive(Debug, Clone)]
pub struct Call {
    /// The name of the function.
    pub function: String,
    /// The media type of blobs; empty for values.
    pub content_type: String,
    /// How the function is called with an item.
    pub style: CallStyle,
    /// The argument that goes before each item. `None`: there is none. Not for [`CallStyle::Apply`].
    pub common: Option<CommonArgument>,
    /// How the caller wants it run.
    pub options: CallOptions,
    /// How many bytes of results one answer can hold: a Map or Apply whose results exceed it fails at once. Only a failure
    /// that comes last may exceed it. `None`: any.
    pub max_answer_bytes: Option<u64>,
    /// When the caller stops waiting. `None`: never.
    pub deadline: Option<Instant>,
    /// The caller's trace, handed to the worker.
    pub trace: TraceContext,
    /// What people know it by.
    pub label: CallLabel,
    /// Set when the call becomes a job.
    pub job: JobNumber,
}

impl Call {
    /// Returns a call of this function, item by item, with everything else at its default.
    pub fn new(function: impl Into<String>) -> Self {
        Self {
            function: function.into(),
            content_type: String::new(),
            style: CallStyle::Map,
            common: None,
            options: CallOptions::default(),
            max_answer_bytes: None,
            deadline: None,
            trace: TraceContext::default(),
            label: CallLabel::default(),
            job: JobNumber::default(),
        }
    }
}

/// What people know a call by, in the list of jobs and in the log.
#[derive(Debug, Clone, Default)]
pub struct CallLabel {
    /// The method that was called, such as `Map`; may be empty.
    pub method: &'static str,
    /// The caller's name for the call; may be empty.
    pub request_id: String,
}

/// An argument that all items of a job share, as it came: sent to each worker once.
#[derive(Debug, Clone)]
pub struct CommonArgument {
    /// How it is encoded; need not be what the items are.
    pub kind: ItemKind,
    /// The media type of a blob; empty for a value.
    pub content_type: String,
    /// One encoded `google.protobuf.Value`, which must not be empty, or a blob.
    pub bytes: Bytes,
}

/// How a function is called with an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallStyle {
    /// `f(item)`
    Map,
    /// `f(*item)`
    Star,
    /// `f(*args, **kwargs)`: the one item is an encoded `ApplyArguments`.
    Apply,
}

/// The order of a stream's results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ResultOrder {
    /// In the order of the items.
    #[default]
    Ordered,
    /// As they finish.
    Unordered,
}

/// How a stream delivers.
#[derive(Debug, Clone, Copy, Default)]
pub struct StreamOptions {
    /// The order of the results.
    pub order: ResultOrder,
    /// How many items the pool may run ahead of the reader. `None`: enough to keep every slot busy, at most 1024.
    pub window: Option<NonZeroU32>,
}

/// A W3C trace context, as the caller sent it.
#[derive(Debug, Clone, Default)]
pub struct TraceContext {
    /// Empty if there is none.
    pub traceparent: String,
    /// Empty if there is none.
    pub tracestate: String,
}

/// The arguments of a call that runs a function once.
#[derive(Debug, Clone)]
pub struct Apply {
    /// The positional arguments.
    pub args: ItemSlab,
    /// The keyword arguments: an encoded `google.protobuf.Struct`; may be empty.
    pub kwargs: Bytes,
}

impl Apply {
    /// Returns the one item that a worker gets: an encoded `ApplyArguments`, in a list.
    pub(crate) fn into_item(self) -> ItemSlab {
        let kind = self.args.kind();
        let arguments = ApplyArguments { args: self.args.bytes().clone(), kwargs: self.kwargs };
        let mut list = SlabBuilder::new();
        list.push(&arguments.encode_to_vec());
        // Without any arguments the item has no bytes, which is no Value; but it is none anyway.
        ItemSlab::one(kind, list.take())
    }
}

/// What a function returned that was run once.
#[derive(Debug)]
pub struct ApplyOutput {
    /// The encoded `Value`, or the blob.
    pub result: Bytes,
    /// What it takes.
    pub held: ResultBytes,
}

/// The results of a Map, in the order of the items.
#[derive(Debug, Default)]
pub struct MapOutput {
    /// Encoded lists that make the whole when laid end to end; a placeholder stands where an item failed.
    pub parts: Vec<Bytes>,
    /// The items that failed, by rising index; only with [`OnError::Collect`].
    pub errors: Vec<ItemError>,
    /// What all of this takes.
    pub held: ResultBytes,
}

/// Results of a stream that are ready now. Never empty.
#[derive(Debug, Default)]
pub struct ResultRun {
    /// The index of the first result; the others follow it, if `indexes` is empty.
    pub first_index: u64,
    /// The index of each result of an unordered stream; empty for an ordered one.
    pub indexes: Vec<u64>,
    /// The number of results.
    pub count: u64,
    /// Encoded lists that make the whole when laid end to end; a placeholder stands where an item failed.
    pub parts: Vec<Bytes>,
    /// Which of these items failed, by rising index.
    pub errors: Vec<ItemError>,
    /// What all of this takes.
    pub held: ResultBytes,
}
