//! What must be true of jobs, told as simply as possible: an entry for every item.

use std::collections::BTreeSet;

use procpool_scheduler::{Delivery, Hold, JobSpec, SlotId, WorkerId};

use crate::results::ModelResults;

/// A job as its caller sees it.
#[derive(Debug)]
pub(crate) struct ModelJob {
    pub(crate) spec: JobSpec,
    pub(crate) items: Vec<ModelItem>,
    /// What was delivered, in order.
    pub(crate) delivered: Vec<u64>,
    pub(crate) taken: u64,
    pub(crate) hold: Hold,
    pub(crate) results: ModelResults,
    /// It was held at some time.
    pub(crate) was_held: bool,
    pub(crate) ended: Option<Ended>,
    pub(crate) vice: Vice,
    /// Some worker has said that it finished an item.
    pub(crate) is_proven: bool,
    /// The workers that died with its items at hand until then, and which item it was.
    pub(crate) deaths: Vec<(Death, u64)>,
}

/// What the items of a job do to workers.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vice {
    #[default]
    None,
    /// They kill them before they have begun.
    KillBefore,
    /// They kill them when they have.
    KillAfter,
}

/// A worker died with an item at hand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Death {
    pub(crate) slot: SlotId,
    /// Others were up that could run it.
    pub(crate) others_could: bool,
    /// How many items the slot had finished.
    pub(crate) finished_there: u32,
}

/// Returns how many deaths happened in one slot and then in another, or where the slot worked in between or no other did.
fn count(deaths: impl Iterator<Item = Death>) -> usize {
    let mut last = None;
    let is_new = |death: &Death| {
        let before = last.replace((death.slot, death.finished_there));
        before != Some((death.slot, death.finished_there)) || !death.others_could
    };
    deaths.filter(is_new).count()
}

/// What happens in one slot only is enough after so many.
const ENOUGH: usize = 9;

/// One item, as its caller and the workers see it.
#[derive(Debug, Default, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "that is what makes it naive")]
pub(crate) struct ModelItem {
    /// How often it was begun.
    pub(crate) executions: u32,
    /// A worker has it.
    pub(crate) is_out: bool,
    /// A worker runs it.
    pub(crate) runs: bool,
    pub(crate) has_outcome: bool,
    /// Its user's function fails.
    pub(crate) fails: bool,
    /// Where it was begun last.
    pub(crate) last_worker: Option<WorkerId>,
    /// The workers that died with it at hand since then.
    pub(crate) fruitless: Vec<Death>,
    /// How often it was at the head of a chunk that was given back before it began.
    pub(crate) returns: u32,
    /// It kills before it begins, or when it has.
    pub(crate) vice: Vice,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Completed,
    Failed,
}

impl ModelJob {
    pub(crate) fn new(spec: JobSpec) -> Self {
        let items = vec![ModelItem::default(); usize::try_from(spec.num_items).unwrap()];
        Self {
            hold: Hold::Nothing,
            was_held: false,
            results: ModelResults::default(),
            spec,
            items,
            delivered: Vec::new(),
            taken: 0,
            ended: None,
            vice: Vice::None,
            is_proven: false,
            deaths: Vec::new(),
        }
    }

    pub(crate) fn item(&mut self, index: u64) -> &mut ModelItem {
        &mut self.items[usize::try_from(index).unwrap()]
    }

    fn is_ordered(&self) -> bool {
        matches!(self.spec.delivery, Delivery::Ordered { .. })
    }

    /// An item was handed to a worker.
    pub(crate) fn hand_out(&mut self, index: u64, slots: u32) {
        assert!(self.ended.is_none(), "an item of a job that has ended was handed out");
        let window = match self.spec.delivery {
            Delivery::Whole => u64::MAX,
            Delivery::Ordered { window } | Delivery::Unordered { window } => {
                // While the run time of a function is not known to us, a chunk may have any size.
                let chunk = u64::from(self.spec.chunk_size().unwrap_or(u32::MAX));
                let slots = 2 * u64::from(slots);
                window.map_or_else(|| (slots * chunk).clamp(slots, 1024.max(slots)), u64::from)
            }
        };
        assert!(index < self.taken.saturating_add(window), "item {index} is beyond the window");
        match self.hold {
            Hold::Nothing => {}
            Hold::AllButNext if self.is_ordered() => {
                let next = self.items.iter().position(|item| !item.has_outcome);
                assert_eq!(Some(index), next.map(|next| next as u64), "held but for what the reader waits for");
            }
            Hold::AllButNext => {
                // One whose time was up has its outcome, and may still run.
                let is_awaited = |item: &ModelItem| item.is_out && !item.has_outcome;
                assert!(!self.items.iter().any(is_awaited), "held but for one at a time");
            }
            Hold::All => panic!("item {index} is held"),
        }
        let max_attempts = self.spec.max_attempts();
        let item = self.item(index);
        assert!(!item.is_out, "item {index} is at two workers");
        assert!(!item.has_outcome, "item {index} was handed out after its outcome");
        assert!(item.executions < max_attempts, "item {index} was executed {} times", item.executions);
        assert!(item.returns <= 3, "item {index} was asked back again");
        assert!(item.fruitless.len() < ENOUGH, "item {index} kills for ever");
        item.is_out = true;
    }

