//! One job: which of its items have not been handed out, which were given back, which have their outcome.

use std::collections::{BTreeMap, BTreeSet};

use crate::blame::Deaths;
use crate::chunk::{MAX_CHUNK_BYTES, MAX_DEFAULT_WINDOW, MAX_FIXED_CHUNK_BYTES, guided_share};
use crate::event::Hold;
use crate::id::{SlotId, WorkerId};
use crate::job_spec::{Delivery, JobSpec};
use crate::queue::VirtualTime;
use crate::results::HeldResults;
use crate::run_set::RunSet;
use crate::run_times::RunTimes;
use crate::time::Time;

/// After an item at the head of its chunk was given back so often before it began, its worker is left alone with it.
const MAX_RETURNS: u32 = 3;

/// What has happened to an item before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct History {
    /// Which execution comes next, from 1.
    pub(crate) attempt: u32,
    /// How many workers it killed.
    pub(crate) crashes: u32,
    /// The worker where it failed. It never runs there again.
    pub(crate) failed_in: Option<WorkerId>,
    /// The workers that died with it at the head of their chunk, but not begun.
    pub(crate) deaths: Deaths,
    /// How often a chunk with it, or one that it stood in, was given back before any of it began.
    pub(crate) returns: u32,
    /// Since when it has waited for another worker.
    pub(crate) since: Time,
}

impl History {
    pub(crate) const NEW: Self =
        Self { attempt: 1, crashes: 0, failed_in: None, deaths: Deaths::NONE, returns: 0, since: Time::ZERO };

    /// Tells whether it failed in this slot, or was there when a worker died: it should rather run in another.
    pub(crate) fn is_of(self, slot: SlotId) -> bool {
        self.deaths.slot() == Some(slot) || self.failed_in.is_some_and(|worker| worker.slot == slot)
    }

    /// A suspect runs in a chunk of its own.
    pub(crate) fn is_suspect(self) -> bool {
        Self { returns: 0, ..self } != Self::NEW || self.is_left_alone()
    }

    /// Tells whether its worker is left alone with it.
    pub(crate) fn is_left_alone(self) -> bool {
        self.returns >= MAX_RETURNS
    }

    /// Returns the history of items that have come back once more before any of them began.
    pub(crate) fn returned(self) -> Self {
        Self { returns: self.returns.saturating_add(1).min(MAX_RETURNS), ..self }
    }

    /// Returns the history of the items behind one that a worker is to be left alone with: they were not at hand.
    fn behind(self) -> Self {
        Self { returns: self.returns.min(MAX_RETURNS - 1), ..Self::NEW }
    }
}

/// Consecutive items that can be handed out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Available {
    pub(crate) first: u64,
    pub(crate) count: u64,
    pub(crate) history: History,
}

/// One job.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) spec: JobSpec,
    /// The first item that was never handed out.
    pub(crate) next_fresh: u64,
    /// Runs of items that were given back, by their first index.
    returned: BTreeMap<u64, (u64, History)>,
    /// Items that wait until they may be tried again.
    waiting: BTreeMap<(Time, u64), History>,
    /// Items that have their outcome.
    pub(crate) finished: RunSet,
    /// Items at workers, without outcome.
    pub(crate) outstanding: u64,
    /// How many chunks of it workers have.
    pub(crate) num_chunks: u32,
    /// How many outcomes of an ordered stream were delivered.
    pub(crate) delivered: u64,
    /// How many results the reader has taken.
    pub(crate) taken: u64,
    /// How many items a stream may run ahead of `taken`. Never falls.
    pub(crate) window: u64,
    /// What is not to begin.
    pub(crate) hold: Hold,
    pub(crate) results: HeldResults,
    pub(crate) virtual_time: VirtualTime,
    /// It stands in the fair queue.
    pub(crate) queued: bool,
    /// Since when it has had items that wait for a slot, without a break.
    pub(crate) queued_since: Option<Time>,
    /// Some item was handed to a worker.
    pub(crate) started: bool,
    /// A worker has finished an item: what the items have in common kills nobody.
    pub(crate) is_proven: bool,
    /// The workers that died with an item at hand, as long as that is not proven.
    pub(crate) deaths: Deaths,
    /// The items that they had. As many as are needed to blame the job.
    pub(crate) suspects: BTreeSet<u64>,
}

