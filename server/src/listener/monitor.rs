//! State that the task of a stream shares with the bodies of its request and response.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Context;

use tokio::time::Instant;

tokio::task_local! {
    /// The monitor of the stream whose task this is.
    pub(crate) static STREAM: Arc<StreamMonitor>;
}

/// The end of a request body that takes data out of the transport.
pub(crate) trait Intake: Send + Sync {
    /// Takes the data that has arrived, and registers the task to be woken for more.
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

    /// Returns since when the reader has taken nothing; `None` if nothing is pending.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        *self.waiting_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the request that the task receives from now on. A stream has one.
    pub(crate) fn set_request(&self, request: Arc<dyn Intake>) {
        self.request.get_or_init(|| request);
    }

    /// Takes the data of the request that has arrived, and registers the task to be woken for more.
    pub(crate) fn receive(&self, context: &mut Context<'_>) {
        if let Some(request) = self.request.get() {
            request.receive(context);
        }
    }
}
