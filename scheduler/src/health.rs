//! What the workers that a slot lost tell about it, and so when its next worker starts.
//!
//! [`SlotHealth`] is a state machine, and [`SlotHealth::after`] all of its transitions; `pool/starts` says what happens
//! when, and why there are these states. The wording (intensity in a period) is that of Erlang's supervisors.

use std::collections::VecDeque;
use std::time::Duration;

use crate::backoff::{Rng, exponential};
use crate::id::SlotId;
use crate::time::Time;

/// A worker that has finished nothing has proved itself all the same when it has lived for this long after Ready.
pub(crate) const PROOF_TIME: Duration = Duration::from_secs(1);
/// The wait after a worker failed to start; each further failure doubles it.
const START_BACKOFF: Duration = Duration::from_millis(100);
/// The longest wait after a worker failed to start.
const MAX_START_BACKOFF: Duration = Duration::from_secs(30);
/// The wait after the system had nothing to start a worker with, doubled likewise.
const SHORTAGE_BACKOFF: Duration = Duration::from_millis(50);
/// The longest such wait: under half a second with the jitter, since a shortage ends as suddenly as it begins.
const MAX_SHORTAGE_BACKOFF: Duration = Duration::from_millis(400);
/// The wait after a worker was lost, twice in a row, before it finished any item.
const CRASH_BACKOFF: Duration = Duration::from_millis(50);
/// The longest wait after workers that had been ready were lost: the user's items crash them, and callers wait.
const MAX_CRASH_BACKOFF: Duration = Duration::from_secs(1);
/// A slot is held when it loses this many workers in a row that finished nothing, and no other slot loses any.
const HOLD_AFTER: u32 = 3;
/// For how long a slot is held; doubled each time that its next worker finishes nothing, either.
const HOLD: Duration = Duration::from_secs(30);
/// The longest that a slot is held.
const MAX_HOLD: Duration = Duration::from_secs(300);
/// This many failed starts ...
const INTENSITY: usize = 5;
/// ... within this time, and no worker is left: the pool is degraded.
const PERIOD: Duration = Duration::from_secs(30);

/// What is known of a slot. A finished item makes it sound from any state.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SlotHealth {
    /// Nothing speaks against it. A worker that is lost is replaced at once.
    #[default]
    Sound,
    /// It has lost workers that finished nothing. Its worker gets one item at a time, after the other slots. The first
    /// that is lost is replaced at once, the others after a wait that doubles up to a second.
    Probation(Losses),
    /// It has lost several in a row while others worked, and was held. While it has no worker it is not waited for. The
    /// next starts after half a minute to five minutes, or at once on a restart, or if every slot is held; that one is
    /// on probation, and the slot is held again as soon as it is lost.
    Held(Losses),
    /// Its workers do not start, or end at once with nothing to do. Of all such slots, one tries at a time, ever more
    /// slowly, the one first that has failed for longest. When any worker proves itself, they all start theirs.
    Failing { since: Time, losses: Losses },
}

/// The workers that a slot has lost since one finished an item.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Losses {
    /// How many had been ready and finished nothing.
    count: u32,
    /// The last was lost soon after it was ready: that the next is ready proves nothing.
    died_young: bool,
    /// How often the slot has been held.
    holds: u32,
}

/// What changes the health of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Its worker did not start, or ended at once with nothing to do.
    StartFailed { at: Time },
    /// A worker of another slot has proved itself: starts may work again.
    StartsWorkElsewhere,
    /// A worker was lost that had been ready and finished nothing.
    LostWorker { died_young: bool },
    /// It gets no worker for a while.
    Hold,
    /// Its worker has proved itself: it was ready, or has lived on for a while.
    Proof,
    /// Its worker has finished an item.
    ItemFinished,
}

impl SlotHealth {
    /// Returns the state after this finding.
    #[must_use]
    pub(crate) fn after(self, finding: Finding) -> Self {
        let losses = self.losses();
        match (self, finding) {
            (_, Finding::ItemFinished) => Self::Sound,
            (_, Finding::StartFailed { at }) => Self::Failing { since: at, losses },
            (_, Finding::StartsWorkElsewhere) => losses.health(),
            (_, Finding::Proof) => Losses { died_young: false, ..losses }.health(),
            (_, Finding::Hold) => Losses { holds: losses.holds + 1, ..losses }.health(),
            (Self::Failing { since, .. }, Finding::LostWorker { died_young }) => {
                Self::Failing { since, losses: losses.and_another(died_young) }
            }
            (_, Finding::LostWorker { died_young }) => losses.and_another(died_young).health(),
        }
    }

