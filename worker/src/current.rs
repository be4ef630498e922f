//! The running item, as a function sees it from any thread.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use procpool_ipc::proto::Run;

/// The running chunk.
static CHUNK: Mutex<Option<Arc<Run>>> = Mutex::new(None);
/// The offset of the running item in the chunk.
static OFFSET: AtomicU32 = AtomicU32::new(0);

/// The running item.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CurrentItem {
    /// The name by which the function was called.
    pub function: String,
    /// The index of the item in the caller's list.
    pub index: u64,
    /// The number of its chunk, unique in the life of the server.
    pub chunk: u64,
    /// Which execution of the item this is, from 1.
    pub attempt: u32,
    /// The W3C trace context to continue: requests of the function send it in the header of this name. Empty: none.
    pub traceparent: String,
    /// The rest of the trace context.
    pub tracestate: String,
}

/// Returns the running item; `None` outside of one. Can be called from threads that the function started.
pub fn current() -> Option<CurrentItem> {
    let run = chunk().clone()?;
    Some(CurrentItem {
        function: run.function.clone(),
        index: run.first_index + u64::from(OFFSET.load(Ordering::Relaxed)),
        chunk: run.chunk,
        attempt: run.attempt,
        traceparent: run.traceparent.clone(),
        tracestate: run.tracestate.clone(),
    })
}

/// Publishes the running chunk until it is dropped.
pub(crate) struct Running;

impl Running {
    pub(crate) fn new(run: &Arc<Run>) -> Self {
        *chunk() = Some(Arc::clone(run));
        Self
    }

    /// Publishes the offset of the running item.
    #[expect(clippy::unused_self, reason = "while a chunk runs")]
    pub(crate) fn set_offset(&self, offset: u32) {
        OFFSET.store(offset, Ordering::Relaxed);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        *chunk() = None;
    }
}

fn chunk() -> MutexGuard<'static, Option<Arc<Run>>> {
    // Nothing under the lock can panic.
    CHUNK.lock().unwrap_or_else(PoisonError::into_inner)
}
