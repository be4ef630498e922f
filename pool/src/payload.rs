//! What the scheduler never sees: the items of a job, and its results until they are delivered.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use procpool_items::ItemKind;
use procpool_scheduler::{Delivery, ResultSize};

use crate::admission::{AdmittedItems, CommonPermit};
use crate::call::{CallStyle, CommonArgument, MapOutput, TraceContext};
use crate::error::ItemError;
use crate::outcome::{OutcomeRun, RUN_BYTES};
use crate::results::ResultBytes;

/// How many bytes of tracebacks, data and the like an answer to a whole job has room for.
const MAX_EVIDENCE_BYTES: usize = 1 << 20;

/// What every chunk of a job has in common.
#[derive(Debug, Clone)]
pub(crate) struct JobHeader {
    pub(crate) function: Arc<str>,
    pub(crate) content_type: Arc<str>,
    pub(crate) style: CallStyle,
    pub(crate) trace: Arc<TraceContext>,
}

/// Items that came together. They go, and give back their permits, when the last of them has its outcome.
#[derive(Debug)]
struct Segment {
    first_index: u64,
    unfinished: u64,
    items: AdmittedItems,
}

/// The items and the results of one job.
#[derive(Debug)]
pub(crate) struct JobPayload {
    pub(crate) header: JobHeader,
    common: Option<(CommonArgument, CommonPermit)>,
    /// Known from the first items on.
    kind: Option<ItemKind>,
    segments: VecDeque<Segment>,
    num_items: u64,
    outcomes: BTreeMap<u64, OutcomeRun>,
    /// How many items have failed.
    pub(crate) num_failed: u64,
    /// How many bytes of tracebacks and the like are still kept.
    evidence_left: usize,
}

impl JobPayload {
    /// Returns the payload of a job without items.
    pub(crate) fn new(header: JobHeader, common: Option<(CommonArgument, CommonPermit)>, delivery: Delivery) -> Self {
        // A stream has an answer after the other.
        let evidence_left = if delivery == Delivery::Whole { MAX_EVIDENCE_BYTES } else { usize::MAX };
        Self {
            header,
            common,
            kind: None,
            segments: VecDeque::new(),
            num_items: 0,
            outcomes: BTreeMap::new(),
            num_failed: 0,
            evidence_left,
        }
    }

    /// Returns the argument that goes before each item.
    pub(crate) fn common(&self) -> Option<&CommonArgument> {
        self.common.as_ref().map(|(argument, _)| argument)
    }

    /// Returns what the items are.
    ///
    /// # Panics
    ///
    /// If there have been none.
    pub(crate) fn kind(&self) -> ItemKind {
        self.kind.expect("the job has had items")
    }

    /// Adds items behind those that are there. All must be of one kind, and none may be empty.
    pub(crate) fn add(&mut self, items: AdmittedItems) {
        let kind = *self.kind.get_or_insert_with(|| items.slab.kind());
        debug_assert_eq!(kind, items.slab.kind(), "the handle checked the kind");
        let (first_index, unfinished) = (self.num_items, items.slab.len() as u64);
        self.num_items += unfinished;
        self.segments.push_back(Segment { first_index, unfinished, items });
    }

    /// Returns the encoded lists that make these items when laid end to end.
    pub(crate) fn items(&self, first_index: u64, count: u32) -> Vec<Bytes> {
        let end = first_index + u64::from(count);
        let start = self.segment_of(first_index);
        let mut parts = Vec::with_capacity(1);
        for segment in self.segments.range(start..).take_while(|segment| segment.first_index < end) {
            let from = first_index.max(segment.first_index) - segment.first_index;
            let to = (end - segment.first_index).min(segment.items.slab.len() as u64);
            parts.push(segment.items.slab.range(to_usize(from)..to_usize(to)));
        }
        parts
    }

    /// Keeps outcomes until they are delivered. Returns how much more the job takes with them.
    pub(crate) fn store(&mut self, mut run: OutcomeRun) -> ResultSize {
        self.release(run.first_index, run.count);
        self.num_failed += run.errors.len() as u64;
        for error in &mut run.errors {
            error.failure.limit_evidence(&mut self.evidence_left);
        }
        let mut size = run.size();
        // A run with those before and after it, if they are small.
        let before = self.outcomes.range(..run.first_index).next_back();
        if let Some((&first, _)) = before.filter(|(_, before)| before.may_be_joined_with(&run))
            && let Some(mut before) = self.outcomes.remove(&first)
        {
            before.join(run);
            run = before;
            size.held -= RUN_BYTES.cast_signed();
        }
        let after = self.outcomes.range(run.first_index..).next();
        if let Some((&first, _)) = after.filter(|(_, after)| run.may_be_joined_with(after))
            && let Some(after) = self.outcomes.remove(&first)
        {
            run.join(after);
            size.held -= RUN_BYTES.cast_signed();
        }
        self.outcomes.insert(run.first_index, run);
        size
    }

    /// Returns how much memory the outcomes take that have not been taken.
    pub(crate) fn held_bytes(&self) -> u64 {
        held_bytes(self.outcomes.values())
    }

    /// Takes the outcomes of these items, in order. Returns how much memory they take, too.
    pub(crate) fn take(&mut self, first_index: u64, count: u64) -> (Vec<OutcomeRun>, u64) {
        let end = first_index + count;
        let mut taken = Vec::with_capacity(1);
        while let Some((&first, _)) = self.outcomes.range(first_index..end).next() {
            taken.extend(self.outcomes.remove(&first));
        }
        debug_assert_eq!(taken.iter().map(|run| run.count).sum::<u64>(), count, "every outcome is there");
        let bytes = held_bytes(taken.iter());
        (taken, bytes)
    }

    /// Returns why an item failed, if it did and its outcome has not been taken.
    pub(crate) fn failure_of(&self, index: u64) -> Option<&ItemError> {
        let (_, run) = self.outcomes.range(..=index).next_back()?;
        run.errors.iter().find(|error| error.index == index)
    }

    /// Returns how many items have no outcome.
    pub(crate) fn num_unfinished(&self) -> u64 {
        self.segments.iter().map(|segment| segment.unfinished).sum()
    }

    /// Returns all outcomes as the answer of a Map, with the claim on what they take.
    pub(crate) fn into_output(self, held: ResultBytes) -> MapOutput {
        let mut output = MapOutput { held, ..MapOutput::default() };
        for run in self.outcomes.into_values() {
            output.parts.push(run.items);
            output.errors.extend(run.errors);
        }
        output
    }

    /// These items have their outcome: what nobody needs any more goes.
    fn release(&mut self, first_index: u64, count: u64) {
        let end = first_index + count;
        let start = self.segment_of(first_index);
        for segment in self.segments.range_mut(start..).take_while(|segment| segment.first_index < end) {
            let segment_end = segment.first_index + segment.items.slab.len() as u64;
            segment.unfinished -= end.min(segment_end) - first_index.max(segment.first_index);
        }
        while self.segments.front().is_some_and(|segment| segment.unfinished == 0) {
            self.segments.pop_front();
        }
    }

    fn segment_of(&self, index: u64) -> usize {
        self.segments.partition_point(|segment| segment.first_index <= index).saturating_sub(1)
    }
}

fn held_bytes<'a>(runs: impl Iterator<Item = &'a OutcomeRun>) -> u64 {
    runs.map(|run| run.size().held.cast_unsigned()).sum()
}

fn to_usize(index: u64) -> usize {
    usize::try_from(index).expect("an index within a slab fits")
}

#[cfg(test)]
#[path = "payload_tests.rs"]
mod tests;
