//! A response stream that is cut when its reader takes nothing.
//!
//! When the transport can send no more it stops asking for messages, so nothing within the stream could notice, and no
//! error could be sent past what is already waiting to be sent. So a task beside the stream notices, and has the whole
//! call cut: its job is cancelled, and what was waiting for the reader is dropped.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tonic::Status;

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A stream of messages, watched by a task that ends with it.
pub(crate) struct StallGuard<T> {
    messages: Messages<T>,
    handed_out: Arc<HandedOut>,
    _watch: DropGuard,
}

/// When the transport was handed a message, if it has not asked for another since.
#[derive(Debug, Default)]
struct HandedOut(Mutex<Option<Instant>>);

impl HandedOut {
    fn set(&self, since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    fn since(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> StallGuard<T> {
    /// Watches a stream; cancels `cut` when its reader has taken nothing for this long. `tasks` owns the watching task.
    pub(super) fn new(
        messages: impl Stream<Item = Result<T, Status>> + Send + 'static,
        timeout: Duration,
        cut: CancellationToken,
        tasks: &TaskTracker,
    ) -> Self {
        let (handed_out, ended) = (Arc::new(HandedOut::default()), CancellationToken::new());
        let watching = watch(Arc::clone(&handed_out), timeout, cut);
        tasks.spawn(ended.clone().run_until_cancelled_owned(watching));
        Self { messages: Box::pin(messages), handed_out, _watch: ended.drop_guard() }
    }
}

async fn watch(handed_out: Arc<HandedOut>, timeout: Duration, cut: CancellationToken) {
    let mut next_look = Instant::now() + timeout;
    loop {
        tokio::time::sleep_until(next_look).await;
        let now = Instant::now();
        next_look = handed_out.since().unwrap_or(now) + timeout;
        if next_look <= now {
            tracing::warn!(?timeout, "the reader of a stream takes nothing, giving up its call");
            cut.cancel();
            return;
        }
    }
}

impl<T> Stream for StallGuard<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.handed_out.set(None);
        let polled = self.messages.as_mut().poll_next(context);
        if matches!(polled, Poll::Ready(Some(_))) {
            self.handed_out.set(Some(Instant::now()));
        }
        polled
    }
}

impl<T> std::fmt::Debug for StallGuard<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("StallGuard").field("handed_out", &self.handed_out).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(60);

    fn guard(
        messages: impl Stream<Item = Result<u64, Status>> + Send + 'static,
        tasks: &TaskTracker,
    ) -> (StallGuard<u64>, CancellationToken) {
        let cut = CancellationToken::new();
        (StallGuard::new(messages, TIMEOUT, cut.clone(), tasks), cut)
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_loses_the_call() {
        let (mut guarded, cut) = guard(stream::iter((1..).map(Ok)), &TaskTracker::new());
        assert_eq!(guarded.next().await.unwrap().unwrap(), 1);
        let handed_out_at = Instant::now();
        cut.cancelled().await;
        assert!(handed_out_at.elapsed() >= TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_waits_for_a_slow_function_does_not() {
        let slow = async {
            tokio::time::sleep(10 * TIMEOUT).await;
            Ok(7)
        };
        let (mut guarded, cut) = guard(stream::once(slow), &TaskTracker::new());
        assert_eq!(guarded.next().await.unwrap().unwrap(), 7);
        assert!(guarded.next().await.is_none());
        assert!(!cut.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn the_watching_task_ends_with_the_stream() {
        let tasks = TaskTracker::new();
        let (mut guarded, cut) = guard(stream::iter((1..).map(Ok)), &tasks);
        guarded.next().await.unwrap().unwrap();
        drop(guarded);
        tasks.close();
        tasks.wait().await;
        assert!(!cut.is_cancelled());
    }
}
