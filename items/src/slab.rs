//! Finds items in an encoded list, and concatenates them.
//!
//! `google.protobuf.ListValue` and `procpool.v1.BlobList` have the same shape on the wire: field 1, length-delimited,
//! repeated. protobuf lets encodings of a repeated field be concatenated, so any run of records is a list again.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use crate::wire::{LIST_TAG, MAX_VARINT_BYTES, RECORD_TAG, put_varint, read_varint};

/// The kind of the records of a slab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ItemKind {
    /// Encoded `google.protobuf.Value`s.
    Values,
    /// Opaque bytes.
    Blobs,
}

impl ItemKind {
    /// Returns the record that represents a failed item: null, or an empty blob.
    pub fn placeholder(self) -> &'static [u8] {
        match self {
            Self::Values => &[RECORD_TAG, 2, 0x08, 0x00],
            Self::Blobs => &[RECORD_TAG, 0],
        }
    }
}

/// Why bytes are not a list of items, and which item is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("item {index}: {problem}")]
pub struct SlabError {
    /// The index of the item in the list.
    pub index: usize,
    /// The problem.
    pub problem: SlabProblem,
}

/// The problem with an item of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SlabProblem {
    /// The bytes are not a protobuf list.
    #[error("the list is malformed")]
    Malformed,
    /// A `Value` with none of its fields set; printing tools refuse the whole message that has one.
    #[error("an empty Value; send null_value for null")]
    EmptyValue,
    /// The list is longer than 4 GiB or has more than 2^32 - 1 items.
    #[error("the list is too long")]
    TooLong,
}

/// An encoded list of items and the position of each. Cheap to slice; the items are never decoded.
#[derive(Debug, Clone)]
pub struct ItemSlab {
    kind: ItemKind,
    bytes: Bytes,
    /// The start of each record, and the end of the last.
    starts: Vec<u32>,
}

impl ItemSlab {
    /// Finds the items in an encoded `ListValue` or `BlobList`.
    ///
    /// # Errors
    ///
    /// If the bytes are not such a list, or a value is empty.
    pub fn parse(kind: ItemKind, bytes: Bytes) -> Result<Self, SlabError> {
        let total = u32::try_from(bytes.len()).map_err(|_| SlabError { index: 0, problem: SlabProblem::TooLong })?;
        let mut starts = Vec::new();
        let mut records = Records::new(&bytes);
        loop {
            // No record starts beyond the end, and the end fits.
            let start = u32::try_from(bytes.len() - records.rest.len()).unwrap_or(total);
            let Some(record) = records.next() else { break };
            check(kind, record).map_err(|problem| SlabError { index: starts.len(), problem })?;
            starts.push(start);
        }
        starts.push(total);
        // It may be kept for a long time.
        starts.shrink_to_fit();
        Ok(Self { kind, bytes, starts })
    }

    /// Returns a slab without items.
    pub fn empty(kind: ItemKind) -> Self {
        Self { kind, bytes: Bytes::new(), starts: vec![0] }
    }

    /// Returns the slab of an encoded list of one item, without checking it.
    ///
    /// # Panics
    ///
    /// If the list is longer than 4 GiB.
    pub fn one(kind: ItemKind, bytes: Bytes) -> Self {
        let end = u32::try_from(bytes.len()).expect("a single item is shorter than 4 GiB");
        Self { kind, bytes, starts: vec![0, end] }
    }

    /// Returns the kind of the items.
    pub fn kind(&self) -> ItemKind {
        self.kind
    }

    /// Returns the number of items.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Returns whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the whole encoded list.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Returns the memory that it takes, in bytes: the list and the positions.
    pub fn held_bytes(&self) -> usize {
        self.bytes.len() + self.starts.len() * size_of::<u32>()
    }

    /// Returns the encoded list of some of the items, without copying.
    ///
    /// # Panics
    ///
    /// If the range is not within `0..len()`.
    pub fn range(&self, items: Range<usize>) -> Bytes {
        self.bytes.slice(self.starts[items.start] as usize..self.starts[items.end] as usize)
    }

    /// Returns the content of one item: the encoded `Value`, or the blob.
    ///
    /// # Panics
    ///
    /// If there is no such item.
    pub fn item(&self, index: usize) -> Bytes {
        let record = self.range(index..index + 1);
        let header = record.len() - content_of(&record).len();
        record.slice(header..)
    }

    /// Returns the content of one item like [`ItemSlab::item`], to be kept after the list is dropped: a copy, unless
    /// the item is at least half of the list.
    ///
    /// # Panics
    ///
    /// If there is no such item.
    pub fn item_to_keep(&self, index: usize) -> Bytes {
        let item = self.item(index);
        if item.len() < self.bytes.len() / 2 { Bytes::copy_from_slice(&item) } else { item }
    }

