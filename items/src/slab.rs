//! Finding items in an encoded list, and laying them end to end.
//!
//! `google.protobuf.ListValue` and `procpool.v1.BlobList` have the same shape on the wire: field 1, length-delimited,
//! repeated. protobuf lets encodings of a repeated field be concatenated, so any run of records is a list again.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

/// The tag of field 1, length-delimited: what every record starts with.
const RECORD_TAG: u8 = 0x0a;
/// The tag of `Value.list_value`.
const LIST_VALUE_TAG: u8 = 0x32;
/// A varint of a 64-bit number has at most this many bytes.
const MAX_VARINT_BYTES: usize = 10;

/// What the records of a slab are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ItemKind {
    /// Encoded `google.protobuf.Value`s.
    Values,
    /// Opaque bytes.
    Blobs,
}

impl ItemKind {
    /// Returns the record that stands at the place of a failed item: null, or an empty blob.
    pub fn placeholder(self) -> &'static [u8] {
        match self {
            Self::Values => &[RECORD_TAG, 2, 0x08, 0x00],
            Self::Blobs => &[RECORD_TAG, 0],
        }
    }
}

/// Why bytes are not a list of items, and at which item.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("item {index}: {problem}")]
pub struct SlabError {
    /// The index of the item in the list.
    pub index: usize,
    /// What is wrong with it.
    pub problem: SlabProblem,
}

/// What is wrong with an item of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SlabProblem {
    /// The bytes are no protobuf list.
    #[error("the list is malformed here")]
    Malformed,
    /// A `Value` with none of its fields set; printing tools refuse the whole message that has one.
    #[error("an empty Value; send null_value for null")]
    EmptyValue,
    /// The list is longer than 4 GiB or has more than 2^32 - 1 items.
    #[error("the list is too long")]
    TooLong,
}

/// An encoded list of items and where each of them is. Cheap to slice; the items are never decoded.
#[derive(Debug, Clone)]
pub struct ItemSlab {
    kind: ItemKind,
    bytes: Bytes,
    /// Where each record starts, and the end of the last.
    starts: Vec<u32>,
}

impl ItemSlab {
    /// Finds the items in an encoded `ListValue` or `BlobList`.
    ///
    /// # Errors
    ///
    /// If the bytes are not such a list, or one of the values is empty.
    pub fn parse(kind: ItemKind, bytes: Bytes) -> Result<Self, SlabError> {
        let mut starts = Vec::with_capacity(bytes.len() / 11 + 1);
        let total = u32::try_from(bytes.len()).map_err(|_| SlabError { index: 0, problem: SlabProblem::TooLong })?;
        let mut records = Records { bytes: &bytes, position: 0 };
        while let Some(record) = records.next() {
            let malformed = SlabError { index: starts.len(), problem: SlabProblem::Malformed };
            let (start, content) = record.ok_or(malformed)?;
            if content.is_empty() && kind == ItemKind::Values {
                return Err(SlabError { index: starts.len(), problem: SlabProblem::EmptyValue });
            }
            // No record starts beyond the end, and the end fits.
            starts.push(u32::try_from(start).unwrap_or(total));
        }
        starts.push(total);
        Ok(Self { kind, bytes, starts })
    }

    /// Returns a slab without items.
    pub fn empty(kind: ItemKind) -> Self {
        Self { kind, bytes: Bytes::new(), starts: vec![0] }
    }

    /// Returns what the items are.
    pub fn kind(&self) -> ItemKind {
        self.kind
    }

    /// Returns the number of items.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Tells whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the whole encoded list.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
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

    /// Finds the first item that is not a list, by its first byte; `None` if all are.
    pub fn first_non_list(&self) -> Option<usize> {
        (0..self.len()).find(|&index| {
            let record = &self.bytes[self.starts[index] as usize..self.starts[index + 1] as usize];
            content_of(record).first() != Some(&LIST_VALUE_TAG)
        })
    }

    /// Counts the items of an encoded list without keeping where they are.
    ///
    /// # Errors
    ///
    /// As [`ItemSlab::parse`].
    pub fn count(kind: ItemKind, bytes: &[u8]) -> Result<usize, SlabError> {
        let mut count = 0;
        let mut records = Records { bytes, position: 0 };
        while let Some(record) = records.next() {
            let (_, content) = record.ok_or(SlabError { index: count, problem: SlabProblem::Malformed })?;
            if content.is_empty() && kind == ItemKind::Values {
                return Err(SlabError { index: count, problem: SlabProblem::EmptyValue });
            }
            count += 1;
        }
        Ok(count)
    }
}

/// Lays items end to end as an encoded list.
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

    /// Appends the record that stands at the place of a failed item.
    pub fn push_placeholder(&mut self, kind: ItemKind) {
        self.bytes.put_slice(kind.placeholder());
        self.count += 1;
    }

    /// Returns the number of items so far.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Tells whether there is no item yet.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns the length of the encoded list so far, in bytes.
    pub fn num_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the encoded list and starts a new one.
    pub fn take(&mut self) -> Bytes {
        self.count = 0;
        self.bytes.split().freeze()
    }
}

/// Walks the records of an encoded list.
struct Records<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Records<'a> {
    /// Returns where the next record starts and its content; `Some(None)` if it is malformed, `None` at the end.
    #[expect(clippy::option_option, reason = "the end and an error are two things, and the caller adds the index")]
    fn next(&mut self) -> Option<Option<(usize, &'a [u8])>> {
        let rest = &self.bytes[self.position..];
        if rest.is_empty() {
            return None;
        }
        Some(self.parse_record(rest))
    }

    fn parse_record(&mut self, rest: &'a [u8]) -> Option<(usize, &'a [u8])> {
        if rest[0] != RECORD_TAG {
            return None;
        }
        let (length, header) = read_varint(&rest[1..])?;
        let content_start = 1 + header;
        let content_end = content_start.checked_add(usize::try_from(length).ok()?)?;
        let content = rest.get(content_start..content_end)?;
        let start = self.position;
        self.position += content_end;
        Some((start, content))
    }
}

/// Returns the content of a record that is known to be well-formed.
fn content_of(record: &[u8]) -> &[u8] {
    let (_, header) = read_varint(&record[1..]).expect("the slab was checked when it was parsed");
    &record[1 + header..]
}

/// Reads a varint; returns it and the number of its bytes.
fn read_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    // Nearly every item is shorter than 128 bytes.
    let first = *bytes.first()?;
    if first < 0x80 {
        return Some((u64::from(first), 1));
    }
    let mut value = 0_u64;
    for (position, &byte) in bytes.iter().take(MAX_VARINT_BYTES).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(7 * u32::try_from(position).ok()?)?;
        if byte < 0x80 {
            return Some((value, position + 1));
        }
    }
    None
}

fn put_varint(bytes: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        bytes.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.put_u8(value as u8);
}