    fn losses(self) -> Losses {
        match self {
            Self::Sound => Losses::default(),
            Self::Probation(losses) | Self::Held(losses) | Self::Failing { losses, .. } => losses,
        }
    }

    /// Returns since when its starts have been failing.
    pub(crate) fn failing_since(self) -> Option<Time> {
        if let Self::Failing { since, .. } = self { Some(since) } else { None }
    }

    /// Returns whether a worker is to finish an item before it is given more than one at a time.
    pub(crate) fn is_on_probation(self) -> bool {
        self.losses().count > 0
    }

    /// Returns whether it has been held, and no worker has finished an item since.
    pub(crate) fn was_held(self) -> bool {
        self.losses().holds > 0
    }

    /// Returns whether a worker that is ready has proved itself by that.
    pub(crate) fn trusts_ready(self) -> bool {
        !self.losses().died_young
    }

    /// Returns how long to wait after [`Finding::LostWorker`]: nothing the first time.
    pub(crate) fn crash_backoff(self, rng: &mut Rng) -> Duration {
        match self.losses().count.checked_sub(2) {
            None => Duration::ZERO,
            Some(doublings) => rng.jitter(exponential(CRASH_BACKOFF, doublings, MAX_CRASH_BACKOFF)),
        }
    }

    /// Returns how long to wait after [`Finding::Hold`].
    pub(crate) fn hold_time(self, rng: &mut Rng) -> Duration {
        rng.jitter(exponential(HOLD, self.losses().holds.saturating_sub(1), MAX_HOLD))
    }
}

impl Losses {
    fn and_another(self, died_young: bool) -> Self {
        Self { count: self.count + 1, died_young, ..self }
    }

    /// Returns the state of a slot whose starts do not fail.
    fn health(self) -> SlotHealth {
        match self {
            Self { holds: 1.., .. } => SlotHealth::Held(self),
            Self { count: 1.., .. } => SlotHealth::Probation(self),
            _ => SlotHealth::Sound,
        }
    }
}

/// Returns how long to wait when the system had nothing to start a worker with, after so many shortages in a row.
pub(crate) fn shortage_backoff(before: u32, rng: &mut Rng) -> Duration {
    rng.jitter(exponential(SHORTAGE_BACKOFF, before, MAX_SHORTAGE_BACKOFF))
}

/// The slot that lost the last worker. While others lose none, that is its own fault.
#[derive(Debug, Default)]
pub(crate) struct LossStreak {
    slot: Option<SlotId>,
    /// How many it has lost since any other lost one that finished nothing, and for no reason that others would have had
    /// as well.
    count: u32,
}

impl LossStreak {
    /// A slot has lost a worker.
    pub(crate) fn lost_worker(&mut self, slot: SlotId) {
        if self.slot != Some(slot) {
            *self = Self { slot: Some(slot), count: 0 };
        }
    }

    /// The one that was just lost has finished nothing, by the fault of its slot as far as is known. Returns whether the
    /// slot has lost enough to be held.
    pub(crate) fn blame_slot(&mut self) -> bool {
        self.count += 1;
        self.count >= HOLD_AFTER
    }

    /// A slot works, or starts anew.
    pub(crate) fn forget(&mut self, slot: SlotId) {
        if self.slot == Some(slot) {
            self.count = 0;
        }
    }
}

/// The failed starts of all slots, lately.
#[derive(Debug, Default)]
pub(crate) struct StartFailures {
    recent: VecDeque<Time>,
    /// How often in a row the one slot that tries has failed.
    tries: u32,
}

impl StartFailures {
    /// Remembers a failed start; returns whether there have been too many lately.
    pub(crate) fn record(&mut self, now: Time) -> bool {
        self.recent.push_back(now);
        while self.recent.len() > INTENSITY {
            self.recent.pop_front();
        }
        let oldest = *self.recent.front().expect("one was just added");
        self.recent.len() == INTENSITY && now.since(oldest) <= PERIOD
    }

    /// Some worker has proved itself.
    pub(crate) fn forget(&mut self) {
        self.recent.clear();
    }

    /// The slot that tries for all that fail has failed again.
    pub(crate) fn tried_in_vain(&mut self) {
        self.tries += 1;
    }

    /// No slot tries any more, since it has worked or since there is none.
    pub(crate) fn end_tries(&mut self) {
        self.tries = 0;
    }

    /// Returns how long the next slot waits before it tries.
    pub(crate) fn backoff(&self, rng: &mut Rng) -> Duration {
        rng.jitter(exponential(START_BACKOFF, self.tries, MAX_START_BACKOFF))
    }
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
