//! One connection of the admin port. None is silent for long, and none lives for ever.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::TaskTracker;
use tonic::body::Body;

use super::Endpoints;
use crate::lifecycle::CALL;
use crate::listener::{Accepted, OwnedTasks, Place, Traffic, WatchedStream};
use crate::rpc::response_body;

/// A connection is for a request; who has none is not waited for.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than scrapers pause between requests. The headers of the next have to come within it, too.
const NEXT_REQUEST_TIMEOUT: Duration = Duration::from_secs(90);
/// Who takes nothing of an answer for this long does not want it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Who watches the health for longer has to connect anew.
const MAX_AGE: Duration = Duration::from_secs(60 * 60);
/// Answers wait in memory for their readers.
const MAX_CONCURRENT_STREAMS: u32 = 16;
const MAX_HEADER_LIST_BYTES: u32 = 16 << 10;

/// Serves a connection until it ends.
pub(super) async fn serve(accepted: Accepted, place: Place, endpoints: Endpoints, tasks: TaskTracker) {
    match accepted {
        Accepted::Tcp(stream) => serve_stream(stream, place, endpoints, tasks).await,
        Accepted::Unix(stream) => serve_stream(stream, place, endpoints, tasks).await,
    }
}

async fn serve_stream<S>(stream: S, place: Place, endpoints: Endpoints, tasks: TaskTracker)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let calls = place.calls();
    let mut builder = auto::Builder::new(OwnedTasks { tasks, calls: calls.clone(), stall_timeout: WRITE_TIMEOUT });
    builder.http1().timer(TokioTimer::new()).header_read_timeout(NEXT_REQUEST_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    let service = service_fn(move |request: Request<Incoming>| {
        let (endpoints, in_progress) = (endpoints.clone(), calls.begin());
        async move {
            let response = endpoints.handle(request).await?;
            drop(in_progress);
            Ok::<_, Infallible>(watched(response))
        }
    });
    let io = TokioIo::new(WatchedStream::new(stream, Arc::<Traffic>::default(), WRITE_TIMEOUT));
    tokio::select! {
        served = builder.serve_connection(io, service) => {
            if let Err(error) = served {
                tracing::debug!(error, "an admin connection failed");
            }
        }
        () = place.displaced() => tracing::debug!("closed an admin connection that others had no place for"),
        () = place.quiet_for(FIRST_REQUEST_TIMEOUT, NEXT_REQUEST_TIMEOUT) => {}
        () = tokio::time::sleep(MAX_AGE) => {}
    }
}

/// Has an answer given up that nobody takes, if it has a task of its own. HTTP/1.1 has none: there, it is the connection that
/// is given up.
fn watched(response: Response<Body>) -> Response<Body> {
    match CALL.try_with(Arc::clone) {
        Ok(watch) => response_body::watched(response, watch, None),
        Err(_) => response,
    }
}
