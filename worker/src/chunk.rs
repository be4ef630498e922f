//! A chunk of items as a Run frame carries it.

use bytes::Bytes;
use procpool_ipc::proto::{self, ApplyArguments, CallStyle, Run};
use procpool_items::{ItemKind, ItemSlab, Records, SlabProblem};
use prost::Message;

use crate::arguments::{Encoding, Input, Style};
use crate::error::WorkerError;

/// The items of a Run frame and how the function is called with them.
pub(crate) struct Chunk {
    /// The encoded list of items; for a call in the style Apply, that of its arguments.
    pub(crate) items: Bytes,
    pub(crate) has_kwargs: bool,
    encoding: Encoding,
    style: Style,
}

impl Chunk {
    /// Reads what the frame says about its items, and none of these.
    pub(crate) fn new(run: &Run) -> Result<Self, WorkerError> {
        let encoding = match (kind_of(run)?, run.content_type.as_str()) {
            (ItemKind::Values, _) => Encoding::Values,
            (ItemKind::Blobs, "application/json") => Encoding::Json,
            (ItemKind::Blobs, _) => Encoding::Bytes,
        };
        let style = match run.style() {
            CallStyle::Map => Style::Map,
            CallStyle::Star => Style::Star,
            CallStyle::Apply => Style::Apply,
            CallStyle::Unspecified => return Err(protocol_error(run, "has no call style")),
        };
        if style != Style::Apply {
            return Ok(Self { items: run.items.clone(), has_kwargs: false, encoding, style });
        }
        // Its one item is no value: it is in a list like any item, but whatever the kind, its content is a message.
        let list = ItemSlab::parse(ItemKind::Blobs, run.items.clone()).ok().filter(|list| list.len() == 1);
        let item = list.ok_or_else(|| protocol_error(run, "does not have exactly one item"))?.item(0);
        let arguments = ApplyArguments::decode(item)
            .map_err(|error| protocol_error(run, &format!("has malformed arguments: {error}")))?;
        Ok(Self { items: arguments.args, has_kwargs: !arguments.kwargs.is_empty(), encoding, style })
    }

    /// Returns the items one after the other.
    pub(crate) fn contents(&self) -> Contents<'_> {
        match self.style {
            Style::Apply => Contents { arguments: Some(&self.items), records: Records::new(&[]) },
            Style::Map | Style::Star => Contents { arguments: None, records: Records::new(&self.items) },
        }
    }

    /// Returns what the function is called with for an item.
    pub(crate) fn input<'a>(&self, content: &'a [u8], max_result_bytes: usize) -> Input<'a> {
        Input { encoding: self.encoding, style: self.style, content, max_result_bytes }
    }
}

/// The items of a chunk.
pub(crate) struct Contents<'a> {
    /// The one item of a call in the style Apply.
    arguments: Option<&'a [u8]>,
    records: Records<'a>,
}

impl<'a> Iterator for Contents<'a> {
    type Item = Result<&'a [u8], SlabProblem>;

    fn next(&mut self) -> Option<Self::Item> {
        self.arguments.take().map(Ok).or_else(|| self.records.next())
    }
}

/// Returns what the items of a Run frame are.
pub(crate) fn kind_of(run: &Run) -> Result<ItemKind, WorkerError> {
    match run.kind() {
        proto::ItemKind::Values => Ok(ItemKind::Values),
        proto::ItemKind::Blobs => Ok(ItemKind::Blobs),
        proto::ItemKind::Unspecified => Err(protocol_error(run, "has no item kind")),
    }
}

/// Returns the error for a chunk that the server must not send.
pub(crate) fn protocol_error(run: &Run, problem: &str) -> WorkerError {
    WorkerError::Protocol(format!("chunk {} {problem}", run.chunk))
}
