//! The outcomes of consecutive items, on their way from the driver to the caller, and what they take.

use bytes::Bytes;
use procpool_items::ItemKind;
use procpool_scheduler::ResultSize;

use crate::admission::ALLOCATION_BYTES;
use crate::error::{ItemError, ItemFailure};
use crate::supervisor::ChunkResults;

/// What outcomes of consecutive items take here beside their bytes: a node of the map is half full at worst.
pub(crate) const RUN_BYTES: u64 = (2 * size_of::<(u64, OutcomeRun)>() + ALLOCATION_BYTES) as u64;
/// What the error of an item takes here beside its texts: a vector that grows is half full at worst.
const ERROR_BYTES: usize = 2 * size_of::<ItemError>() + 2 * ALLOCATION_BYTES;
/// What the error of an item takes in an answer beside its texts.
pub(crate) const ERROR_BYTES_IN_ANSWER: usize = 100;
/// Outcomes that follow each other are put together until they have so many bytes: or else a small result would take more
/// to keep account of than it has itself.
const MAX_JOINED_BYTES: usize = 4 << 10;

/// Outcomes of consecutive items, with a placeholder where one failed.
#[derive(Debug)]
pub(crate) struct OutcomeRun {
    pub(crate) first_index: u64,
    pub(crate) count: u64,
    pub(crate) items: Bytes,
    /// By rising index.
    pub(crate) errors: Vec<ItemError>,
}

impl ChunkResults {
    /// Returns what they take, without the evidence of failures: an answer may have no room for that.
    pub(crate) fn size(&self) -> ResultSize {
        size_with(&self.items, self.failures.iter().map(|(_, failure)| failure.text_bytes()))
    }
}

/// Returns what consecutive results take, with failures whose texts have so many bytes.
fn size_with(items: &Bytes, failures: impl Iterator<Item = usize>) -> ResultSize {
    let (mut held, mut answer) = (items.len() as u64 + RUN_BYTES, items.len() as u64);
    for text in failures {
        held += (ERROR_BYTES + text) as u64;
        answer += (ERROR_BYTES_IN_ANSWER + text) as u64;
    }
    ResultSize { held: held.cast_signed(), answer: answer.cast_signed() }
}

impl OutcomeRun {
    /// Returns the outcome of one item that failed, of this kind.
    pub(crate) fn of_failure(index: u64, failure: ItemFailure, kind: ItemKind) -> Self {
        let items = Bytes::from_static(kind.placeholder());
        Self { first_index: index, count: 1, items, errors: vec![ItemError { index, failure }] }
    }

    /// Returns what they take, all in all.
    pub(crate) fn size(&self) -> ResultSize {
        size_with(&self.items, self.errors.iter().map(|error| error.failure.num_bytes()))
    }

    /// Returns whether these outcomes follow, and both together are few.
    pub(crate) fn may_be_joined_with(&self, next: &Self) -> bool {
        self.first_index + self.count == next.first_index && self.items.len() + next.items.len() <= MAX_JOINED_BYTES
    }

    pub(crate) fn join(&mut self, next: Self) {
        self.count += next.count;
        self.items = [&self.items[..], &next.items].concat().into();
        self.errors.extend(next.errors);
    }
}
