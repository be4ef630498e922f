//! What the task of a stream and the bodies of its request and response tell each other.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Context;

use tokio::time::Instant;

tokio::task_local! {
    /// The monitor of the stream whose task this is.
    pub(crate) static STREAM: Arc<StreamMonitor>;
}

/// The end of a request body that takes what comes out of the transport.
pub(crate) trait Intake: Send + Sync {
    /// Takes what has come, and has the task woken when there is more.
    fn receive(&self, context: &mut Context<'_>);
}

/// Watches one stream while its task runs: since when the response waits for its reader, and the request that comes in
/// meanwhile.
#[derive(Default)]
pub(crate) struct StreamMonitor {
    waiting_since: Mutex<Option<Instant>>,
    request: OnceLock<Arc<dyn Intake>>,
}

impl StreamMonitor {
    pub(super) fn set_waiting(&self, since: Option<Instant>) {
        *self.waiting_since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// Returns since when the reader has taken nothing of what there is for it. `None`: there is nothing.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        *self.waiting_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the task receive a request from now on. A stream has one.
    pub(crate) fn set_request(&self, request: Arc<dyn Intake>) {
        self.request.get_or_init(|| request);
    }

    /// Takes what has come of the request, and has the task woken when there is more.
    pub(crate) fn receive(&self, context: &mut Context<'_>) {
        if let Some(request) = self.request.get() {
            request.receive(context);
        }
    }
}
