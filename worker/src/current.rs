//! What a function can learn of the item that it is called with, from any thread.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use procpool_ipc::proto::Run;

/// The chunk that runs.
static CHUNK: Mutex<Option<Arc<Run>>> = Mutex::new(None);
/// The offset in the chunk of the item that runs.
static OFFSET: AtomicU32 = AtomicU32::new(0);

/// The item that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CurrentItem {
    /// The name that the function was called by.
    pub function: String,
    /// The index of the item in the caller's list.
    pub index: u64,
    /// Which execution of the item this is, from 1.
    pub attempt: u32,
    /// The W3C trace context to continue: what a request of the function's sends in the header of this name. Empty: none.
    pub traceparent: String,
    /// The rest of the trace context.
    pub tracestate: String,
}

/// Returns the item that runs; `None` outside of one. It can be called from threads that the function started.
pub fn current() -> Option<CurrentItem> {
    let run = chunk().clone()?;
    Some(CurrentItem {
        function: run.function.clone(),
        index: run.first_index + u64::from(OFFSET.load(Ordering::Relaxed)),
        attempt: run.attempt,
        traceparent: run.traceparent.clone(),
        tracestate: run.tracestate.clone(),
    })
}

/// Says which chunk runs, until it is dropped.
pub(crate) struct Running;

impl Running {
    pub(crate) fn new(run: &Arc<Run>) -> Self {
        *chunk() = Some(Arc::clone(run));
        Self
    }

    /// Says which item runs.
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
