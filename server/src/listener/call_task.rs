//! The task of one call, which ends by itself, or when its reader takes nothing for too long.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};
use tokio_util::task::TaskTracker;

use super::connections::Calls;
use crate::lifecycle::CALL;
use crate::rpc::response_body::CallWatch;

/// Has the tasks of a connection, one for each call, owned by a tracker, counted by their connection, and each given up when
/// its reader takes nothing.
#[derive(Debug, Clone)]
pub(crate) struct OwnedTasks {
    pub(crate) tasks: TaskTracker,
    pub(crate) calls: Calls,
    pub(crate) stall_timeout: Duration,
}

impl OwnedTasks {
    /// Starts the task of a call.
    pub(crate) fn spawn<F>(&self, task: F)
    where
        F: Future + Send + 'static,
    {
        let (in_progress, watched) = (self.calls.begin(), watched(task, self.stall_timeout));
        self.tasks.spawn(async move {
            watched.await;
            drop(in_progress);
        });
    }
}

/// The admin port's HTTP is hyper's.
impl<F> hyper::rt::Executor<F> for OwnedTasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        self.spawn(task);
    }
}

/// Returns a task that is given up when what it has for its reader has been waiting for so long. Dropping it drops its end
/// of the stream, and that resets it.
fn watched<F>(task: F, stall_timeout: Duration) -> impl Future<Output = ()> + Send
where
    F: Future + Send + 'static,
{
    let watch = Arc::new(CallWatch::default());
    let task = Box::pin(CALL.scope(Arc::clone(&watch), task));
    CallTask { task, watch, stall_timeout, next_look: None }
}

struct CallTask<F> {
    task: Pin<Box<F>>,
    watch: Arc<CallWatch>,
    stall_timeout: Duration,
    /// Not before something waits. Most calls need none.
    next_look: Option<Pin<Box<Sleep>>>,
}

impl<F: Future> Future for CallTask<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // Also while the answer waits for its reader: who sends is not to be stopped by that alone.
        self.watch.receive(context);
        if self.task.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        loop {
            let Some(since) = self.watch.waiting_since() else { return Poll::Pending };
            let due = since + self.stall_timeout;
            let next_look = self.next_look.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            ready!(next_look.as_mut().poll(context));
            if due <= Instant::now() {
                tracing::warn!(timeout = ?self.stall_timeout, "the reader of a response takes nothing, giving up its call");
                return Poll::Ready(());
            }
            // It has taken something since the timer was set.
            next_look.as_mut().reset(due);
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
    use crate::rpc::response_body;

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
            read(response_body::watched(http::Response::new(body), CALL.get(), None).into_body()).await;
        };
        watched(task, TIMEOUT).await;
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
