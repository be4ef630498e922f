//! What the scheduler never sees: the items of a job, and its results until they are delivered.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use procpool_items::{ItemKind, ItemSlab};

use crate::admission::AdmissionPermit;
use crate::call::{CallStyle, ItemError, MapOutput, TraceContext};
use crate::error::ItemFailure;

/// What every chunk of a job has in common.
#[derive(Debug, Clone)]
pub(crate) struct JobHeader {
    pub(crate) function: Arc<str>,
    pub(crate) content_type: Arc<str>,
    pub(crate) style: CallStyle,
    pub(crate) trace: Arc<TraceContext>,
}

/// Outcomes of consecutive items, with a placeholder where one failed.
#[derive(Debug)]
pub(crate) struct OutcomeRun {
    pub(crate) first_index: u64,
    pub(crate) count: u64,
    pub(crate) items: Bytes,
    /// By rising index.
    pub(crate) errors: Vec<ItemError>,
}

/// Items that came together. They go, and their permit with them, when the last of them has its outcome.
#[derive(Debug)]
struct Segment {
    first_index: u64,
    slab: ItemSlab,
    unfinished: u64,
    _permit: AdmissionPermit,
}

/// The items and the results of one job.
#[derive(Debug)]
pub(crate) struct JobPayload {
    pub(crate) header: JobHeader,
    /// Known from the first items on.
    kind: Option<ItemKind>,
    segments: VecDeque<Segment>,
    num_items: u64,
    outcomes: BTreeMap<u64, OutcomeRun>,
}

impl JobPayload {
    pub(crate) fn new(header: JobHeader) -> Self {
        Self { header, kind: None, segments: VecDeque::new(), num_items: 0, outcomes: BTreeMap::new() }
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
    pub(crate) fn add(&mut self, slab: ItemSlab, permit: AdmissionPermit) {
        let kind = *self.kind.get_or_insert_with(|| slab.kind());
        debug_assert_eq!(kind, slab.kind(), "the handle checked the kind");
        let (first_index, unfinished) = (self.num_items, slab.len() as u64);
        self.num_items += unfinished;
        self.segments.push_back(Segment { first_index, slab, unfinished, _permit: permit });
    }

    /// Returns the encoded lists that make these items when laid end to end.
    pub(crate) fn items(&self, first_index: u64, count: u32) -> Vec<Bytes> {
        let end = first_index + u64::from(count);
        let start = self.segment_of(first_index);
        let mut parts = Vec::with_capacity(1);
        for segment in self.segments.range(start..).take_while(|segment| segment.first_index < end) {
            let from = first_index.max(segment.first_index) - segment.first_index;
            let to = (end - segment.first_index).min(segment.slab.len() as u64);
            parts.push(segment.slab.range(to_usize(from)..to_usize(to)));
        }
        parts
    }

    /// Keeps outcomes until they are delivered.
    pub(crate) fn store(&mut self, run: OutcomeRun) {
        self.release(run.first_index, run.count);
        self.outcomes.insert(run.first_index, run);
    }

    /// Keeps the failure of one item.
    pub(crate) fn store_failure(&mut self, index: u64, failure: ItemFailure) {
        let items = Bytes::from_static(self.kind().placeholder());
        let errors = vec![ItemError { index, failure }];
        self.store(OutcomeRun { first_index: index, count: 1, items, errors });
    }

    /// Takes the outcomes of these items, in order.
    pub(crate) fn take(&mut self, first_index: u64, count: u64) -> Vec<OutcomeRun> {
        let end = first_index + count;
        let mut taken = Vec::with_capacity(1);
        while let Some((&first, _)) = self.outcomes.range(first_index..end).next() {
            taken.extend(self.outcomes.remove(&first));
        }
        debug_assert_eq!(taken.iter().map(|run| run.count).sum::<u64>(), count, "every outcome is there");
        taken
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

    /// Returns all outcomes as the answer of a Map.
    pub(crate) fn into_output(self) -> MapOutput {
        let mut output = MapOutput::default();
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
            let segment_end = segment.first_index + segment.slab.len() as u64;
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

fn to_usize(index: u64) -> usize {
    usize::try_from(index).expect("an index within a slab fits")
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::Arc;

    use bytes::Bytes;
    use procpool_items::{ItemKind, ItemSlab, SlabBuilder};

    use super::{JobHeader, JobPayload, OutcomeRun};
    use crate::admission::Admission;
    use crate::call::{CallStyle, TraceContext};
    use crate::config::PoolConfig;

    fn slab(items: &[&str]) -> ItemSlab {
        let mut builder = SlabBuilder::new();
        for item in items {
            builder.push(item.as_bytes());
        }
        ItemSlab::parse(ItemKind::Blobs, builder.take()).unwrap()
    }

    fn text(parts: &[Bytes]) -> Vec<String> {
        let whole = ItemSlab::parse(ItemKind::Blobs, parts.concat().into()).unwrap();
        (0..whole.len()).map(|item| String::from_utf8(whole.item(item).to_vec()).unwrap()).collect()
    }

    #[test]
    fn chunks_cross_segments_and_segments_go_when_all_of_them_is_finished() {
        let config = PoolConfig { max_queued_items: 5, ..PoolConfig::new(NonZeroU32::MIN) };
        let admission = Admission::new(&config);
        let mut payload = JobPayload::new(JobHeader {
            function: "f".into(),
            content_type: "".into(),
            style: CallStyle::Map,
            trace: Arc::new(TraceContext::default()),
        });
        for part in [slab(&["a", "b"]), slab(&["c", "d", "e"])] {
            let permit = admission.try_admit(&part).unwrap();
            payload.add(part, permit);
        }
        assert_eq!(text(&payload.items(1, 3)), ["b", "c", "d"]);
        assert_eq!(text(&payload.items(3, 2)), ["d", "e"]);

        let run = |first_index, items: &[&str]| OutcomeRun {
            first_index,
            count: items.len() as u64,
            items: slab(items).bytes().clone(),
            errors: Vec::new(),
        };
        payload.store(run(1, &["B", "C"]));
        assert!(admission.try_admit(&slab(&["x"])).is_err(), "both segments are still needed");
        payload.store(run(0, &["A"]));
        let room = admission.try_admit(&slab(&["x", "y"])).expect("the first segment is gone");
        assert_eq!(text(&payload.items(3, 2)), ["d", "e"], "the second is where it was");
        payload.store(run(3, &["D", "E"]));
        drop(room);
        assert!(admission.try_admit(&slab(&["1", "2", "3", "4", "5"])).is_ok());
        let runs = payload.take(0, 3);
        assert_eq!(runs.iter().map(|run| run.first_index).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(text(&payload.into_output().parts), ["D", "E"]);
    }
}
