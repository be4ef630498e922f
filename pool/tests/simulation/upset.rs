//! What befalls sessions, and processes beyond what their items do to them, by the moment of the worker's life. Each kind
//! is counted: what a simulation does not produce, it does not show.

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
    /// It has got SIGKILL.
    BeingKilled,
}

/// What happened, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Upset {
    /// The session panicked.
    SessionPanics(Moment),
    /// The report of its exit panicked, and nobody knows what had begun.
    ExitReportPanics(Moment),
    /// The same, while a chunk was being asked back.
    ExitReportPanicsWhileAsked,
    /// The channel was full when the driver had something to say.
    ChannelFull(Moment),
    /// The same, when nobody read any more.
    ChannelFullAfterPanic,
    /// The process was stopped.
    Stopped(Moment),
    /// The session made it go on.
    MadeToGoOn(Moment),
    /// It stood still again with the same item, and was killed.
    StoppedAgain(Moment),
    /// It was told to end while it was stopped, by SIGTERM, which comes with SIGCONT.
    StoppedAndTerminated,
    /// It was killed by the driver while it was stopped.
    StoppedAndKilled,
    /// It neither began what it had nor answered, and was killed.
    Silent,
    /// It held too much memory before it had begun what it was given.
    LargeBeforeBegun,
    /// It died before that.
    DeadBeforeBegun,
    /// The time of its item was up.
    ItemExpired(Moment),
    /// It got SIGTERM for an item.
    TerminatedForItem(Moment),
    /// It survived that and got SIGKILL.
    KilledForItem,
}

/// Those that every range of some length must produce.
const EXPECTED: [Upset; 37] = {
    use Moment::{BeingKilled, Given, Idle, Running, Starting, Stopping};
    use Upset::{
        ChannelFull, ChannelFullAfterPanic, DeadBeforeBegun, ExitReportPanics, ExitReportPanicsWhileAsked, ItemExpired,
        KilledForItem, LargeBeforeBegun, MadeToGoOn, SessionPanics, Silent, Stopped, StoppedAgain, StoppedAndKilled,
        StoppedAndTerminated, TerminatedForItem,
    };
    [
        SessionPanics(Starting),
        SessionPanics(Idle),
        SessionPanics(Given),
        SessionPanics(Running),
        SessionPanics(Stopping),
        SessionPanics(BeingKilled),
        ExitReportPanics(Starting),
        ExitReportPanics(Idle),
        ExitReportPanics(Given),
        ExitReportPanics(Running),
        ExitReportPanics(Stopping),
        ExitReportPanics(BeingKilled),
        ExitReportPanicsWhileAsked,
        ChannelFull(Idle),
        ChannelFull(Given),
        ChannelFull(Running),
        ChannelFull(Stopping),
        ChannelFullAfterPanic,
        Stopped(Starting),
        Stopped(Idle),
        Stopped(Given),
        Stopped(Running),
        Stopped(Stopping),
        MadeToGoOn(Starting),
        MadeToGoOn(Given),
        MadeToGoOn(Running),
        StoppedAgain(Given),
        StoppedAgain(Running),
        StoppedAndTerminated,
        StoppedAndKilled,
        Silent,
        LargeBeforeBegun,
        DeadBeforeBegun,
        ItemExpired(Running),
        TerminatedForItem(Given),
        TerminatedForItem(Running),
        KilledForItem,
    ]
};

/// How often each happened.
#[derive(Debug, Default, Clone)]
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
