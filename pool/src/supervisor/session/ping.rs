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

use procpool_ipc::proto;
use procpool_ipc::proto::server_frame::Frame as ServerFrame;
use tokio::time::Instant;

use super::Session;
use crate::supervisor::process_group::Process;

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
    pub(super) is_due: bool,
    /// The worker has sent or read something since the last look.
    pub(super) has_stirred: bool,
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

impl<P: Process> Session<P> {
    /// The worker is given a chunk; `was_idle`: it has no other.
    pub(super) fn watch_life(&mut self, was_idle: bool) {
        let now = Instant::now();
        let look_at = now + self.max_silence();
        if was_idle {
            self.ping.given_at = Some(now);
            self.ping.could_begin_since = Some(now);
            self.ping.has_stirred = false;
            self.ping.was_asked = false;
        }
        // Most chunks are done long before the look for the first of them.
        if self.ping.look_at.is_none_or(|at| look_at < at && !self.ping.was_asked) {
            self.ping.look_at = Some(look_at);
        }
    }

    /// The worker is given a common argument of so many bytes, which it decodes when it likes.
    pub(super) fn note_common(&mut self, num_bytes: usize) {
        self.ping.common_bytes = self.ping.common_bytes.max(num_bytes);
    }

    /// The worker has read some of what waited for it.
    pub(super) fn note_read(&mut self) {
        self.ping.has_stirred = true;
        self.ping.could_begin_since = Some(Instant::now());
    }

    /// Looks whether the worker lives.
    pub(super) fn look_for_life(&mut self) {
        let Some(due) = self.ping.look_at.take() else { return };
        // What is there to be read and was not yet must not be held against it.
        self.read_channel();
        let has_stirred = std::mem::take(&mut self.ping.has_stirred);
        let was_asked = std::mem::take(&mut self.ping.was_asked);
        if self.ledger.front().is_none() || self.is_ending {
            return;
        }
        let max_silence = self.max_silence();
        let may_begin_until = self.ping.given_at.map(|given_at| given_at + max_silence).filter(|&at| at > due);
        let is_on_time = due.elapsed() < MAX_LATENESS;
        let (begun, is_running) = (self.begun(), self.progress().is_some());
        let has_begun = std::mem::replace(&mut self.ping.last_begun, begun) != begun;
        if has_begun || is_running || !self.may_read() || !is_on_time {
            self.ping.could_begin_since = Some(Instant::now());
        }
        let lives = has_stirred || !self.may_read() || is_running;
        self.ping.look_at = if self.could_have_begun() {
            self.give_up_lifeless("worker answers, but begins none of its items, and is killed", IDLENESS_REASON);
            None
        } else if lives {
            Some(Instant::now() + max_silence)
        } else if may_begin_until.is_some() {
            may_begin_until
        } else if was_asked && is_on_time {
            self.give_up_lifeless("worker neither begins its items nor answers, and is killed", SILENCE_REASON);
            None
        } else {
            self.ping.was_asked = true;
            if !std::mem::replace(&mut self.ping.is_due, true) {
                self.send(ServerFrame::Ping(proto::Ping::default()));
            }
            Some(Instant::now() + self.pong_timeout())
        };
    }

    fn max_silence(&self) -> Duration {
        let time_limit = self.ledger.front().and_then(|front| front.time_limit);
        time_limit.map_or(MAX_SILENCE, |limit| (limit / 2).clamp(MIN_SILENCE, MAX_SILENCE))
    }

    fn pong_timeout(&self) -> Duration {
        PONG_TIMEOUT + self.decoding_time()
    }

    /// Tells whether it has had all the time in which to begin.
    fn could_have_begun(&self) -> bool {
        let since = self.ping.could_begin_since;
        since.is_some_and(|since| since.elapsed() > BEGIN_TIMEOUT + self.decoding_time())
    }

    #[expect(clippy::cast_precision_loss, reason = "it need not be exact")]
    fn decoding_time(&self) -> Duration {
        let num_bytes = self.ledger.num_bytes() + self.ping.common_bytes;
        Duration::from_secs_f64(num_bytes as f64 / DECODED_BYTES_PER_SECOND)
    }

    fn give_up_lifeless(&mut self, message: &'static str, reason: &'static str) {
        tracing::warn!(
            worker = self.worker.generation,
            slot = self.worker.slot.0,
            pid = self.process.pid(),
            "{message}"
        );
        self.give_up(reason);
    }
}
