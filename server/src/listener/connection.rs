//! One connection of the public port, from its first byte to its end.

use std::hash::{BuildHasher as _, RandomState};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use tokio_util::task::TaskTracker;

use super::authority::Editor;
use super::bound::Accepted;
use super::connections::ConnectionPermit;
use super::http2::Http2Connection;
use super::service::HttpService;
use super::stream::{self, RequestStream};
use super::stream_task::StreamTasks;
use super::watched_stream::{Traffic, WatchedStream};
use crate::config::ServerConfig;
use crate::lifecycle::Lifecycle;
use crate::peer::Peer;

/// What a client sends first: `PRI * HTTP/2.0 …`. Until it is complete, HTTP/2 cannot be shut down in its own way.
const PREFACE_BYTES: usize = 24;
/// Larger than the default, for large messages. Bounds what a client sends ahead of its handler.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// The largest that there is.
const MAX_WINDOW_BYTES: u32 = (1 << 31) - 1;
/// What small DATA frames in the transport may take, at some 256 bytes each; more end the connection. Each stream's task
/// empties the transport whenever it runs, so this covers the time until all tasks have run.
const DATA_FRAME_BUDGET: usize = 32 << 20;
/// What a stream may have written that its connection has not sent yet: one piece. It is in no budget, and outlives the
/// call.
const MAX_SEND_BUFFER_BYTES: usize = 64 << 10;
const MAX_HEADER_LIST_BYTES: u32 = 16 << 10;
/// Protection against floods of resets, by the client and by us at its instigation.
const MAX_PENDING_RESETS: usize = 20;
const MAX_LOCAL_ERROR_RESETS: usize = 1024;
/// How long a connection that is to end, and has no request, may take. Its peer has to answer one ping.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How often that time is extended while the peer reads.
const MAX_CLOSE_EXTENSIONS: u32 = 4;
/// The jitter of the age limit, either way, so that clients do not all reconnect at once.
const JITTER_PERCENT: u32 = 10;

/// Serves connections of HTTP/2 with a service. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Http2Server<S> {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) service: S,
    pub(crate) lifecycle: Lifecycle,
    /// Owns the tasks of streams.
    pub(crate) tasks: TaskTracker,
}

impl<S: HttpService<RequestStream> + Unpin> Http2Server<S> {
    /// Serves a connection until it ends. Every request gets the peer as an extension.
    pub(crate) async fn serve(self, Accepted { stream, peer }: Accepted, permit: ConnectionPermit) {
        let Self { config, service, lifecycle, tasks } = self;
        // A connection that is accepted while the server drains gets answers until the server closes.
        let go_away = if lifecycle.draining.is_cancelled() { &lifecycle.closing } else { &lifecycle.draining };
        let editor = matches!(peer, Peer::Unix { .. }).then(Editor::new);
        let write_timeout = config.keepalive_interval + config.keepalive_timeout;
        let io = WatchedStream::new(stream, write_timeout).edited_by(editor);
        let traffic = io.traffic();
        let is_silent = || traffic.received() < PREFACE_BYTES;
        let tasks = StreamTasks { tasks, requests: permit.requests(), stall_timeout: config.stream_stall_timeout };
        let answer = move |mut request: Request<RequestStream>, respond| {
            request.extensions_mut().insert(peer);
            tasks.spawn(stream::answer(service.clone(), request, respond));
        };
        let keepalive = (config.keepalive_interval, config.keepalive_timeout);
        let mut connection = pin!(Http2Connection::new(&http2(&config), io, keepalive, answer));
        let mut first_bytes_due = pin!(tokio::time::sleep(config.first_byte_timeout));
        let mut leave = pin!(async {
            tokio::select! {
                () = go_away.cancelled() => {}
                () = permit.evicted() => {}
                () = reach_age(config.max_connection_age) => {}
            }
        });
        let mut overdue = pin!(overdue(&lifecycle, &permit, &traffic));
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
                () = overdue.as_mut() => {
                    tracing::debug!("cut a connection that was to end and did not");
                    break;
                }
                () = first_bytes_due.as_mut(), if !is_checked => {
                    if is_silent() {
                        tracing::debug!(timeout = ?config.first_byte_timeout, "closed a connection that was silent");
                        break;
                    }
                    is_checked = true;
                }
                () = leave.as_mut(), if !is_leaving => {
                    // It has no request to lose, and a graceful shutdown would wait for its first bytes.
                    if is_silent() {
                        break;
                    }
                    is_leaving = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// Waits until a connection that is to end has had no request for [`CLOSE_TIMEOUT`]. A peer that still reads has more
/// time.
async fn overdue(lifecycle: &Lifecycle, permit: &ConnectionPermit, traffic: &Traffic) {
    tokio::select! {
        () = lifecycle.closing.cancelled() => {}
        () = permit.evicted() => {}
    }
    let mut num_extensions = 0;
    loop {
        let sent = traffic.sent();
        tokio::time::sleep(CLOSE_TIMEOUT).await;
        if permit.has_requests() {
            continue;
        }
        if traffic.sent() == sent || num_extensions == MAX_CLOSE_EXTENSIONS {
            return;
        }
        num_extensions += 1;
    }
}

fn http2(config: &ServerConfig) -> h2::server::Builder {
    let streams = config.max_concurrent_streams;
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(streams)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(Some(MAX_LOCAL_ERROR_RESETS))
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .max_send_buffer_size(MAX_SEND_BUFFER_BYTES)
        .initial_window_size(STREAM_WINDOW_BYTES)
        // Calls whose items wait fill their windows. They are not to stop the others on their connection.
        .initial_connection_window_size(
            streams.saturating_add(1).saturating_mul(STREAM_WINDOW_BYTES).min(MAX_WINDOW_BYTES),
        )
        .data_frame_budget(DATA_FRAME_BUDGET);
    builder
}

/// Waits until the connection has reached the age limit, give or take the jitter.
async fn reach_age(max_age: Option<Duration>) {
    match max_age {
        Some(max_age) => tokio::time::sleep(with_jitter(max_age)).await,
        None => std::future::pending().await,
    }
}

/// Lengthens or shortens a time at random. The standard library's hasher has a new random seed each time.
fn with_jitter(time: Duration) -> Duration {
    let random = RandomState::new().hash_one(0) % u64::from(2 * JITTER_PERCENT * 10 + 1);
    let per_mille = 1000 - JITTER_PERCENT * 10 + u32::try_from(random).expect("the remainder of a small number");
    time / 1000 * per_mille
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