impl Job {
    pub(crate) fn new(spec: JobSpec) -> Self {
        Self {
            spec,
            next_fresh: 0,
            returned: BTreeMap::new(),
            waiting: BTreeMap::new(),
            finished: RunSet::default(),
            outstanding: 0,
            num_chunks: 0,
            delivered: 0,
            taken: 0,
            window: 0,
            hold: Hold::Nothing,
            results: HeldResults::default(),
            virtual_time: VirtualTime::default(),
            queued: false,
            queued_since: None,
            started: false,
            is_proven: false,
            deaths: Deaths::NONE,
            suspects: BTreeSet::new(),
        }
    }

    /// Returns the first items that can be handed out now, of those that `may` be.
    pub(crate) fn available(&self, may: impl Fn(&History) -> bool) -> Option<Available> {
        let first = self.first_not_out(may);
        match self.hold {
            Hold::Nothing => first,
            Hold::AllButNext => {
                let next = first.filter(|first| match self.spec.delivery {
                    Delivery::Ordered { .. } => first.first == self.delivered,
                    Delivery::Whole | Delivery::Unordered { .. } => self.outstanding == 0,
                });
                next.map(|next| Available { count: 1, ..next })
            }
            Hold::All => None,
        }
    }

    /// Returns the first items that could be handed out if nothing were held.
    fn first_not_out(&self, may: impl Fn(&History) -> bool) -> Option<Available> {
        if let Some((&first, &(count, history))) = self.returned.iter().find(|(_, (_, history))| may(history)) {
            return Some(Available { first, count, history });
        }
        let count = self.num_fresh();
        (count > 0 && may(&History::NEW)).then_some(Available { first: self.next_fresh, count, history: History::NEW })
    }

    /// Returns how many items that were never handed out could be now.
    fn num_fresh(&self) -> u64 {
        let limit = match self.spec.delivery {
            Delivery::Whole => self.spec.num_items,
            Delivery::Ordered { .. } | Delivery::Unordered { .. } => {
                self.spec.num_items.min(self.taken.saturating_add(self.window))
            }
        };
        limit.saturating_sub(self.next_fresh)
    }

    /// Tells whether an item could be handed out now.
    pub(crate) fn is_runnable(&self) -> bool {
        match self.hold {
            Hold::Nothing => !self.returned.is_empty() || self.num_fresh() > 0,
            Hold::AllButNext | Hold::All => self.available(|_| true).is_some(),
        }
    }

    /// Tells whether nothing of it runs, and none of its items begins before its reader has taken results.
    pub(crate) fn waits_for_reader(&self) -> bool {
        self.outstanding == 0 && !self.is_runnable() && self.num_not_out() > self.waiting.len() as u64
    }

    /// Returns how many items could be handed out now.
    pub(crate) fn num_runnable(&self) -> u64 {
        if self.hold != Hold::Nothing {
            return self.available(|_| true).map_or(0, |available| available.count);
        }
        self.returned.values().map(|&(count, _)| count).sum::<u64>() + self.num_fresh()
    }

    /// Tells whether an item could be handed out that failed in this worker.
    pub(crate) fn awaits_successor_of(&self, worker: WorkerId) -> bool {
        self.returned.values().any(|(_, history)| history.failed_in == Some(worker))
    }

    /// Hands out a chunk of the first `count` of these items, as [`Job::available`] has returned them.
    pub(crate) fn take(&mut self, first: u64, count: u32) {
        let count = u64::from(count);
        if let Some((returned, history)) = self.returned.remove(&first) {
            if returned > count {
                self.returned.insert(first + count, (returned - count, history));
            }
        } else {
            self.next_fresh += count;
        }
        self.outstanding += count;
        self.num_chunks += 1;
        self.started = true;
    }

