//! The task of one stream, which ends by itself, or when the reader of its response takes nothing for too long.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};
use tokio_util::task::TaskTracker;

use super::connections::ActiveRequests;
use super::monitor::{STREAM, StreamMonitor};

/// Spawns the tasks of a connection, one for each stream: owned by a tracker, counted by the connection, and each given
/// up when its reader takes nothing.
#[derive(Debug, Clone)]
pub(crate) struct StreamTasks {
    pub(crate) tasks: TaskTracker,
    pub(crate) requests: ActiveRequests,
    pub(crate) stall_timeout: Duration,
}

impl StreamTasks {
    /// Starts the task of a stream.
    pub(crate) fn spawn<F>(&self, task: F)
    where
        F: Future + Send + 'static,
    {
        let (active, task) = (self.requests.begin(), with_stall_timeout(task, self.stall_timeout));
        self.tasks.spawn(async move {
            task.await;
            drop(active);
        });
    }
}

/// hyper, which drives the admin port, spawns the tasks of its streams here.
impl<F> hyper::rt::Executor<F> for StreamTasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        self.spawn(task);
    }
}

/// Returns a task that ends early when the reader of its response has read nothing for this long. Dropping the task
/// drops its end of the stream, which resets the stream.
fn with_stall_timeout<F>(task: F, stall_timeout: Duration) -> impl Future<Output = ()> + Send
where
    F: Future + Send + 'static,
{
    let monitor = Arc::new(StreamMonitor::default());
    let task = Box::pin(STREAM.scope(Arc::clone(&monitor), task));
    WithStallTimeout { task, monitor, stall_timeout, stall_timer: None }
}

struct WithStallTimeout<F> {
    task: Pin<Box<F>>,
    monitor: Arc<StreamMonitor>,
    stall_timeout: Duration,
    /// Set when the response first waits for its reader. Most streams need none.
    stall_timer: Option<Pin<Box<Sleep>>>,
}

impl<F: Future> Future for WithStallTimeout<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // Also while the response waits for its reader: that must not stop the sender.
        self.monitor.receive(context);
        if self.task.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        loop {
            let Some(since) = self.monitor.waiting_since() else { return Poll::Pending };
            let due = since + self.stall_timeout;
            let stall_timer = self.stall_timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            ready!(stall_timer.as_mut().poll(context));
            if due <= Instant::now() {
                tracing::warn!(timeout = ?self.stall_timeout, "the reader of a response takes nothing, giving up its call");
                return Poll::Ready(());
            }
            // The reader has taken something since the timer was set.
            stall_timer.as_mut().reset(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::{StreamExt as _, stream};
    use http_body::Frame;
    use http_body_util::{BodyExt as _, StreamBody};
    use tonic::Status;
    use tonic::body::Body;

    use super::*;
    use crate::listener::response_body::monitored;

    const TIMEOUT: Duration = Duration::from_secs(60);

    /// Starts a call with these messages, whose reader is `read`.
    async fn call<R: Future<Output = ()> + Send + 'static>(
        messages: impl futures_util::Stream<Item = Bytes> + Send + 'static,
        read: impl FnOnce(Body) -> R + Send + 'static,
    ) -> Duration {
        let began = Instant::now();
        let frames = messages.map(|message| Ok::<_, Status>(Frame::data(message)));
        let task = async {
            let body = Body::new(StreamBody::new(frames));
            read(monitored(http::Response::new(body)).into_body()).await;
        };
        with_stall_timeout(task, TIMEOUT).await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_loses_the_call_and_a_slow_one_does_not() {
        let message = || Bytes::from(vec![7; 1 << 20]);
        let taken_once = |mut body: Body| async move {
            body.frame().await.unwrap().unwrap();
            std::future::pending::<()>().await;
        };
        assert_eq!(call(stream::iter([message()]), taken_once).await, TIMEOUT);
        let taken_never = |body: Body| async move {
            std::future::pending::<()>().await;
            drop(body);
        };
        assert_eq!(call(stream::iter([message()]), taken_never).await, TIMEOUT);
        let slow = |mut body: Body| async move {
            while body.frame().await.is_some() {
                tokio::time::sleep(TIMEOUT.saturating_sub(Duration::from_secs(1))).await;
            }
        };
        assert!(call(stream::iter([message()]), slow).await > 10 * TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_waits_for_a_slow_function_keeps_its_call() {
        let messages = stream::unfold(0, |count| async move {
            tokio::time::sleep(10 * TIMEOUT).await;
            (count < 3).then(|| (Bytes::from_static(b"a message"), count + 1))
        });
        let read_all = |mut body: Body| async move { while body.frame().await.is_some() {} };
        assert_eq!(call(messages, read_all).await, 40 * TIMEOUT);
    }
}