    /// Finds the first item that is not a list, by its first byte; `None` if all are.
    pub fn first_non_list(&self) -> Option<usize> {
        (0..self.len()).find(|&index| {
            let record = &self.bytes[self.starts[index] as usize..self.starts[index + 1] as usize];
            content_of(record).first() != Some(&LIST_TAG)
        })
    }

    /// Counts the items of an encoded list without storing positions.
    ///
    /// # Errors
    ///
    /// As [`ItemSlab::parse`].
    pub fn count(kind: ItemKind, bytes: &[u8]) -> Result<usize, SlabError> {
        let mut count = 0;
        for record in Records::new(bytes) {
            check(kind, record).map_err(|problem| SlabError { index: count, problem })?;
            count += 1;
        }
        Ok(count)
    }
}

/// Builds an encoded list of items.
#[derive(Debug, Default)]
pub struct SlabBuilder {
    bytes: BytesMut,
    count: usize,
}

impl SlabBuilder {
    /// Returns a builder without items.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends one item with this content: an encoded `Value`, or a blob.
    pub fn push(&mut self, content: &[u8]) {
        self.bytes.reserve(content.len() + MAX_VARINT_BYTES + 1);
        self.bytes.put_u8(RECORD_TAG);
        put_varint(&mut self.bytes, content.len() as u64);
        self.bytes.put_slice(content);
        self.count += 1;
    }

    /// Appends the record that represents a failed item.
    pub fn push_placeholder(&mut self, kind: ItemKind) {
        self.bytes.put_slice(kind.placeholder());
        self.count += 1;
    }

    /// Returns the number of items so far.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Returns whether there are no items yet.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns the encoded list and starts a new one.
    pub fn take(&mut self) -> Bytes {
        self.count = 0;
        self.bytes.split().freeze()
    }
}

/// Begins an item at the end of an encoded list: its content is written behind, and then [`end_record`] completes it.
/// Returns where the item starts.
pub fn begin_record(list: &mut Vec<u8>) -> usize {
    let start = list.len();
    // Most items need one byte for their length.
    list.extend_from_slice(&[RECORD_TAG, 0]);
    start
}

/// Completes the item that starts there and ends with the list.
///
/// # Panics
///
/// If no item was begun there.
pub fn end_record(list: &mut Vec<u8>, start: usize) {
    let length = list.len().checked_sub(start + 2).expect("begin_record has appended two bytes");
    match u8::try_from(length) {
        Ok(byte) if byte < 0x80 => list[start + 1] = byte,
        _ => {
            let mut header = Vec::with_capacity(MAX_VARINT_BYTES);
            put_varint(&mut header, length as u64);
            list.splice(start + 1..start + 2, header);
        }
    }
}

/// Appends an item with this content to an encoded list.
pub fn push_record(list: &mut Vec<u8>, content: &[u8]) {
    list.reserve(content.len() + MAX_VARINT_BYTES + 1);
    list.push(RECORD_TAG);
    put_varint(list, content.len() as u64);
    list.extend_from_slice(content);
}

/// An iterator over the contents of the records of an encoded list: encoded `Value`s, or blobs. Ends after the first
/// malformed record.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    /// Returns the records of an encoded `ListValue` or `BlobList`.
    pub fn new(list: &'a [u8]) -> Self {
        Self { rest: list }
    }

    /// Returns how many bytes of the list follow the records so far.
    pub fn num_bytes_left(&self) -> usize {
        self.rest.len()
    }

    fn parse_record(&mut self) -> Option<&'a [u8]> {
        let (&tag, after_tag) = self.rest.split_first()?;
        if tag != RECORD_TAG {
            return None;
        }
        let (length, header) = read_varint(after_tag)?;
        let (content, rest) = after_tag[header..].split_at_checked(usize::try_from(length).ok()?)?;
        self.rest = rest;
        Some(content)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<&'a [u8], SlabProblem>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let record = self.parse_record().ok_or(SlabProblem::Malformed);
        if record.is_err() {
            self.rest = &[];
        }
        Some(record)
    }
}

fn check(kind: ItemKind, record: Result<&[u8], SlabProblem>) -> Result<(), SlabProblem> {
    if record?.is_empty() && kind == ItemKind::Values { Err(SlabProblem::EmptyValue) } else { Ok(()) }
}

/// Returns the content of a record that is known to be well-formed.
fn content_of(record: &[u8]) -> &[u8] {
    let (_, header) = read_varint(&record[1..]).expect("the slab was checked when it was parsed");
    &record[1 + header..]
}