    /// Takes back items that have not begun.
    pub(crate) fn give_back(&mut self, first: u64, count: u64, history: History) {
        debug_assert!(count > 0 && self.outstanding >= count, "items given back that were not out");
        self.outstanding -= count;
        if !history.is_suspect() {
            return self.put_back(first, count, history);
        }
        self.returned.insert(first, (1, history));
        if count > 1 {
            self.put_back(first + 1, count - 1, history.behind());
        }
    }

    /// Adds a run to those of its kind beside it.
    fn put_back(&mut self, first: u64, count: u64, history: History) {
        let mut run = (first, count);
        if let Some((&before, &(before_count, of_before))) = self.returned.range(..first).next_back()
            && before + before_count == first
            && of_before == history
        {
            run = (before, before_count + count);
        }
        if let Some(&(after_count, of_after)) = self.returned.get(&(first + count))
            && of_after == history
        {
            self.returned.remove(&(first + count));
            run.1 += after_count;
        }
        self.returned.insert(run.0, (run.1, history));
    }

    /// Takes back an item that is to be tried again, but not before `not_before`.
    pub(crate) fn retry(&mut self, index: u64, history: History, not_before: Time) {
        self.outstanding -= 1;
        self.waiting.insert((not_before, index), history);
    }

    /// Makes the items available whose wait is over; returns when the next wait ends.
    pub(crate) fn end_waits(&mut self, now: Time) -> Option<Time> {
        while let Some(entry) = self.waiting.first_entry() {
            let &(at, index) = entry.key();
            if at > now {
                return Some(at);
            }
            self.returned.insert(index, (1, History { since: now, ..entry.remove() }));
        }
        None
    }

    /// Gives `count` items their outcome, that were outstanding.
    pub(crate) fn finish(&mut self, first: u64, count: u64) {
        debug_assert!(self.outstanding >= count, "items finished that were not out");
        self.outstanding -= count;
        self.finished.insert(first, first + count);
    }

    /// Tells whether every item that there will ever be has its outcome.
    pub(crate) fn is_complete(&self) -> bool {
        self.spec.input_closed && self.finished.len() == self.spec.num_items
    }

    /// Returns how many items are not handed out.
    pub(crate) fn num_not_out(&self) -> u64 {
        self.spec.num_items - self.finished.len() - self.outstanding
    }

    /// Works out the window anew: what the caller asked for, or enough to keep every slot busy.
    pub(crate) fn update_window(&mut self, slots: u32, run_times: &RunTimes) {
        let asked = match self.spec.delivery {
            Delivery::Whole => return,
            Delivery::Ordered { window } | Delivery::Unordered { window } => window,
        };
        let slots = 2 * u64::from(slots);
        let chunk = self.spec.chunk_size().unwrap_or_else(|| run_times.items_per_chunk(self.spec.function));
        let adaptive = slots.saturating_mul(u64::from(chunk)).min(MAX_DEFAULT_WINDOW).max(slots);
        self.window = self.window.max(asked.map_or(adaptive, u64::from));
    }

    /// Returns the most items that the next chunk may have.
    pub(crate) fn chunk_limit(&self, slots: u32, run_times: &RunTimes) -> u32 {
        let most_of = |bytes| u32::try_from(bytes / self.spec.item_bytes.max(1)).unwrap_or(u32::MAX).max(1);
        if let Some(chunk_size) = self.spec.chunk_size() {
            return chunk_size.min(most_of(MAX_FIXED_CHUNK_BYTES));
        }
        let mut limit = run_times.items_per_chunk(self.spec.function).min(most_of(MAX_CHUNK_BYTES));
        if self.spec.input_closed {
            limit = limit.min(guided_share(self.num_not_out(), slots));
        }
        if self.spec.delivery != Delivery::Whole {
            limit = limit.min(guided_share(self.window, slots));
        }
        limit.max(1)
    }

    /// Returns the number of items that wait to be tried again or were given back.
    #[cfg(any(test, debug_assertions))]
    pub(crate) fn num_given_back(&self) -> u64 {
        self.returned.values().map(|&(count, _)| count).sum::<u64>() + self.waiting.len() as u64
    }
}
