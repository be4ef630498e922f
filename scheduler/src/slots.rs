//! The slots, and sets of those that dispatch asks for: it must not look at every slot after every event.
//!
//! The sets follow from what the slots are like now, and are kept here alone: a slot can be changed only through
//! [`Slots::get_mut`], which notes that, and [`Slots::update`] looks at it again before anybody asks. What is asked for
//! rarely (starts, holds, a restart, a resize, a drain) has no set, and looks at every slot.

use std::collections::BTreeSet;
use std::ops::Deref;

use crate::id::FunctionId;
use crate::time::Time;
use crate::worker::{Slot, Worker};

/// All slots, in the order of their numbers. They are read like a slice.
#[derive(Debug)]
pub(crate) struct Slots {
    all: Vec<Slot>,
    /// Those that may have changed since `update`; some more than once.
    changed: Vec<usize>,
    /// Those whose workers could begin a chunk at once.
    free: SlotSet,
    /// Those whose workers have a chunk that could be taken apart.
    divisible: SlotSet,
    /// When each worker was last asked for a chunk that somebody waits for, if it has not answered.
    asked_at: Vec<Option<Time>>,
    by_asked_at: BTreeSet<(Time, usize)>,
    /// The only chunk of each worker, if another may wait behind it: its function, and how many of its items are left.
    only_chunks: Vec<Option<(FunctionId, u32)>>,
    /// By those. Sorted: a tree costs more with few slots, and saves a quarter of a microsecond with 4,096.
    by_only_chunk: Vec<(FunctionId, u32, usize)>,
    /// Those whose only chunk may be another by now, and during a dispatch those that may hold a chunk ahead, too.
    to_ask: SlotSet,
}

impl Slots {
    /// Returns so many empty slots.
    pub(crate) fn new(count: u32) -> Self {
        let mut slots = Self {
            all: Vec::new(),
            changed: Vec::new(),
            free: SlotSet::default(),
            divisible: SlotSet::default(),
            asked_at: Vec::new(),
            by_asked_at: BTreeSet::new(),
            only_chunks: Vec::new(),
            by_only_chunk: Vec::new(),
            to_ask: SlotSet::default(),
        };
        slots.grow(count as usize);
        slots
    }

    /// Adds empty slots until there are so many.
    pub(crate) fn grow(&mut self, count: usize) {
        let count = count.max(self.len());
        self.all.resize_with(count, Slot::default);
        self.asked_at.resize(count, None);
        self.only_chunks.resize(count, None);
        for set in [&mut self.free, &mut self.divisible, &mut self.to_ask] {
            set.words.resize(count.div_ceil(64), 0);
        }
    }

    /// Returns a slot, to be changed.
    pub(crate) fn get_mut(&mut self, slot: usize) -> Option<&mut Slot> {
        let entry = self.all.get_mut(slot)?;
        if self.changed.last() != Some(&slot) {
            self.changed.push(slot);
        }
        Some(entry)
    }

    /// Brings up to date what all but [`Slots::next_ahead`] go by.
    pub(crate) fn update(&mut self) {
        while let Some(slot) = self.changed.pop() {
            let entry = &self.all[slot];
            self.free.set(slot, entry.is_free());
            let worker = entry.worker.as_ref();
            self.divisible.set(slot, worker.is_some_and(|worker| worker.divisible_chunks().next().is_some()));
            let asked_at = worker.and_then(Worker::asked_at);
            if asked_at != self.asked_at[slot] {
                self.asked_at[slot].map(|at| self.by_asked_at.remove(&(at, slot)));
                self.by_asked_at.extend(asked_at.map(|at| (at, slot)));
                self.asked_at[slot] = asked_at;
            }
            self.to_ask.set(slot, true);
        }
    }

    /// Looks for the slots whose workers may hold a chunk ahead. `most`: how many items of a function may be left.
    pub(crate) fn find_ahead(&mut self, most: impl Fn(FunctionId) -> u32) {
        self.update();
        let mut rest = &self.by_only_chunk[..];
        while let Some(&(function, ..)) = rest.first() {
            let most = most(function);
            let few = rest.iter().take_while(|&&(other, left, _)| other == function && left <= most);
            few.for_each(|&(.., slot)| self.to_ask.set(slot, true));
            rest = &rest[rest.partition_point(|&(other, ..)| other == function)..];
        }
    }

    /// Returns the first slot from this one on that was found, or that has changed.
    pub(crate) fn next_ahead(&self, first: usize) -> Option<usize> {
        self.to_ask.next_from(first)
    }

