//! How much memory the results of a pool take, and how much of it each job may take. What follows from that is in
//! `pool/results.rs`.
//!
//! Items are admitted before they are held. Results cannot be: whoever ran the item has them already. So they are
//! counted, from the event that brings them until their reader has given them back. What was running when a limit was
//! reached may still exceed it by its own results.
//!
//! Jobs that deliver all together and streams have a budget each: neither should pay for the other. The first hold their
//! results until they end, which may be late, and fail when the budget is used up; the second depend on their readers,
//! and are paused. At first each job may hold what it likes. When a part of the budget is used, none may hold more than
//! its share of the next part, so that small jobs get on beside large ones, and all of them stay within the budget.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{Hold, ResultSize};
use crate::id::JobId;
use crate::job_spec::Delivery;

/// The part of the memory that is for streams.
const STREAMS_DIVISOR: u64 = 4;

/// The budgets of a pool, and who keeps more of them than it should.
#[derive(Debug)]
pub(crate) struct ResultBudgets {
    pub(crate) whole: Budget,
    pub(crate) streams: Budget,
    /// How much of the streams' budget was used when those that are paused were last looked at.
    pub(crate) level: Level,
    /// The streams that are paused, by how much they hold.
    pub(crate) paused: BTreeSet<(u64, JobId)>,
    /// The jobs that have ended and whose readers still hold results, and how much that is. Bounded by the bytes.
    pub(crate) ended: BTreeMap<JobId, (Delivery, u64)>,
}

/// What the results of all jobs of one sort may take, in bytes.
#[derive(Debug)]
pub(crate) struct Budget {
    pub(crate) limit: u64,
    /// As long as no more is used, each job may hold what it likes.
    free: u64,
    /// What jobs share then.
    shared: u64,
    /// May be more than the limit.
    pub(crate) used: u64,
    /// The jobs that there are, and those that have ended and whose readers still hold results.
    pub(crate) num_jobs: u64,
}

/// How much of a budget is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// So little that each job may hold what it likes.
    Free,
    /// No more than all jobs together should need.
    Shared,
    /// More than that.
    Full,
    /// More than the limit.
    Over,
}

/// The results of one job.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct HeldResults {
    /// What they take in memory, from the event that brings them until they are given back.
    pub(crate) bytes: u64,
    /// What they would take in an answer.
    pub(crate) answer_bytes: u64,
    /// How many of a stream are on their way to the reader, or in its hands.
    pub(crate) delivered: u64,
}

impl Budget {
    pub(crate) fn level(&self) -> Level {
        match self.used {
            used if used <= self.free => Level::Free,
            used if used <= self.free + self.shared => Level::Shared,
            used if used <= self.limit => Level::Full,
            _ => Level::Over,
        }
    }

    /// Returns how much a job may hold.
    pub(crate) fn share(&self) -> u64 {
        if self.used <= self.free { u64::MAX } else { self.shared / self.num_jobs.max(1) }
    }
}

fn changed(bytes: u64, change: i64) -> u64 {
    debug_assert!(bytes.checked_add_signed(change).is_some(), "{bytes} bytes can't change by {change}");
    bytes.saturating_add_signed(change)
}

impl ResultBudgets {
    pub(crate) fn new(limit: u64) -> Self {
        let streams = limit / STREAMS_DIVISOR;
        let whole = limit - streams;
        let budget = |limit, free, shared| Budget { limit, free, shared, used: 0, num_jobs: 0 };
        Self {
            whole: budget(whole, whole - whole / 8, whole / 8),
            // It is bad when a job fails, and not when a stream is paused: what was running needs room, too.
            streams: budget(streams, streams / 4, streams / 4),
            level: Level::Free,
            paused: BTreeSet::new(),
            ended: BTreeMap::new(),
        }
    }

    pub(crate) fn of(&mut self, delivery: Delivery) -> &mut Budget {
        if delivery == Delivery::Whole { &mut self.whole } else { &mut self.streams }
    }

    /// Counts results of a job that has not ended.
    pub(crate) fn count(&mut self, job: JobId, delivery: Delivery, held: &mut HeldResults, size: ResultSize) {
        let before = held.bytes;
        held.bytes = changed(before, size.held);
        held.answer_bytes = changed(held.answer_bytes, size.answer);
        let budget = self.of(delivery);
        budget.used = budget.used - before + held.bytes;
        if self.paused.remove(&(before, job)) {
            self.paused.insert((held.bytes, job));
        }
    }

    /// A job has ended: what its readers hold, and the driver still stores, counts until it is given back.
    pub(crate) fn end_job(&mut self, job: JobId, delivery: Delivery, held: &HeldResults) {
        self.paused.remove(&(held.bytes, job));
        self.ended.insert(job, (delivery, held.bytes));
        self.count_of_ended(job, 0);
    }

    /// Counts results of a job that has ended.
    pub(crate) fn count_of_ended(&mut self, job: JobId, change: i64) {
        let Some((delivery, before)) = self.ended.remove(&job) else {
            return debug_assert!(false, "nobody holds results of job {job}");
        };
        let after = changed(before, change);
        let budget = self.of(delivery);
        budget.used = budget.used - before + after;
        if after == 0 {
            budget.num_jobs -= 1;
        } else {
            self.ended.insert(job, (delivery, after));
        }
    }

    /// Returns what of a stream is not to begin.
    pub(crate) fn hold_of(&self, held: &HeldResults) -> Hold {
        let level = self.streams.level();
        if level <= Level::Shared && held.bytes <= self.streams.share() {
            Hold::Nothing
        } else if held.delivered == 0 && (held.bytes > 0 || level < Level::Over) {
            Hold::AllButNext
        } else {
            Hold::All
        }
    }
}
