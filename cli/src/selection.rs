//! Sets of indexes: what `--only` names, and what an earlier run has done.

use std::str::FromStr;

/// A set of indexes, as small as the ranges that it is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selection {
    /// Rising, and with a gap between each two.
    ranges: Vec<Range>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    first: u64,
    /// `u64::MAX`: there is no last.
    last: u64,
    /// How many indexes the ranges before this one have.
    num_before: u64,
}

impl Selection {
    pub(crate) fn all() -> Self {
        Self::from_ranges(vec![(0, u64::MAX)])
    }

    /// Returns the indexes from the first to the last of each range, in whatever order they are.
    pub(crate) fn from_ranges(mut ranges: Vec<(u64, u64)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<Range> = Vec::new();
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(before) if first <= before.last.saturating_add(1) => before.last = before.last.max(last),
                _ => merged.push(Range { first, last, num_before: 0 }),
            }
        }
        let mut num_before = 0_u64;
        for range in &mut merged {
            range.num_before = num_before;
            num_before = num_before.saturating_add((range.last - range.first).saturating_add(1));
        }
        Self { ranges: merged }
    }

    /// Returns the indexes that are not in here.
    pub(crate) fn complement(&self) -> Self {
        let mut ranges = Vec::new();
        let mut next = Some(0);
        for range in &self.ranges {
            if let Some(first) = next
                && first < range.first
            {
                ranges.push((first, range.first - 1));
            }
            next = range.last.checked_add(1);
        }
        ranges.extend(next.map(|first| (first, u64::MAX)));
        Self::from_ranges(ranges)
    }

    /// Returns the indexes that are in both.
    pub(crate) fn intersection(&self, other: &Self) -> Self {
        // What is in neither complement is in both.
        let mut outside = self.complement().ranges;
        outside.extend(other.complement().ranges);
        Self::from_ranges(outside.iter().map(|range| (range.first, range.last)).collect()).complement()
    }

    pub(crate) fn contains(&self, index: u64) -> bool {
        let after = self.ranges.partition_point(|range| range.first <= index);
        after > 0 && index <= self.ranges[after - 1].last
    }

    /// Returns the index at a position, from 0; `None` if there are not so many.
    pub(crate) fn nth(&self, position: u64) -> Option<u64> {
        let after = self.ranges.partition_point(|range| range.num_before <= position);
        let range = self.ranges.get(after.checked_sub(1)?)?;
        range.first.checked_add(position - range.num_before).filter(|index| *index <= range.last)
    }

    /// Returns how many indexes are below a bound.
    pub(crate) fn count_below(&self, bound: u64) -> u64 {
        let after = self.ranges.partition_point(|range| range.first < bound);
        let Some(range) = after.checked_sub(1).and_then(|at| self.ranges.get(at)) else { return 0 };
        range.num_before + (bound - range.first).min((range.last - range.first).saturating_add(1))
    }

    /// Returns the last index; `u64::MAX` if there is none because they go on for ever, `None` if there is no index.
    pub(crate) fn last(&self) -> Option<u64> {
        self.ranges.last().map(|range| range.last)
    }

    /// Returns the last index that is named, not only meant by a range without an end.
    pub(crate) fn last_named(&self) -> Option<u64> {
        self.ranges.iter().rev().map(|range| range.last).find(|last| *last != u64::MAX)
    }
}

impl FromStr for Selection {
    type Err = String;

    /// Parses `3,8-10,20-`.
    fn from_str(text: &str) -> Result<Self, String> {
        let ranges = text.split(',').map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let last = if last.is_empty() { Some(u64::MAX) } else { parse_index(last) };
            let range = parse_index(first).zip(last).filter(|(first, last)| first <= last);
            range.ok_or_else(|| format!("{part:?} is no index or range; 3,8-10,20- is 3, 8 to 10, and 20 to the end"))
        });
        ranges.collect::<Result<_, _>>().map(Self::from_ranges)
    }
}

fn parse_index(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|index| is_plain && *index < u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(text: &str) -> Selection {
        text.parse().unwrap()
    }

    #[test]
    fn parsing() {
        assert_eq!(selection("3,8-10"), Selection::from_ranges(vec![(8, 10), (3, 3)]));
        assert_eq!(selection("8-10,3,9,4-7"), selection("3-10"));
        assert_eq!(selection("5-,7"), selection("5-"));
        assert_eq!(selection("0-"), Selection::all());
        let no_selections =
            ["", ",", "3,", "a", "-", "-3", "3-2", "1-2-3", "+3", " 3", "3 ", "1..3", "18446744073709551615", "1.0"];
        for text in no_selections {
            assert!(text.parse::<Selection>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn sets_are_what_their_members_say() {
        let sets = ["0", "3,8-10", "0-4,6-", "2-2,4-4,6-6", "5-", "0-", "1-7"].map(selection);
        for set in sets.iter().chain([&selection("0-").complement()]) {
            let members: Vec<u64> = (0..20).filter(|&index| set.contains(index)).collect();
            let by_position: Vec<u64> =
                (0..).map_while(|position| set.nth(position)).take_while(|&at| at < 20).collect();
            assert_eq!(by_position, members, "{set:?}");
            for bound in 0..20 {
                let below = members.iter().filter(|&&index| index < bound).count();
                assert_eq!(set.count_below(bound), below as u64, "{set:?} {bound}");
            }
            for index in 0..20 {
                assert_ne!(set.complement().contains(index), set.contains(index), "{set:?} {index}");
                for other in &sets {
                    let both = set.contains(index) && other.contains(index);
                    assert_eq!(set.intersection(other).contains(index), both, "{set:?} {other:?} {index}");
                }
            }
        }
    }

    #[test]
    fn the_last_index() {
        for (text, last, last_named) in
            [("3,8-10", 10, Some(10)), ("3,8-", u64::MAX, Some(3)), ("8-", u64::MAX, None), ("3-9,8-", u64::MAX, None)]
        {
            assert_eq!((selection(text).last(), selection(text).last_named()), (Some(last), last_named), "{text}");
        }
        assert_eq!(Selection::all().complement().last(), None);
    }
}
