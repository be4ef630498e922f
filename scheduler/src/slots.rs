//! The slots, and sets of those that dispatch asks for: it must not look at every slot after every event.
//!
//! What a slot stands in follows from what it is like now ([`Listed::of`]), and is kept up to date here alone: a slot can
//! be changed only through [`Slots::get_mut`], which notes that, and [`Slots::update`] lists it anew before anybody asks.
//! What is asked for rarely (starts, holds, a restart, a resize, a drain) has no set, and looks at every slot.

use std::collections::BTreeSet;
use std::ops::{Bound, Deref};

use crate::id::FunctionId;
use crate::time::Time;
use crate::worker::Slot;

/// All slots, in the order of their numbers. They are read like a slice.
#[derive(Debug)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
    /// Those that may have changed since they were listed; some more than once.
    changed: Vec<usize>,
    /// So many of them were looked at for `free` again.
    num_freed: usize,
    /// Those whose workers could begin a chunk at once.
    free: SlotSet,
    /// Those whose workers have a chunk that could be taken apart.
    divisible: SlotSet,
    listed: Vec<Listed>,
    asked: BTreeSet<(Time, usize)>,
    ahead: BTreeSet<(FunctionId, u32, usize)>,
}

/// The ordered sets that a slot stands in, and under what.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Listed {
    /// When its worker was last asked for a chunk that somebody waits for, and has not answered.
    asked_at: Option<Time>,
    /// Its worker may hold a chunk ahead when few enough items are left of what it runs: the function, and how many are.
    ahead: Option<(FunctionId, u32)>,
}

impl Listed {
    fn of(slot: &Slot) -> Self {
        let ahead = slot.only_chunk().map(|chunk| (chunk.function, chunk.remaining()));
        Self { asked_at: slot.asked_at(), ahead }
    }
}

impl Slots {
    /// Returns so many empty slots.
    pub(crate) fn new(count: u32) -> Self {
        let mut slots = Self {
            slots: Vec::new(),
            changed: Vec::new(),
            num_freed: 0,
            free: SlotSet::default(),
            divisible: SlotSet::default(),
            listed: Vec::new(),
            asked: BTreeSet::new(),
            ahead: BTreeSet::new(),
        };
        slots.grow(count as usize);
        slots
    }

    /// Adds empty slots until there are so many.
    pub(crate) fn grow(&mut self, count: usize) {
        let count = count.max(self.len());
        self.slots.resize_with(count, Slot::default);
        self.listed.resize(count, Listed::default());
        self.free.grow(count);
        self.divisible.grow(count);
    }

    /// Returns a slot, to be changed.
    pub(crate) fn get_mut(&mut self, slot: usize) -> Option<&mut Slot> {
        let entry = self.slots.get_mut(slot)?;
        if self.changed.len() == self.num_freed || self.changed.last() != Some(&slot) {
            self.changed.push(slot);
        }
        Some(entry)
    }

    /// Brings the sets up to date.
    pub(crate) fn update(&mut self) {
        self.update_free();
        self.num_freed = 0;
        for slot in self.changed.drain(..) {
            let entry = &self.slots[slot];
            self.divisible.set(slot, entry.divisible_chunks().next().is_some());
            let now = Listed::of(entry);
            let before = std::mem::replace(&mut self.listed[slot], now);
            if now.asked_at != before.asked_at {
                before.asked_at.map(|at| self.asked.remove(&(at, slot)));
                self.asked.extend(now.asked_at.map(|at| (at, slot)));
            }
            if now.ahead != before.ahead {
                before.ahead.map(|(function, left)| self.ahead.remove(&(function, left, slot)));
                self.ahead.extend(now.ahead.map(|(function, left)| (function, left, slot)));
            }
        }
    }

    /// Brings that set up to date which changes most often, twice with each chunk.
    fn update_free(&mut self) {
        for &slot in &self.changed[self.num_freed..] {
            self.free.set(slot, self.slots[slot].is_free());
        }
        self.num_freed = self.changed.len();
    }

