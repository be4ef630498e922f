//! Making a refused call again, as gRFC A6 describes it.
//!
//! Only what has provably not started: the server says so (its error comes with a time to try again), or the request
//! never left. And only before the first message of the answer, within the deadline, and as long as most calls succeed.

use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tonic::Status;

use crate::error::CallError;
use crate::status::{Refusal, call_error, refusal};

/// When a call that the server refused is made again: only when nothing of it has started, so nothing runs twice.
///
/// ```
/// use procpool_client::{Client, RetryPolicy};
///
/// let patient = Client::builder().retry(RetryPolicy::default().max_attempts(10));
/// let strict = Client::builder().retry(RetryPolicy::none());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    max_attempts: u32,
    initial_backoff: Duration,
    max_backoff: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { max_attempts: 4, initial_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(5) }
    }
}

impl RetryPolicy {
    /// Every refusal is an error at once.
    #[must_use]
    pub fn none() -> Self {
        Self { max_attempts: 1, ..Self::default() }
    }

    /// Sets how often a call is made in all. Default 4.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// Sets the longest wait before the second attempt, which doubles with each further one, and the most that it may
    /// become. The wait is random, from nothing up to this. Where the server says when to come again, that holds.
    /// Default 100 ms and 5 s.
    #[must_use]
    pub fn backoff(mut self, initial: Duration, max: Duration) -> Self {
        self.initial_backoff = initial;
        self.max_backoff = max;
        self
    }

    /// Returns the longest wait after this many waits whose length the server did not choose.
    fn longest_wait(&self, num_waits: u32) -> Duration {
        self.initial_backoff.saturating_mul(1 << num_waits.min(20)).min(self.max_backoff)
    }
}

type Notice = dyn Fn(&CallError, Duration) + Send + Sync;

/// What is called before a refused call is made again.
#[derive(Clone)]
pub(crate) struct RetryNotice(Arc<Notice>);

impl RetryNotice {
    pub(crate) fn new(notice: impl Fn(&CallError, Duration) + Send + Sync + 'static) -> Self {
        Self(Arc::new(notice))
    }
}

impl fmt::Debug for RetryNotice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("RetryNotice")
    }
}

/// Limits retries against an overloaded server: a bucket of tokens that all calls of a client share. A refused call
/// costs one, a call that succeeds earns a tenth; below half of them nothing is tried again.
#[derive(Debug)]
pub(crate) struct Throttle {
    tenths: AtomicU32,
}

const MAX_TENTHS: u32 = 100;
const FAILURE_TENTHS: u32 = 10;

impl Throttle {
    pub(crate) fn new() -> Self {
        Self { tenths: AtomicU32::new(MAX_TENTHS) }
    }

    fn change(&self, change: impl Fn(u32) -> u32) -> u32 {
        let before = self.tenths.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tenths| Some(change(tenths)));
        change(before.unwrap_or_else(|tenths| tenths))
    }

    fn succeeded(&self) {
        self.change(|tenths| (tenths + 1).min(MAX_TENTHS));
    }

    /// Returns whether something may be tried again.
    fn refused(&self) -> bool {
        self.change(|tenths| tenths.saturating_sub(FAILURE_TENTHS)) > MAX_TENTHS / 2
    }
}

/// The attempts of one call.
#[derive(Debug)]
pub(crate) struct Attempts {
    policy: RetryPolicy,
    throttle: Arc<Throttle>,
    notice: Option<RetryNotice>,
    deadline: Option<Instant>,
    num_made: u32,
    /// Number of waits whose length the server did not choose.
    num_own_waits: u32,
}

/// One attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt {
    /// From 1.
    pub(crate) number: u32,
    /// What is left of the time for the call. `None`: there is no limit.
    pub(crate) timeout: Option<Duration>,
}

impl Attempts {
    pub(crate) fn new(
        policy: RetryPolicy,
        notice: Option<RetryNotice>,
        throttle: Arc<Throttle>,
        deadline: Option<Instant>,
    ) -> Self {
        Self { policy, throttle, notice, deadline, num_made: 0, num_own_waits: 0 }
    }

    /// Makes the call until it is answered or has failed for good. Each attempt is told what remains of the time.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the attempt.
    pub(crate) async fn run<T, F>(mut self, mut call: impl FnMut(Attempt) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        loop {
            self.num_made += 1;
            let timeout = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            match call(Attempt { number: self.num_made, timeout }).await {
                Ok(answer) => {
                    self.throttle.succeeded();
                    return Ok(answer);
                }
                Err(status) => match self.wait_after(&status) {
                    Some(wait) => {
                        if let Some(RetryNotice(notice)) = &self.notice {
                            notice(&call_error(status), wait);
                        }
                        tokio::time::sleep(wait).await;
                    }
                    None => return Err(status),
                },
            }
        }
    }

    /// Returns how long to wait before the next attempt; `None` if there is to be none.
    fn wait_after(&mut self, status: &Status) -> Option<Duration> {
        let wait = match refusal(status) {
            Refusal::None => return None,
            Refusal::Final => {
                self.throttle.refused();
                return None;
            }
            Refusal::Retry { after } => after,
        };
        if !self.throttle.refused() || self.num_made >= self.policy.max_attempts {
            return None;
        }
        let wait = wait.unwrap_or_else(|| {
            self.num_own_waits += 1;
            self.policy.longest_wait(self.num_own_waits - 1).mul_f64(random_fraction())
        });
        let is_in_time = self.deadline.is_none_or(|deadline| Instant::now() + wait < deadline);
        is_in_time.then_some(wait)
    }
}

/// Returns a number from 0 to 1. The standard library's hashers are seeded at random, which is random enough for a wait.
fn random_fraction() -> f64 {
    let random = std::hash::RandomState::new().build_hasher().finish() >> 32;
    f64::from(u32::try_from(random).unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_whose_calls_are_refused_tries_less() {
        let throttle = Throttle::new();
        let allowed = (0..20).filter(|_| throttle.refused()).count();
        assert_eq!(allowed, 4);
        (0..61).for_each(|_| throttle.succeeded());
        assert!(throttle.refused(), "it has earned it");
        (0..2000).for_each(|_| throttle.succeeded());
        assert_eq!((0..20).filter(|_| throttle.refused()).count(), 4, "the bucket holds no more than ten");
    }

    #[test]
    fn waits_grow_up_to_a_limit() {
        let policy = RetryPolicy::default();
        let longest: Vec<u128> = (0..8).map(|waits| policy.longest_wait(waits).as_millis()).collect();
        assert_eq!(longest, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(policy.longest_wait(u32::MAX), Duration::from_secs(5));
        assert!((0..1000).all(|_| (0.0..=1.0).contains(&random_fraction())));
    }
}
