//! A sign of life, asked of a worker that has something to run and does not begin it.
//!
//! One that runs an item may be silent for as long as it likes: that is for its time limit to judge. But between two
//! items nothing bounds the time of a worker that was stopped, or is deadlocked. So it is asked after a while, and killed
//! if it does not answer: nothing of what it has was begun, and all of it may run elsewhere.
//!
//! An answer shows that its reader lives, not that it will ever begin: one whose main thread is deadlocked answers, too. So
//! it is believed for a minute. To begin comes before all that takes long, by the protocol.
//!
//! To kill one that lives is worse than to be late. Whatever comes from it counts, an answer or not, and so does that it
//! reads.

use std::time::Duration;

use tokio::time::Instant;

/// How long a worker may take to begin what it was given, or to say something, before it is asked.
const MAX_SILENCE: Duration = Duration::from_secs(1);
/// The least of that for items with a time limit. It is half of the limit then, so that a worker that does not live is
/// found within the limit and two seconds.
const MIN_SILENCE: Duration = Duration::from_millis(100);
/// How long it may take to answer. Long, since a busy machine is no reason to kill it.
const PONG_TIMEOUT: Duration = Duration::from_millis(1800);
/// How long it may answer and yet begin nothing.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(60);
/// How much a worker decodes in a second, at the least: for large items it has so much longer, since decoding them may
/// hold an interpreter's lock, and comes before the first begins.
const DECODED_BYTES_PER_SECOND: f64 = (8 << 20) as f64;
/// If this process wakes up so much too late, the whole machine may have stood still, and the worker with it.
const MAX_LATENESS: Duration = Duration::from_millis(500);

/// Why a worker is killed that does not live.
const SILENCE_REASON: &str = "it neither began its items nor answered";
/// Why a worker is killed that lives, and does nothing.
const IDLENESS_REASON: &str = "it answered, but began none of its items for a minute";

/// What is known of the life of a worker that has something to run.
#[derive(Debug, Default)]
pub(super) struct Ping {
    /// The Pong has not come.
    is_due: bool,
    /// The worker has sent or read something since the last look.
    has_stirred: bool,
    /// When to look next. Set while it has something to run, and until the next look after that.
    pub(super) look_at: Option<Instant>,
    /// When it was given something to run, having had nothing.
    given_at: Option<Instant>,
    /// It was asked at the last look.
    was_asked: bool,
    /// The last item that it was seen to have begun.
    last_begun: u64,
    /// Since when it could have begun another.
    could_begin_since: Option<Instant>,
    /// How long the longest common argument is that it was given.
    common_bytes: usize,
}

/// What is seen of a worker that has something to run.
#[derive(Debug)]
pub(super) struct Seen {
    /// The sequence number of the item that it began last.
    pub(super) begun: u64,
    /// It runs an item, or has said more than there is room for.
    pub(super) is_active: bool,
    /// The longest that an item of its first chunk may run.
    pub(super) time_limit: Option<Duration>,
    /// How long its items are, all together.
    pub(super) num_bytes: usize,
}

/// What a look calls for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing.
    Fine,
    /// It is to be asked.
    Ask,
    /// It is to be killed.
    Lifeless {
        /// For the log.
        message: &'static str,
        /// Why, as the end of a sentence about the worker.
        reason: &'static str,
    },
}

impl Ping {
    /// The worker is given a chunk; `was_idle`: it has no other. `time_limit`: that of the first chunk that it has.
    pub(super) fn chunk_given(&mut self, was_idle: bool, time_limit: Option<Duration>) {
        let now = Instant::now();
        let look_at = now + max_silence(time_limit);
        if was_idle {
            self.given_at = Some(now);
            self.could_begin_since = Some(now);
            self.has_stirred = false;
            self.was_asked = false;
        }
        // Most chunks are done long before the look for the first of them.
        if self.look_at.is_none_or(|at| look_at < at && !self.was_asked) {
            self.look_at = Some(look_at);
        }
    }

    /// The worker is given a common argument of so many bytes, which it decodes when it likes.
    pub(super) fn common_given(&mut self, num_bytes: usize) {
        self.common_bytes = self.common_bytes.max(num_bytes);
    }

    /// The worker has read some of what waited for it.
    pub(super) fn has_read(&mut self) {
        self.has_stirred = true;
        self.could_begin_since = Some(Instant::now());
    }

    /// The worker has sent something.
    pub(super) fn has_sent(&mut self) {
        self.has_stirred = true;
    }

    /// The worker answers. `false` if it was not asked.
    pub(super) fn take_pong(&mut self) -> bool {
        std::mem::take(&mut self.is_due)
    }

    /// Looks whether the worker lives; `None` if it has nothing to run, or is ending.
    pub(super) fn look(&mut self, seen: Option<Seen>) -> Look {
        let due = self.look_at.take();
        let has_stirred = std::mem::take(&mut self.has_stirred);
        let was_asked = std::mem::take(&mut self.was_asked);
        let (Some(due), Some(Seen { begun, is_active, time_limit, num_bytes })) = (due, seen) else {
            return Look::Fine;
        };
        let max_silence = max_silence(time_limit);
        let may_begin_until = self.given_at.map(|given_at| given_at + max_silence).filter(|&at| at > due);
        let is_on_time = due.elapsed() < MAX_LATENESS;
        let has_begun = std::mem::replace(&mut self.last_begun, begun) != begun;
        if has_begun || is_active || !is_on_time {
            self.could_begin_since = Some(Instant::now());
        }
        let decoding_time = self.decoding_time(num_bytes);
        if self.could_begin_since.is_some_and(|since| since.elapsed() > BEGIN_TIMEOUT + decoding_time) {
            let message = "worker answers, but begins none of its items, and is killed";
            return Look::Lifeless { message, reason: IDLENESS_REASON };
        }
        if has_stirred || is_active {
            self.look_at = Some(Instant::now() + max_silence);
        } else if may_begin_until.is_some() {
            self.look_at = may_begin_until;
        } else if was_asked && is_on_time {
            let message = "worker neither begins its items nor answers, and is killed";
            return Look::Lifeless { message, reason: SILENCE_REASON };
        } else {
            self.was_asked = true;
            self.look_at = Some(Instant::now() + PONG_TIMEOUT + decoding_time);
            if !std::mem::replace(&mut self.is_due, true) {
                return Look::Ask;
            }
        }
        Look::Fine
    }

    #[expect(clippy::cast_precision_loss, reason = "it need not be exact")]
    fn decoding_time(&self, num_bytes: usize) -> Duration {
        Duration::from_secs_f64((num_bytes + self.common_bytes) as f64 / DECODED_BYTES_PER_SECOND)
    }
}

fn max_silence(time_limit: Option<Duration>) -> Duration {
    time_limit.map_or(MAX_SILENCE, |limit| (limit / 2).clamp(MIN_SILENCE, MAX_SILENCE))
}
