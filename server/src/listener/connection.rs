//! One connection, from its first byte to its end.

use std::future::Future;
use std::hash::{BuildHasher as _, RandomState};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::TaskTracker;

use super::watched_stream::WatchedStream;
use super::{Serving, call_task};
use crate::config::ServerConfig;
use crate::operators::Peer;

/// What a client sends first: `PRI * HTTP/2.0 …`. Until it is complete, HTTP/2 cannot be shut down in its own way.
const PREFACE_BYTES: usize = 24;
/// Larger than the default, for large messages; bounds what a handler that does not read leaves in memory.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
const MAX_HEADER_LIST_BYTES: u32 = 16 << 10;
/// Protection against floods of resets, by the client and by us at its instigation.
const MAX_PENDING_RESETS: usize = 20;
const MAX_LOCAL_ERROR_RESETS: usize = 1024;
/// How far the age limit is spread, either way, so that clients do not all come back at once.
const JITTER_PERCENT: u32 = 10;

/// Serves a connection until it ends. Holds the permit meanwhile. Every request gets the peer as an extension.
pub(super) async fn serve<S>(stream: S, peer: Peer, serving: Serving, permit: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Serving { config, router, lifecycle, connections, .. } = serving;
    // Who comes when others are already being sent away needs an answer, not to be sent away too.
    let go_away = if lifecycle.draining.is_cancelled() { lifecycle.closing } else { lifecycle.draining };
    let received = Arc::new(AtomicUsize::new(0));
    let is_silent = || received.load(Ordering::Relaxed) < PREFACE_BYTES;
    let write_timeout = config.keepalive_interval + config.keepalive_timeout;
    let io = TokioIo::new(WatchedStream::new(stream, Arc::clone(&received), write_timeout));
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        router.clone().handle(request)
    });
    let mut connection = pin!(builder(&config, connections).serve_connection(io, service));
    let mut first_bytes_due = pin!(tokio::time::sleep(config.first_byte_timeout));
    let mut old = pin!(reach_age(config.max_connection_age));
    let (mut is_checked, mut is_leaving) = (false, false);
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection failed");
                }
                break;
            }
            () = lifecycle.killed.cancelled() => break,
            () = first_bytes_due.as_mut(), if !is_checked => {
                if is_silent() {
                    tracing::debug!(timeout = ?config.first_byte_timeout, "closed a connection that was silent");
                    break;
                }
                is_checked = true;
            }
            () = go_away.cancelled(), if !is_leaving => {
                // It has asked for nothing, so nothing is lost; and its shutdown would wait for its first bytes.
                if is_silent() {
                    break;
                }
                is_leaving = true;
                connection.as_mut().graceful_shutdown();
            }
            () = old.as_mut(), if !is_leaving => {
                is_leaving = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
    drop(permit);
}

fn builder(config: &ServerConfig, tasks: TaskTracker) -> http2::Builder<OwnedTasks> {
    let mut builder = http2::Builder::new(OwnedTasks { tasks, stall_timeout: config.stream_stall_timeout });
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(config.max_concurrent_streams)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_LOCAL_ERROR_RESETS)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .keep_alive_interval(config.keepalive_interval)
        .keep_alive_timeout(config.keepalive_timeout)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .adaptive_window(false);
    builder
}

/// Returns when the connection has reached the age limit, give or take the jitter.
async fn reach_age(max_age: Option<Duration>) {
    match max_age {
        Some(max_age) => tokio::time::sleep(with_jitter(max_age)).await,
        None => std::future::pending().await,
    }
}

/// Lengthens or shortens a time by chance. The standard library's hasher is seeded anew each time.
fn with_jitter(time: Duration) -> Duration {
    let random = RandomState::new().hash_one(0) % u64::from(2 * JITTER_PERCENT * 10 + 1);
    let per_mille = 1000 - JITTER_PERCENT * 10 + u32::try_from(random).expect("the remainder of a small number");
    time / 1000 * per_mille
}

/// Has hyper's tasks, one for each call, owned by a tracker, and each given up when its reader takes nothing.
#[derive(Debug, Clone)]
struct OwnedTasks {
    tasks: TaskTracker,
    stall_timeout: Duration,
}

impl<F> hyper::rt::Executor<F> for OwnedTasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        self.tasks.spawn(call_task::watched(task, self.stall_timeout));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_limit_is_spread_by_ten_percent() {
        let ages: Vec<u64> = (0..100).map(|_| with_jitter(Duration::from_secs(1000)).as_secs()).collect();
        assert!(ages.iter().all(|age| (900..=1100).contains(age)), "{ages:?}");
        assert!(ages.iter().any(|age| *age != ages[0]));
    }
}
