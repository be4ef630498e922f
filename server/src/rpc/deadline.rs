//! The caller's deadline, from the `grpc-timeout` header.
//!
//! The pool fails a call a little before its deadline, so that the caller receives the reason and the evidence. What the
//! pool cannot see, such as a request that is slow to arrive, fails here, halfway between the two.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{HeaderMap, Request};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::{ServiceExt as _, service_fn};

use super::body::RequestBody;
use super::status;
use crate::listener::HttpService;

/// The pool gives up this part of the time before the caller does,
const MARGIN_DIVISOR: u32 = 10;
/// but at most this long.
const MAX_MARGIN: Duration = Duration::from_millis(40);
/// The specification allows no more digits.
const MAX_DIGITS: usize = 8;

/// How long a request may take to arrive while the server drains. Its call will be refused.
const DRAINING_REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// Adds the [`Deadline`] to each request, and fails requests that are not received in time.
pub(super) fn layer<S: HttpService<RequestBody>>(
    inner: S,
    draining: CancellationToken,
) -> impl HttpService<RequestBody> {
    service_fn(move |mut request: Request<RequestBody>| {
        let (inner, draining) = (inner.clone(), draining.clone());
        async move {
            let Some(deadline) = Deadline::from_headers(request.headers(), Instant::now()) else {
                let problem = "must be at most 8 digits and one of H, M, S, m, u, n";
                return Ok(status::invalid_argument(vec![status::violation("grpc-timeout", problem)], "").into_http());
            };
            request.extensions_mut().insert(deadline);
            let has_arrived = request.body().has_arrived();
            let is_receiving = || !has_arrived.load(Ordering::Relaxed);
            let mut answer = pin!(inner.oneshot(request));
            tokio::select! {
                biased;
                response = answer.as_mut() => return response,
                () = reached(deadline.server) => if is_receiving() {
                    return Ok(status::deadline_exceeded("receiving").into_http());
                },
                // A request that may never be complete must not delay the end.
                () = after(draining, DRAINING_REQUEST_TIMEOUT) => if is_receiving() {
                    return Ok(status::shutting_down().into_http());
                },
            }
            // The pool has failed the call by now, and its answer says more. It may be late on a busy machine.
            answer.await
        }
    })
}

/// Waits until this time; for ever if there is none.
pub(super) async fn reached(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// Waits this long after the start of a phase.
async fn after(phase: CancellationToken, time: Duration) {
    phase.cancelled().await;
    tokio::time::sleep(time).await;
}

/// When a caller stops waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deadline {
    /// When the pool fails the call.
    pub(crate) pool: Option<Instant>,
    /// When the layers around the pool fail the call.
    pub(crate) server: Option<Instant>,
}

impl Deadline {
    /// Returns the deadline of a call that arrived now; `None` if the header is malformed.
    pub(crate) fn from_headers(headers: &HeaderMap, now: Instant) -> Option<Self> {
        let Some(value) = headers.get("grpc-timeout") else {
            return Some(Self { pool: None, server: None });
        };
        let timeout = parse_timeout(value.as_bytes())?;
        let margin = (timeout / MARGIN_DIVISOR).min(MAX_MARGIN);
        // A deadline beyond the clock's range is none.
        let before = |margin| now.checked_add(timeout.saturating_sub(margin));
        Some(Self { pool: before(margin), server: before(margin / 2) })
    }
}

/// Parses digits and a unit, such as `250m` for 250 ms.
fn parse_timeout(value: &[u8]) -> Option<Duration> {
    let (&unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > MAX_DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount = digits.iter().fold(0_u64, |amount, digit| amount * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Some(Duration::from_secs(amount * 3600)),
        b'M' => Some(Duration::from_secs(amount * 60)),
        b'S' => Some(Duration::from_secs(amount)),
        b'm' => Some(Duration::from_millis(amount)),
        b'u' => Some(Duration::from_micros(amount)),
        b'n' => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn deadline_of(value: &'static str, now: Instant) -> Option<Deadline> {
        let headers = HeaderMap::from_iter([("grpc-timeout".parse().unwrap(), HeaderValue::from_static(value))]);
        Deadline::from_headers(&headers, now)
    }

    #[test]
    fn every_unit_is_understood() {
        let second = Duration::from_secs(1);
        let cases = [
            ("2H", 7200 * second),
            ("3M", 180 * second),
            ("99999999S", 99_999_999 * second),
            ("250m", second / 4),
            ("500000u", second / 2),
            ("0n", Duration::ZERO),
        ];
        for (value, expected) in cases {
            assert_eq!(parse_timeout(value.as_bytes()), Some(expected), "{value}");
        }
    }

    #[test]
    fn a_malformed_timeout_is_refused() {
        for value in ["", "S", "1", "-1S", "1.5S", "1s", "123456789S", "1 S", "+1S"] {
            assert_eq!(parse_timeout(value.as_bytes()), None, "{value}");
        }
    }

    #[test]
    fn the_pool_gives_up_a_little_before_the_caller() {
        let now = Instant::now();
        let (long, short) = (deadline_of("10S", now).unwrap(), deadline_of("50m", now).unwrap());
        assert_eq!(long.pool.unwrap() - now, Duration::from_millis(9960));
        assert_eq!(long.server.unwrap() - now, Duration::from_millis(9980));
        assert_eq!(short.pool.unwrap() - now, Duration::from_millis(45));
    }

    #[test]
    fn without_the_header_there_is_no_deadline() {
        let none = Deadline::from_headers(&HeaderMap::new(), Instant::now()).unwrap();
        assert_eq!(none, Deadline { pool: None, server: None });
    }
}
