//! One connection of the admin port. Its idle time and its age are limited.

use std::convert::Infallible;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::endpoints::Endpoints;
use crate::listener::{Accepted, ConnectionPermit, StreamTasks, WatchedStream, monitored};

/// How long a new connection may take to send its first request.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may be idle between requests: longer than the interval of scrapers. The headers of the next
/// request have to arrive within it, too.
const NEXT_REQUEST_TIMEOUT: Duration = Duration::from_secs(90);
/// How long a client may read nothing of a response.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// The longest life of a connection; health watches have to reconnect.
const MAX_AGE: Duration = Duration::from_secs(60 * 60);
/// Bounds the responses that wait in memory for their readers.
const MAX_CONCURRENT_STREAMS: u32 = 16;
const MAX_HEADER_LIST_BYTES: u32 = 16 << 10;

/// Serves a connection until it ends, or `closed` is cancelled.
pub(super) async fn serve(
    accepted: Accepted,
    permit: ConnectionPermit,
    endpoints: Endpoints,
    tasks: TaskTracker,
    closed: CancellationToken,
) {
    let requests = permit.requests();
    let mut builder =
        auto::Builder::new(StreamTasks { tasks, requests: requests.clone(), stall_timeout: WRITE_TIMEOUT });
    builder.http1().timer(TokioTimer::new()).header_read_timeout(NEXT_REQUEST_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    let service = service_fn(move |request: Request<Incoming>| {
        let (endpoints, active) = (endpoints.clone(), requests.begin());
        async move {
            let response = endpoints.handle(request).await?;
            drop(active);
            Ok::<_, Infallible>(monitored(response))
        }
    });
    let io = TokioIo::new(WatchedStream::new(accepted.stream, WRITE_TIMEOUT));
    tokio::select! {
        served = builder.serve_connection(io, service) => {
            if let Err(error) = served {
                tracing::debug!(error, "an admin connection failed");
            }
        }
        () = closed.cancelled() => {}
        () = permit.evicted() => tracing::debug!("closed an admin connection that others had no place for"),
        () = permit.idle_for(FIRST_REQUEST_TIMEOUT, NEXT_REQUEST_TIMEOUT) => {}
        () = tokio::time::sleep(MAX_AGE) => {}
    }
}
