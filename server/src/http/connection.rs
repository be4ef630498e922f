//! One connection of the admin port. None is silent for long, and none lives for ever.

use std::future::Future;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;

use super::Endpoints;

const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than scrapers pause between requests.
const NEXT_REQUEST_TIMEOUT: Duration = Duration::from_secs(90);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Who watches the health for longer has to connect anew.
const MAX_AGE: Duration = Duration::from_secs(60 * 60);
const MAX_CONCURRENT_STREAMS: u32 = 64;
const MAX_HEADER_LIST_BYTES: u32 = 16 << 10;

/// Serves a connection until it ends.
pub(super) async fn serve(stream: TcpStream, endpoints: Endpoints, tasks: TaskTracker) {
    let mut first_byte = [0];
    let peeked = tokio::time::timeout(FIRST_BYTE_TIMEOUT, stream.peek(&mut first_byte)).await;
    if !matches!(peeked, Ok(Ok(1))) {
        return;
    }
    let mut builder = auto::Builder::new(OwnedTasks(tasks));
    builder.http1().timer(TokioTimer::new()).header_read_timeout(NEXT_REQUEST_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    let service = service_fn(move |request| endpoints.clone().handle(request));
    let served = tokio::time::timeout(MAX_AGE, builder.serve_connection(TokioIo::new(stream), service));
    if let Ok(Err(error)) = served.await {
        tracing::debug!(error, "an admin connection failed");
    }
}

/// Has hyper's tasks owned by a tracker.
#[derive(Debug, Clone)]
struct OwnedTasks(TaskTracker);

impl<F> hyper::rt::Executor<F> for OwnedTasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}