    /// Brings up to date what [`Slots::find_ahead`] goes by. That is done once an event, after dispatch, and only while a job
    /// waits: where a chunk has ended, one that is like it has most often begun.
    pub(crate) fn end_ahead(&mut self) {
        self.update();
        while let Some(slot) = self.to_ask.next_from(0) {
            self.to_ask.set(slot, false);
            let chunk = self.all[slot].only_chunk().map(|chunk| (chunk.function, chunk.remaining()));
            let before = std::mem::replace(&mut self.only_chunks[slot], chunk);
            if chunk != before {
                let position = |(function, left)| self.by_only_chunk.binary_search(&(function, left, slot));
                if let Some(Ok(position)) = before.map(position) {
                    self.by_only_chunk.remove(position);
                }
                if let Some((function, left)) = chunk {
                    let position = self.by_only_chunk.partition_point(|&other| other < (function, left, slot));
                    self.by_only_chunk.insert(position, (function, left, slot));
                }
            }
        }
    }

    /// Returns the slots whose workers could begin a chunk at once.
    pub(crate) fn free_from(&self, first: usize) -> impl Iterator<Item = usize> {
        debug_assert!(self.changed.is_empty(), "the set is up to date");
        self.free.iter_from(first)
    }

    /// Returns the workers that have a chunk that could be taken apart.
    pub(crate) fn divisible(&self) -> impl Iterator<Item = &Worker> {
        debug_assert!(self.changed.is_empty(), "the set is up to date");
        self.divisible.iter_from(0).filter_map(|slot| self.all[slot].worker.as_ref())
    }

    /// Returns when a worker was last asked for a chunk, of those that have not answered.
    pub(crate) fn last_asked_at(&self) -> Option<Time> {
        debug_assert!(self.changed.is_empty(), "the set is up to date");
        self.by_asked_at.last().map(|&(at, _)| at)
    }

    /// Checks that the sets are what a look at every slot gives.
    #[cfg(any(test, debug_assertions))]
    pub(crate) fn check(&self) {
        let asked = (0..).zip(&self.all).filter_map(|(slot, entry)| Some((entry.worker.as_ref()?.asked_at()?, slot)));
        assert_eq!(self.by_asked_at, asked.collect(), "the slots that were asked for a chunk");
        let chunks = (0..).zip(&self.only_chunks).filter_map(|(slot, chunk)| chunk.map(|(of, left)| (of, left, slot)));
        let by_only_chunk: BTreeSet<_> = chunks.collect();
        assert!(self.by_only_chunk.iter().eq(&by_only_chunk), "the slots by their only chunks");
        for (slot, entry) in self.all.iter().enumerate() {
            assert_eq!(self.free.has(slot), entry.is_free(), "slot {slot}: in the set of free ones if it is");
            let is_divisible = entry.worker.iter().any(|worker| worker.divisible_chunks().next().is_some());
            assert_eq!(self.divisible.has(slot), is_divisible, "slot {slot}: in the set of divisible ones if it is");
            let chunk = entry.only_chunk().map(|chunk| (chunk.function, chunk.remaining()));
            let is_known = self.to_ask.has(slot) || self.only_chunks[slot] == chunk;
            assert!(is_known, "slot {slot}: its only chunk is known, or it is asked anyway");
        }
        for set in [&self.free, &self.divisible, &self.to_ask] {
            assert_eq!(set.len, set.iter_from(0).count(), "the slots of a set are counted");
        }
    }
}

impl Deref for Slots {
    type Target = [Slot];

    fn deref(&self) -> &[Slot] {
        &self.all
    }
}

/// A set of slots, a bit each.
#[derive(Debug, Default)]
struct SlotSet {
    words: Vec<u64>,
    len: usize,
}

impl SlotSet {
    fn has(&self, slot: usize) -> bool {
        self.words[slot / 64] & 1 << (slot % 64) != 0
    }

    fn set(&mut self, slot: usize, is_in: bool) {
        if self.has(slot) != is_in {
            self.words[slot / 64] ^= 1 << (slot % 64);
            self.len = if is_in { self.len + 1 } else { self.len - 1 };
        }
    }

    /// Returns the first slot of the set from this one on.
    fn next_from(&self, first: usize) -> Option<usize> {
        if self.len == 0 {
            return None;
        }
        let start = first / 64;
        let mut mask = u64::MAX << (first % 64);
        for (index, word) in self.words.iter().enumerate().skip(start) {
            let left = word & mask;
            if left != 0 {
                return Some(index * 64 + left.trailing_zeros() as usize);
            }
            mask = u64::MAX;
        }
        None
    }

    /// Returns the slots of the set from this one on.
    fn iter_from(&self, first: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(self.next_from(first), |&slot| self.next_from(slot + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::SlotSet;

    #[test]
    fn a_set_gives_its_slots_in_order_across_words() {
        let mut set = SlotSet { words: vec![0; 4], len: 0 };
        for slot in [200, 64, 0, 63, 64, 128] {
            set.set(slot, true);
        }
        set.set(128, false);
        set.set(129, false);
        assert_eq!(set.iter_from(0).collect::<Vec<_>>(), [0, 63, 64, 200]);
        assert_eq!([1, 64, 65, 201].map(|first| set.next_from(first)), [Some(63), Some(64), Some(200), None]);
        assert_eq!((set.len, set.next_from(256)), (4, None));
    }
}