    /// An item was begun.
    pub(crate) fn begin(&mut self, index: u64, worker: WorkerId) {
        let max_attempts = self.spec.max_attempts();
        let item = self.item(index);
        assert_ne!(item.last_worker, Some(worker), "item {index} is tried again in the process where it failed");
        item.last_worker = Some(worker);
        item.fruitless.clear();
        item.returns = 0;
        assert!(!item.runs, "item {index} runs twice at a time");
        item.runs = true;
        item.executions += 1;
        assert!(item.executions <= max_attempts, "item {index} was executed {} times", item.executions);
    }

    /// An item is blamed for workers that died before they began it. It did not happen in one slot alone, unless no other
    /// worked.
    pub(crate) fn check_blame(&mut self, index: u64, crashes: u32) {
        let item = self.item(index);
        let counted = count(item.fruitless.iter().copied());
        let is_enough = counted >= crashes as usize || item.fruitless.len() >= ENOUGH;
        assert!(is_enough, "item {index} is blamed for what happened in one slot: {item:?}");
    }

    /// The job is blamed for workers that died with its items at hand.
    pub(crate) fn check_blame_of_job(&self, crashes: u32) {
        assert!(!self.is_proven, "what the items have in common does not kill");
        let counted = count(self.deaths.iter().map(|&(death, _)| death));
        let is_enough = counted >= crashes as usize || self.deaths.len() >= ENOUGH;
        assert!(is_enough, "a job is blamed for what happened in one slot: {:?}", self.deaths);
        let items: BTreeSet<u64> = self.deaths.iter().map(|&(_, index)| index).collect();
        let least = if self.spec.has_common { 2 } else { 3 };
        assert!(items.len() >= least, "a job is blamed for one of its items: {:?}", self.deaths);
    }

    /// An item has its outcome.
    pub(crate) fn settle(&mut self, index: u64) {
        assert!(self.ended.is_none(), "an outcome after the end");
        let item = self.item(index);
        assert!(!item.has_outcome, "item {index} has two outcomes");
        item.has_outcome = true;
    }

    /// Outcomes were delivered.
    pub(crate) fn deliver(&mut self, first: u64, count: u64) {
        assert!(self.ended.is_none(), "a delivery after the end");
        assert!(count > 0, "an empty delivery");
        for index in first..first + count {
            assert!(self.item(index).has_outcome, "item {index} was delivered without an outcome");
            if self.is_ordered() {
                assert_eq!(index, self.delivered.len() as u64, "delivered out of order");
            }
            self.delivered.push(index);
        }
        self.results.deliver(first, count);
    }

    /// The job was said to be complete.
    pub(crate) fn complete(&mut self) {
        assert!(self.ended.is_none(), "a job ended twice");
        assert!(self.spec.input_closed, "a job completed while its input was open");
        assert!(self.items.iter().all(|item| item.has_outcome), "a job completed without all outcomes");
        if self.spec.delivery != Delivery::Whole {
            let unique: BTreeSet<u64> = self.delivered.iter().copied().collect();
            assert_eq!(unique.len(), self.delivered.len(), "an item was delivered twice");
            assert_eq!(unique.len(), self.items.len(), "an item was not delivered");
        }
        self.results.answer();
        self.ended = Some(Ended::Completed);
    }

    /// The job was said to have failed.
    pub(crate) fn fail(&mut self) {
        assert!(self.ended.is_none(), "a job ended twice");
        self.ended = Some(Ended::Failed);
    }
}