    /// Returns the first slot from this one on whose worker could begin a chunk at once.
    pub(crate) fn next_free(&mut self, first: usize) -> Option<usize> {
        self.update_free();
        self.free.next_from(first)
    }

    /// Returns the slots whose workers could begin a chunk at once.
    pub(crate) fn free(&self) -> impl Iterator<Item = &Slot> {
        debug_assert_eq!(self.changed.len(), self.num_freed, "the set is up to date");
        self.free.iter().map(|slot| &self.slots[slot])
    }

    /// Returns the slots whose workers have a chunk that could be taken apart.
    pub(crate) fn divisible(&self) -> impl Iterator<Item = &Slot> {
        debug_assert!(self.changed.is_empty(), "the set is up to date");
        self.divisible.iter().map(|slot| &self.slots[slot])
    }

    /// Returns when a worker was last asked for a chunk, of those that have not answered.
    pub(crate) fn last_asked_at(&self) -> Option<Time> {
        debug_assert!(self.changed.is_empty(), "the set is up to date");
        self.asked.last().map(|&(at, _)| at)
    }

    /// Returns the slots whose workers may hold a chunk ahead, in order. `most`: how many items of a function may be left.
    /// Those that have changed may be among them, whatever they are like now.
    pub(crate) fn may_hold_ahead(&self, most: impl Fn(FunctionId) -> u32) -> Vec<usize> {
        let mut slots = self.changed.clone();
        let mut next = self.ahead.first();
        while let Some(&(function, ..)) = next {
            let few = (function, 0, 0)..=(function, most(function), usize::MAX);
            slots.extend(self.ahead.range(few).map(|&(.., slot)| slot));
            let others = (Bound::Excluded((function, u32::MAX, usize::MAX)), Bound::Unbounded);
            next = self.ahead.range(others).next();
        }
        slots.sort_unstable();
        slots.dedup();
        slots
    }

    /// Checks that the sets are what a look at every slot gives.
    #[cfg(any(test, debug_assertions))]
    pub(crate) fn check(&self) {
        let listed: Vec<Listed> = self.slots.iter().map(Listed::of).collect();
        assert_eq!(self.listed, listed, "each slot is listed as what it is");
        let asked = (0..).zip(&listed).filter_map(|(slot, of)| Some((of.asked_at?, slot)));
        assert_eq!(self.asked, asked.collect(), "the slots that were asked for a chunk");
        let ahead = (0..).zip(&listed).filter_map(|(slot, of)| of.ahead.map(|(function, left)| (function, left, slot)));
        assert_eq!(self.ahead, ahead.collect(), "the slots that may hold a chunk ahead");
        for (slot, entry) in self.slots.iter().enumerate() {
            assert_eq!(self.free.has(slot), entry.is_free(), "slot {slot}: listed as free if it is");
            let is_divisible = entry.divisible_chunks().next().is_some();
            assert_eq!(self.divisible.has(slot), is_divisible, "slot {slot}: listed as divisible if it is");
        }
        assert_eq!(self.free.len, self.free.iter().count(), "the free slots are counted");
        assert_eq!(self.divisible.len, self.divisible.iter().count(), "the divisible slots are counted");
    }
}

impl Deref for Slots {
    type Target = [Slot];

    fn deref(&self) -> &[Slot] {
        &self.slots
    }
}

/// A set of slots, a bit each.
#[derive(Debug, Default)]
struct SlotSet {
    words: Vec<u64>,
    len: usize,
}

impl SlotSet {
    /// Makes room for so many slots.
    fn grow(&mut self, count: usize) {
        self.words.resize(count.div_ceil(64), 0);
    }

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

    fn iter(&self) -> impl Iterator<Item = usize> {
        std::iter::successors(self.next_from(0), |&slot| self.next_from(slot + 1))
    }
}
