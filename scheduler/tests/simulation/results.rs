//! What results take, told as simply as possible: an entry for every result, and one for what each reader has.

use std::collections::{BTreeMap, VecDeque};

use procpool_scheduler::{Hold, ResultSize};

/// The results of one job.
#[derive(Debug, Default)]
pub(crate) struct ModelResults {
    /// What each takes that is stored, by its index.
    stored: BTreeMap<u64, u64>,
    /// What the reader has not given back: how much of each delivery, and of how many results.
    in_hand: VecDeque<(u64, u64)>,
    /// What the scheduler was told that all of these take, and would take in an answer.
    pub(crate) counted: ResultSize,
}

impl ModelResults {
    pub(crate) fn count(&mut self, change: ResultSize) {
        self.counted.held += change.held;
        self.counted.answer += change.answer;
        assert!(self.counted.held >= 0 && self.counted.answer >= 0, "less than nothing: {self:?}");
    }

    pub(crate) fn store(&mut self, index: u64, bytes: u64) {
        self.stored.insert(index, bytes);
    }

    /// The reader gets these results.
    pub(crate) fn deliver(&mut self, first: u64, count: u64) {
        let bytes = (first..first + count).map(|index| self.stored.remove(&index).unwrap()).sum();
        self.in_hand.push_back((bytes, count));
    }

    /// Returns how much is stored.
    pub(crate) fn stored_bytes(&self) -> u64 {
        self.stored.values().sum()
    }

    /// All that is stored is the answer.
    pub(crate) fn answer(&mut self) {
        let bytes = self.stored_bytes();
        self.in_hand.push_back((bytes, 0));
        self.stored.clear();
    }

    /// Nobody gets what is stored.
    pub(crate) fn drop_stored(&mut self) {
        self.stored.clear();
    }

    pub(crate) fn is_in_hand(&self) -> bool {
        self.in_hand.iter().any(|&(bytes, _)| bytes > 0)
    }

    /// The reader gives back up to so many bytes. Returns how many, and of how many results these are the last.
    pub(crate) fn give_back(&mut self, most: u64) -> (u64, u64) {
        let (mut given_back, mut results) = (0, 0);
        while let Some((bytes, count)) = self.in_hand.front_mut() {
            let part = (*bytes).min(most - given_back);
            given_back += part;
            *bytes -= part;
            if *bytes > 0 {
                break;
            }
            results += *count;
            self.in_hand.pop_front();
        }
        (given_back, results)
    }
}

/// How much all jobs of one sort hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ModelBudget {
    pub(crate) limit: i64,
    pub(crate) free: i64,
    pub(crate) shared: i64,
    pub(crate) used: i64,
    pub(crate) num_jobs: i64,
}

impl ModelBudget {
    /// Returns whether a job has more than it may.
    pub(crate) fn is_too_much(&self, held: i64) -> bool {
        self.used > self.free && held > self.shared / self.num_jobs.max(1)
    }

    /// Returns whether no stream should run ahead, however little it has.
    pub(crate) fn is_full(&self) -> bool {
        self.used > self.free + self.shared
    }

    pub(crate) fn is_over(&self) -> bool {
        self.used > self.limit
    }

    /// Returns what of a stream should not begin.
    pub(crate) fn hold_of(&self, results: &ModelResults) -> Hold {
        let held = results.counted.held;
        if !self.is_full() && !self.is_too_much(held) {
            return Hold::Nothing;
        }
        let waits_for_others = held == 0 && self.is_over();
        if results.in_hand.is_empty() && !waits_for_others { Hold::AllButNext } else { Hold::All }
    }
}
