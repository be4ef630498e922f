//! What speaks against an item, or against a job, when workers die with it at hand and nobody can see whether that was
//! its fault or the slot's.
//!
//! It may be the slot's: one where every worker dies at once would otherwise fail any item. So a death counts if it comes
//! after one in another slot, or if the slot has finished something in between, or if there is no other slot. What does
//! not count is bounded, too: after two in a row in a slot the others have half a minute to show whose fault it is, and
//! in the end all deaths together are enough.

use std::time::Duration;

use crate::id::SlotId;
use crate::time::Time;

/// After so many deaths in a row in one slot it is left to the others for a while.
const PATIENCE: u32 = 2;
/// For how long.
const LEFT_TO_OTHERS_FOR: Duration = Duration::from_secs(30);
/// All deaths together are enough at so many times the limit for those that count.
const ALL_TO_COUNTED: u32 = 3;

/// A worker that died with something at hand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Death {
    pub(crate) slot: SlotId,
    /// How many items the slot had finished by then, ever.
    pub(crate) finished_there: u64,
    /// Another slot could show whose fault it is.
    pub(crate) has_other_slot: bool,
    pub(crate) at: Time,
}

/// The workers that died with one thing at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deaths {
    /// Those that count.
    counted: u32,
    all: u32,
    /// Where the last one was.
    slot: Option<SlotId>,
    /// How many there were in a row, while that slot finished nothing.
    in_a_row: u32,
    /// How many items that slot had finished at the last one.
    finished_there: u64,
    last_at: Time,
}

impl Deaths {
    pub(crate) const NONE: Self =
        Self { counted: 0, all: 0, slot: None, in_a_row: 0, finished_there: 0, last_at: Time::ZERO };

    /// Records a death. Returns whether it counts.
    pub(crate) fn record(&mut self, death: Death) -> bool {
        let slot_has_worked = death.finished_there > self.finished_there;
        let is_again = self.slot == Some(death.slot) && !slot_has_worked;
        let counts = !is_again || !death.has_other_slot;
        *self = Self {
            counted: self.counted + u32::from(counts),
            all: self.all + 1,
            slot: Some(death.slot),
            in_a_row: if is_again { self.in_a_row + 1 } else { 1 },
            finished_there: death.finished_there,
            last_at: death.at,
        };
        counts
    }

    /// Returns how many deaths are too many, if these are. `limit`: for those that count.
    pub(crate) fn too_many(&self, limit: u32) -> Option<u32> {
        if self.counted >= limit {
            return Some(self.counted);
        }
        (self.all >= limit.saturating_mul(ALL_TO_COUNTED)).then_some(self.all)
    }

    /// Returns the slot of the last one.
    pub(crate) fn slot(&self) -> Option<SlotId> {
        self.slot
    }

    /// Returns when the last one was.
    pub(crate) fn last_at(&self) -> Time {
        self.last_at
    }

    /// Returns until when what died in this slot is left to the others, if there are any. `finished_there`: how many
    /// items the slot has finished by now.
    pub(crate) fn left_to_others_until(&self, slot: SlotId, finished_there: u64) -> Option<Time> {
        let is_slot = self.slot == Some(slot) && self.in_a_row >= PATIENCE && finished_there == self.finished_there;
        is_slot.then(|| self.last_at.after(LEFT_TO_OTHERS_FOR))
    }
}

#[cfg(test)]
mod tests {
    use super::{Death, Deaths, LEFT_TO_OTHERS_FOR};
    use crate::id::SlotId;
    use crate::time::Time;

    fn death(slot: u32, finished_there: u64, has_other_slot: bool) -> Death {
        Death { slot: SlotId(slot), finished_there, has_other_slot, at: Time::ZERO }
    }

    #[test]
    fn a_death_counts_that_is_not_the_slots_fault() {
        let mut deaths = Deaths::NONE;
        assert!(deaths.record(death(0, 0, true)));
        assert!(!deaths.record(death(0, 0, true)), "it may be the slot's");
        assert!(deaths.record(death(1, 0, true)), "another slot");
        assert!(deaths.record(death(1, 5, true)), "the slot works");
        assert!(deaths.record(death(1, 5, false)), "there is no other slot");
        assert_eq!((deaths.too_many(4), deaths.too_many(5)), (Some(4), None));
    }

    #[test]
    fn after_two_in_one_slot_it_is_left_to_the_others_for_a_while_and_not_tried_for_ever() {
        let mut deaths = Deaths::NONE;
        deaths.record(death(0, 7, true));
        assert_eq!(deaths.left_to_others_until(SlotId(0), 7), None);
        deaths.record(death(0, 7, true));
        assert_eq!(deaths.left_to_others_until(SlotId(0), 7), Some(Time::ZERO.after(LEFT_TO_OTHERS_FOR)));
        assert_eq!(deaths.left_to_others_until(SlotId(1), 7), None);
        assert_eq!(deaths.left_to_others_until(SlotId(0), 8), None, "the slot works");
        (0..6).for_each(|_| _ = deaths.record(death(0, 7, true)));
        assert_eq!(deaths.too_many(3), None);
        deaths.record(death(0, 7, true));
        assert_eq!(deaths.too_many(3), Some(9));
    }
}
