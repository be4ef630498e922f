//! Where a job's results go: from the driver, which never waits, to a caller that may be slow or gone.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot, watch};

use crate::call::MapOutput;
use crate::error::CallError;
use crate::outcome::OutcomeRun;
use crate::results::ResultBytes;

/// The driver's end of a job's results.
#[derive(Debug)]
pub(crate) enum Outlet {
    /// Everything at once.
    Whole(oneshot::Sender<Result<MapOutput, CallError>>),
    /// As it comes.
    Stream(StreamOutlet),
}

/// The driver's end of a stream. Dropping it ends the stream: a reader never waits for a job that is gone.
#[derive(Debug)]
pub(crate) struct StreamOutlet {
    outbox: Arc<Outbox>,
    allowed: watch::Sender<u64>,
}

/// What is on its way to the reader of a stream. Bounded by the job's window, and by what the driver makes of its bytes.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    state: Mutex<OutboxState>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct OutboxState {
    runs: Vec<OutcomeRun>,
    /// What these take.
    held: ResultBytes,
    end: Option<Result<(), CallError>>,
}

/// What a reader finds in the outbox.
#[derive(Debug)]
pub(crate) enum Taken {
    /// Results, at least one, and the claim on what they take.
    Runs(Vec<OutcomeRun>, ResultBytes),
    /// Nothing, and nothing will come.
    End(Result<(), CallError>),
    /// Nothing yet.
    Nothing,
}

impl Outlet {
    /// Ends a job that failed.
    pub(crate) fn fail(self, error: CallError) {
        match self {
            Self::Whole(caller) => {
                // The caller may have gone; then nobody wants to know.
                let _ = caller.send(Err(error));
            }
            Self::Stream(stream) => stream.end(Err(error)),
        }
    }
}

impl StreamOutlet {
    /// Returns the driver's end, the reader's end, and the allowance for items as it changes.
    pub(crate) fn new() -> (Self, Arc<Outbox>, watch::Receiver<u64>) {
        let outbox = Arc::new(Outbox::default());
        let (allowed, allowance) = watch::channel(0);
        (Self { outbox: Arc::clone(&outbox), allowed }, outbox, allowance)
    }

    pub(crate) fn push(&self, runs: Vec<OutcomeRun>, held: ResultBytes) {
        let mut state = self.outbox.lock();
        state.runs.extend(runs);
        state.held.add(held);
        drop(state);
        self.outbox.changed.notify_one();
    }

    pub(crate) fn end(&self, end: Result<(), CallError>) {
        self.outbox.lock().end.get_or_insert(end);
        self.outbox.changed.notify_one();
    }

    /// Raises the number of items that the pool will hold; a smaller number changes nothing.
    pub(crate) fn allow(&self, total: u64) {
        self.allowed.send_if_modified(|allowed| {
            let is_more = total > *allowed;
            *allowed = total.max(*allowed);
            is_more
        });
    }
}

impl Drop for StreamOutlet {
    fn drop(&mut self) {
        self.end(Err(CallError::PoolGone));
    }
}

impl Outbox {
    /// Takes all that is there.
    pub(crate) fn take(&self) -> Taken {
        let mut state = self.lock();
        if !state.runs.is_empty() {
            return Taken::Runs(std::mem::take(&mut state.runs), std::mem::take(&mut state.held));
        }
        state.end.clone().map_or(Taken::Nothing, Taken::End)
    }

    /// Waits until the outbox may have changed.
    ///
    /// # Cancel safety
    ///
    /// A change is never missed: the permit of the notification is kept for the next call.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, OutboxState> {
        // No code that holds the lock can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
