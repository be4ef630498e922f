//! What the scheduler never sees: the items of a job, and its results until they are delivered.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use procpool_items::{ItemKind, ItemSlab};

use crate::admission::{AdmissionPermit, CommonPermit};
use crate::call::{CallStyle, CommonArgument, ItemError, MapOutput, TraceContext};
use crate::error::ItemFailure;
use crate::results::{ResultAccount, ResultBytes};

/// What the error of an item takes beside its texts, here and in an answer.
const ERROR_BYTES: usize = 100;
/// How many bytes of tracebacks and the like an answer to a whole job has room for.
const MAX_EVIDENCE_BYTES: usize = 1 << 20;

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

impl OutcomeRun {
    /// Returns the outcome of one item that failed, of this kind.
    pub(crate) fn of_failure(index: u64, failure: ItemFailure, kind: ItemKind) -> Self {
        let items = Bytes::from_static(kind.placeholder());
        Self { first_index: index, count: 1, items, errors: vec![ItemError { index, failure }] }
    }

    fn num_bytes(&self) -> u64 {
        let errors = self.errors.iter().map(|error| ERROR_BYTES + error.failure.num_bytes());
        (self.items.len() + errors.sum::<usize>()) as u64
    }
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
    common: Option<(CommonArgument, CommonPermit)>,
    /// Known from the first items on.
    kind: Option<ItemKind>,
    segments: VecDeque<Segment>,
    num_items: u64,
    outcomes: BTreeMap<u64, OutcomeRun>,
    account: Arc<ResultAccount>,
    /// How many bytes of tracebacks and the like are still kept.
    evidence_left: usize,
    /// Nobody will get the outcomes.
    is_refused: bool,
}

impl JobPayload {
    /// Returns the payload of a job without items. What its outcomes take is counted in `account`.
    pub(crate) fn new(
        header: JobHeader,
        common: Option<(CommonArgument, CommonPermit)>,
        account: Arc<ResultAccount>,
    ) -> Self {
        // A stream has an answer after the other.
        let evidence_left = if account.is_stream() { usize::MAX } else { MAX_EVIDENCE_BYTES };
        Self {
            header,
            common,
            kind: None,
            segments: VecDeque::new(),
            num_items: 0,
            outcomes: BTreeMap::new(),
            account,
            evidence_left,
            is_refused: false,
        }
    }

    /// Returns what the outcomes take.
    pub(crate) fn account(&self) -> &ResultAccount {
        &self.account
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
    pub(crate) fn store(&mut self, mut run: OutcomeRun) {
        self.release(run.first_index, run.count);
        if self.is_refused {
            return;
        }
        for evidence in run.errors.iter_mut().filter_map(|error| error.failure.evidence_mut()) {
            match self.evidence_left.checked_sub(evidence.len()) {
                Some(left) => self.evidence_left = left,
                None => *evidence = String::new(),
            }
        }
        self.account.store(run.num_bytes());
        self.outcomes.insert(run.first_index, run);
    }

    /// Drops the outcomes that there are, and those to come.
    pub(crate) fn refuse_outcomes(&mut self) {
        self.is_refused = true;
        self.outcomes.clear();
        self.account.drop_stored();
    }

    /// Takes the outcomes of these items, in order, and the claim on what they take.
    pub(crate) fn take(&mut self, first_index: u64, count: u64) -> (Vec<OutcomeRun>, ResultBytes) {
        let end = first_index + count;
        let mut taken = Vec::with_capacity(1);
        while let Some((&first, _)) = self.outcomes.range(first_index..end).next() {
            taken.extend(self.outcomes.remove(&first));
        }
        debug_assert_eq!(taken.iter().map(|run| run.count).sum::<u64>(), count, "every outcome is there");
        let held = self.account.hand_out(taken.iter().map(OutcomeRun::num_bytes).sum());
        (taken, held)
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
    pub(crate) fn into_output(mut self) -> MapOutput {
        let held = self.account.hand_out(self.account.stored());
        let mut output = MapOutput { held, ..MapOutput::default() };
        for run in std::mem::take(&mut self.outcomes).into_values() {
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

impl Drop for JobPayload {
    fn drop(&mut self) {
        self.account.drop_stored();
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
    use crate::results::{ResultAccount, ResultBudget};

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
        let header = JobHeader {
            function: "f".into(),
            content_type: "".into(),
            style: CallStyle::Map,
            trace: Arc::new(TraceContext::default()),
        };
        let budget = ResultBudget::new(&config, Arc::default());
        let mut payload = JobPayload::new(header, None, ResultAccount::new(&budget, true));
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
        let results = |texts: &[&str]| slab(texts).bytes().len() as u64;
        assert_eq!(budget.streams.used(), results(&["A", "B", "C", "D", "E"]));
        let (runs, mut held) = payload.take(0, 3);
        held.give_back(results(&["A", "B"]));
        assert_eq!(budget.streams.used(), results(&["C", "D", "E"]));
        drop(held);
        assert_eq!(budget.streams.used(), results(&["D", "E"]));
        assert_eq!(runs.iter().map(|run| run.first_index).collect::<Vec<_>>(), [0, 1]);
        let output = payload.into_output();
        assert_eq!(text(&output.parts), ["D", "E"]);
        assert_eq!(budget.streams.used(), results(&["D", "E"]));
        drop(output);
        assert_eq!(budget.streams.used(), 0);
    }
}
