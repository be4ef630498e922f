//! The plan: every job, its items and its end, determined by the seed alone.

use std::time::Duration;

use fastrand::Rng;

/// The most items of a job.
const MAX_JOB_ITEMS: u64 = 400;
/// One item in this many has a fault, at the full run's ratio of items to kills.
const VICES_PER_KILL: f64 = 0.25;

/// The parameters of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) kills: u64,
    pub(crate) items: u64,
    pub(crate) is_idempotent: bool,
}

/// Which pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Language {
    Rust,
    Python,
}

impl Language {
    pub(crate) const ALL: [Self; 2] = [Self::Rust, Self::Python];

    /// Returns the name of the pool, and the beginning of the names of its functions.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Python => "python",
        }
    }
}

/// How a job is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Map,
    StarMap,
    IMap,
    IMapUnordered,
    IMapStream,
    IMapStreamUnordered,
}

impl Verb {
    const ALL: [Self; 6] =
        [Self::Map, Self::StarMap, Self::IMap, Self::IMapUnordered, Self::IMapStream, Self::IMapStreamUnordered];

    pub(crate) fn is_stream(self) -> bool {
        !matches!(self, Self::Map | Self::StarMap)
    }

    pub(crate) fn is_ordered(self) -> bool {
        matches!(self, Self::IMap | Self::IMapStream)
    }
}

/// How a job ends if nothing fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Every item has an outcome.
    Complete,
    /// As before, or the job fails with the first failed item.
    FailFast,
    /// The client goes away after this time, or after this many results.
    Leave { after: Duration, results: u64 },
    /// The call has this long.
    Deadline(Duration),
}

/// A call.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) number: u64,
    pub(crate) language: Language,
    pub(crate) verb: Verb,
    pub(crate) ending: Ending,
    /// The number of its first item; the others follow it.
    pub(crate) first: u64,
    pub(crate) tasks: Vec<Task>,
    /// 0: as the function says.
    pub(crate) max_attempts: u32,
    /// 0: chosen by the server.
    pub(crate) chunk_size: u32,
    pub(crate) priority: i32,
    /// Items are JSON text instead of protobuf values.
    pub(crate) is_json: bool,
    /// The reader takes a rest after each result.
    pub(crate) reader_rests: bool,
    /// The client has a connection of its own.
    pub(crate) has_own_connection: bool,
}

/// What one item does.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) what: String,
    pub(crate) microseconds: u64,
}

/// The vices of items, and how often each is chosen.
const VICES: [(&str, u32); 7] =
    [("segv", 9), ("exit", 4), ("memory", 4), (LEAK, 3), ("garbage", 4), ("giant", 2), ("torn", 2)];
/// The vice of an item that takes memory until the server kills its worker for that.
pub(crate) const LEAK: &str = "leak";

impl Plan {
    /// Returns the nonce of an item.
    pub(crate) fn nonce(&self, item: u64) -> u64 {
        Rng::with_seed(self.seed ^ item.wrapping_mul(0x9e37_79b9_7f4a_7c15)).u64(0..1 << 31)
    }

    /// Returns how often an item of this job may be executed.
    pub(crate) fn most_executions(&self, job: &Job) -> u32 {
        match (self.is_idempotent, job.max_attempts) {
            (true, 0) => 3,
            (_, attempts) => attempts.max(1),
        }
    }

    /// Returns a job, which begins with the item `first`; `None` if there are no more items.
    pub(crate) fn job(&self, number: u64, first: u64) -> Option<Job> {
        let rng = &mut Rng::with_seed(self.seed.wrapping_add(number.wrapping_mul(0xd134_2543_de82_ef95)));
        let most = if rng.u8(..8) == 0 { 8 } else { MAX_JOB_ITEMS };
        let count = rng.u64(1..=most).min(self.items - first);
        if count == 0 {
            return None;
        }
        // Python's share is small, since a Python worker takes a tenth of a second of CPU time to start.
        let language = if rng.u8(..6) == 0 { Language::Python } else { Language::Rust };
        let verb = Verb::ALL[rng.usize(..Verb::ALL.len())];
        let ending = match rng.u8(..20) {
            0..=12 => Ending::Complete,
            13..=15 => Ending::FailFast,
            16..=18 => {
                Ending::Leave { after: Duration::from_millis(rng.u64(0..200)), results: rng.u64(0..count.div_ceil(2)) }
            }
            _ => Ending::Deadline(Duration::from_millis(rng.u64(5..1000))),
        };
        let slowest = [0, 0, 500, 3_000, 8_000][rng.usize(..5)];
        let tasks = (0..count).map(|_| self.task(rng, ending, slowest)).collect();
        let attempts: &[u32] = if self.is_idempotent { &[0, 2, 3] } else { &[0, 1] };
        Some(Job {
            number,
            language,
            verb,
            ending,
            first,
            tasks,
            max_attempts: attempts[rng.usize(..attempts.len())],
            chunk_size: [0, 0, 0, 1, 7, 50][rng.usize(..6)],
            priority: [-2, 0, 0, 1, 4][rng.usize(..5)],
            is_json: rng.bool(),
            reader_rests: rng.u8(..4) == 0,
            has_own_connection: rng.u8(..3) == 0,
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
    fn task(&self, rng: &mut Rng, ending: Ending, slowest: u64) -> Task {
        let microseconds = rng.u64(0..=slowest);
        let vices_per_item = VICES_PER_KILL * self.kills as f64 / self.items as f64;
        // If an item may be dropped, it is unknown whether its fault occurred.
        let what = if ending == Ending::Complete && rng.f64() < vices_per_item / 0.65 {
            let times = if rng.u8(..4) == 0 { "always" } else { "once" };
            format!("{}!{times}", vice(rng))
        } else {
            match rng.u8(..100) {
                0 => "raise".to_owned(),
                1 => "print".to_owned(),
                _ => String::new(),
            }
        };
        Task { what, microseconds }
    }
}

fn vice(rng: &mut Rng) -> &'static str {
    let total: u32 = VICES.iter().map(|(_, weight)| weight).sum();
    let mut rest = rng.u32(..total);
    for (name, weight) in VICES {
        match rest.checked_sub(weight) {
            None => return name,
            Some(less) => rest = less,
        }
    }
    unreachable!("the rest is less than the sum")
}
