//! A chunk of items as a Run frame carries it.

use bytes::Bytes;
use procpool_ipc::proto::{self, ApplyArguments, CallStyle, Run};
use procpool_items::{ItemKind, ItemSlab, Records, SlabProblem};
use prost::Message;

use crate::common::RawCommon;
use crate::encoding::Encoding;
use crate::error::WorkerError;
use crate::input::{Input, Style};

/// The items of a Run frame, and how the function is called with them.
pub(crate) struct Chunk {
    /// The encoded list of items; in the style Apply, of the arguments.
    pub(crate) items: Bytes,
    /// The keyword arguments, as an encoded `Struct`.
    pub(crate) kwargs: Bytes,
    encoding: Encoding,
    style: Style,
}

impl Chunk {
    /// Reads the description of the items, but not the items.
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
            return Ok(Self { items: run.items.clone(), kwargs: Bytes::new(), encoding, style });
        }
        // The content of the one item is an ApplyArguments message, whatever the kind.
        let list = ItemSlab::parse(ItemKind::Blobs, run.items.clone()).ok().filter(|list| list.len() == 1);
        let item = list.ok_or_else(|| protocol_error(run, "does not have exactly one item"))?.item(0);
        let arguments = ApplyArguments::decode(item)
            .map_err(|error| protocol_error(run, &format!("has malformed arguments: {error}")))?;
        Ok(Self { items: arguments.args, kwargs: arguments.kwargs, encoding, style })
    }

    /// Returns the items one after the other.
    pub(crate) fn contents(&self) -> Contents<'_> {
        match self.style {
            Style::Apply => Contents { arguments: Some(&self.items), records: Records::new(&[]) },
            Style::Map | Style::Star => Contents { arguments: None, records: Records::new(&self.items) },
        }
    }

    /// Returns the input of the function for an item.
    pub(crate) fn input<'a>(
        &'a self,
        content: &'a [u8],
        common: Option<&'a RawCommon>,
        max_result_bytes: usize,
    ) -> Input<'a> {
        Input {
            encoding: self.encoding,
            style: self.style,
            content,
            kwargs: &self.kwargs,
            common,
            chunk_bytes: self.items.len(),
            max_result_bytes,
        }
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

/// Returns the kind of the items of a Run frame.
pub(crate) fn kind_of(run: &Run) -> Result<ItemKind, WorkerError> {
    match run.kind() {
        proto::ItemKind::Values => Ok(ItemKind::Values),
        proto::ItemKind::Blobs => Ok(ItemKind::Blobs),
        proto::ItemKind::Unspecified => Err(protocol_error(run, "has no item kind")),
    }
}

/// Returns the error for a chunk that violates the protocol.
pub(crate) fn protocol_error(run: &Run, problem: &str) -> WorkerError {
    WorkerError::Protocol(format!("chunk {} {problem}", run.chunk))
}
