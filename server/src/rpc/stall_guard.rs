//! A response stream that gives up when its reader does.
//!
//! When the transport can send no more it stops asking for messages, so nothing within the stream could notice. A task
//! beside it does, and drops what is inside, which cancels the job.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tonic::Status;

use super::status;

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A stream of messages, watched by a task that ends with it.
pub(crate) struct StallGuard<T> {
    shared: Arc<Mutex<Shared<T>>>,
    timeout: Duration,
    _watch: DropGuard,
}

struct Shared<T> {
    state: State<T>,
    /// When the transport was handed a message, if it has not asked for another since.
    handed_out_at: Option<Instant>,
}

enum State<T> {
    Flowing(Messages<T>),
    Stalled,
    Ended,
}

impl<T: Send + 'static> StallGuard<T> {
    /// Watches a stream. `tasks` owns the watching task.
    pub(super) fn new(
        messages: impl Stream<Item = Result<T, Status>> + Send + 'static,
        timeout: Duration,
        tasks: &TaskTracker,
    ) -> Self {
        let shared = Arc::new(Mutex::new(Shared { state: State::Flowing(Box::pin(messages)), handed_out_at: None }));
        let ended = CancellationToken::new();
        tasks.spawn({
            let (shared, ended) = (Arc::clone(&shared), ended.clone());
            async move {
                tokio::select! {
                    () = ended.cancelled() => {}
                    () = give_up_when_stalled(&shared, timeout) => {}
                }
            }
        });
        Self { shared, timeout, _watch: ended.drop_guard() }
    }
}

async fn give_up_when_stalled<T>(shared: &Mutex<Shared<T>>, timeout: Duration) {
    let mut next_look = Instant::now() + timeout;
    loop {
        tokio::time::sleep_until(next_look).await;
        let now = Instant::now();
        let mut locked = lock(shared);
        match locked.handed_out_at {
            Some(since) if since + timeout <= now => {
                let dropped = std::mem::replace(&mut locked.state, State::Stalled);
                drop(locked);
                tracing::warn!(?timeout, "the reader of a stream takes nothing, giving up its call");
                drop(dropped);
                return;
            }
            Some(since) => next_look = since + timeout,
            None => next_look = now + timeout,
        }
    }
}

/// Nothing that runs under the lock leaves the state half changed.
fn lock<T>(shared: &Mutex<Shared<T>>) -> MutexGuard<'_, Shared<T>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Stream for StallGuard<T> {
    type Item = Result<T, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut shared = lock(&self.shared);
        shared.handed_out_at = None;
        let polled = match &mut shared.state {
            State::Flowing(messages) => messages.as_mut().poll_next(context),
            State::Stalled => {
                shared.state = State::Ended;
                return Poll::Ready(Some(Err(status::stream_stalled(self.timeout))));
            }
            State::Ended => return Poll::Ready(None),
        };
        match &polled {
            Poll::Ready(Some(_)) => shared.handed_out_at = Some(Instant::now()),
            Poll::Ready(None) => shared.state = State::Ended,
            Poll::Pending => {}
        }
        polled
    }
}

impl<T> std::fmt::Debug for StallGuard<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("StallGuard").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::{StreamExt as _, stream};
    use tonic::Code;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(60);

    /// Messages 1, 2, 3 … that tell when they are dropped.
    fn endless() -> (impl Stream<Item = Result<u64, Status>> + Send, CancellationToken) {
        let dropped = CancellationToken::new();
        let guard = dropped.clone().drop_guard();
        (stream::iter(1..).map(move |number| (Ok(number), &guard).0), dropped)
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_loses_the_call() {
        let (messages, dropped) = endless();
        let mut guarded = StallGuard::new(messages, TIMEOUT, &TaskTracker::new());
        assert_eq!(guarded.next().await.unwrap().unwrap(), 1);
        let handed_out_at = Instant::now();
        dropped.cancelled().await;
        assert!(handed_out_at.elapsed() >= TIMEOUT);
        assert_eq!(guarded.next().await.unwrap().unwrap_err().code(), Code::Aborted);
        assert!(guarded.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_waits_for_a_slow_function_does_not() {
        let messages = stream::once(async {
            tokio::time::sleep(10 * TIMEOUT).await;
            Ok(7)
        });
        let mut guarded = StallGuard::new(messages, TIMEOUT, &TaskTracker::new());
        assert_eq!(guarded.next().await.unwrap().unwrap(), 7);
        assert!(guarded.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn the_watching_task_ends_with_the_stream() {
        let tasks = TaskTracker::new();
        let mut guarded = StallGuard::new(endless().0, TIMEOUT, &tasks);
        poll_fn(|context| guarded.poll_next_unpin(context)).await;
        drop(guarded);
        tasks.close();
        tasks.wait().await;
        assert!(tasks.is_empty());
    }
}
