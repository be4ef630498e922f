//! A set of indexes that are mostly consecutive.

use std::collections::BTreeMap;

/// A set of indexes, kept as runs: its size is the number of gaps, not of indexes.
#[derive(Debug, Default, Clone)]
pub(crate) struct RunSet {
    /// From the first index of a run to the one after its last. Runs neither touch nor overlap.
    runs: BTreeMap<u64, u64>,
    len: u64,
}

impl RunSet {
    /// Adds the indexes `first..end`, none of which may be in the set.
    pub(crate) fn insert(&mut self, first: u64, end: u64) {
        debug_assert!(first < end, "an empty run");
        debug_assert!(!self.overlaps(first, end), "an item finished twice: {first}..{end}");
        self.len += end - first;
        let mut merged = (first, end);
        if let Some((&before, &before_end)) = self.runs.range(..first).next_back()
            && before_end == first
        {
            merged.0 = before;
        }
        if let Some(after_end) = self.runs.remove(&end) {
            merged.1 = after_end;
        }
        self.runs.insert(merged.0, merged.1);
    }

    /// Returns the end of the run that contains `index`; `index` itself if it is not in the set.
    pub(crate) fn end_of_run_at(&self, index: u64) -> u64 {
        match self.runs.range(..=index).next_back() {
            Some((_, &end)) if end > index => end,
            _ => index,
        }
    }

    /// Returns the number of indexes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    fn overlaps(&self, first: u64, end: u64) -> bool {
        self.runs.range(..end).next_back().is_some_and(|(_, &run_end)| run_end > first)
    }
}

#[cfg(test)]
mod tests {
    use super::RunSet;

    #[test]
    fn runs_that_touch_become_one() {
        let mut set = RunSet::default();
        set.insert(0, 2);
        set.insert(4, 6);
        assert_eq!((set.end_of_run_at(0), set.end_of_run_at(2), set.end_of_run_at(5)), (2, 2, 6));
        set.insert(2, 4);
        assert_eq!((set.end_of_run_at(0), set.runs.len(), set.len()), (6, 1, 6));
    }
}
