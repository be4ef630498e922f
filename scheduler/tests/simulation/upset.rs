//! What befalls workers, by the moment of their life, and how often it did: what a simulation does not produce, it does
//! not show.

use std::collections::BTreeMap;

/// Where a worker stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Moment {
    /// It is not ready.
    Starting,
    Idle,
    /// It was given a chunk and has not begun its next item.
    Given,
    /// An item runs.
    Running,
    /// It was told to end.
    Stopping,
}

/// What happened, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Upset {
    /// It ended; so it does when its session panics.
    Exited(Moment),
    /// Nobody knew what of all that it had was begun, and all of that failed before it ended.
    AllFailed(Moment),
    /// The same, while a chunk was being asked back.
    AllFailedWhileAsked,
    /// It was given something new after that.
    GivenAfterAllFailed,
    /// It stood still.
    Stopped(Moment),
    /// It was made to go on.
    MadeToGoOn(Moment),
    /// It stood still again with the same item, and was killed.
    StoppedAgain(Moment),
    /// It was told to end while it stood still.
    StoppedAndTerminated,
    /// It held too much memory.
    Large(Moment),
    /// The time of its item was up.
    Expired(Moment),
    /// It got SIGTERM for an item.
    TerminatedForItem(Moment),
    /// It survived that and got SIGKILL.
    KilledForItem,
    /// A stream was paused, or resumed.
    Paused,
    PausedButForNext,
    Resumed,
    /// Results of a job that had ended were given back.
    GivenBackAfterTheEnd,
    /// A job failed since its answer was too large.
    AnswerTooLarge,
    /// A job failed for want of memory.
    ResultsFull,
}

const EXPECTED: [Upset; 37] = {
    use Moment::{Given, Idle, Running, Starting, Stopping};
    use Upset::{
        AllFailed, AllFailedWhileAsked, AnswerTooLarge, Exited, Expired, GivenAfterAllFailed, GivenBackAfterTheEnd,
        KilledForItem, Large, MadeToGoOn, Paused, PausedButForNext, ResultsFull, Resumed, Stopped, StoppedAgain,
        StoppedAndTerminated, TerminatedForItem,
    };
    [
        Exited(Starting),
        Exited(Idle),
        Exited(Given),
        Exited(Running),
        Exited(Stopping),
        AllFailed(Starting),
        AllFailed(Idle),
        AllFailed(Given),
        AllFailed(Running),
        AllFailed(Stopping),
        AllFailedWhileAsked,
        GivenAfterAllFailed,
        Stopped(Starting),
        Stopped(Idle),
        Stopped(Given),
        Stopped(Running),
        Stopped(Stopping),
        MadeToGoOn(Starting),
        MadeToGoOn(Given),
        MadeToGoOn(Running),
        StoppedAgain(Starting),
        StoppedAgain(Given),
        StoppedAgain(Running),
        StoppedAndTerminated,
        Large(Given),
        Large(Running),
        Expired(Given),
        Expired(Running),
        TerminatedForItem(Given),
        TerminatedForItem(Running),
        KilledForItem,
        Paused,
        PausedButForNext,
        Resumed,
        GivenBackAfterTheEnd,
        AnswerTooLarge,
        ResultsFull,
    ]
};

/// How often each happened.
#[derive(Debug, Default)]
pub(crate) struct Upsets(BTreeMap<Upset, u32>);

impl Upsets {
    pub(crate) fn note(&mut self, upset: Upset) {
        *self.0.entry(upset).or_default() += 1;
    }

    pub(crate) fn add(&mut self, others: &Self) {
        for (&upset, count) in &others.0 {
            *self.0.entry(upset).or_default() += count;
        }
    }

    /// Returns what never happened and should have.
    pub(crate) fn missing(&self) -> Vec<Upset> {
        EXPECTED.into_iter().filter(|upset| !self.0.contains_key(upset)).collect()
    }
}
