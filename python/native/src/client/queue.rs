//! What a thread waits on that calls back when calls end.

use std::collections::VecDeque;
use std::sync::Arc;

use pyo3::prelude::*;

use super::errors::inherited;
use super::monitor::{Monitor, duration};
use crate::fork::Local;

/// The calls that have ended, by their tokens.
#[pyclass(frozen, module = "procpool._native")]
pub(crate) struct CompletionQueue {
    shared: Local<SharedQueue>,
}

pub(crate) type SharedQueue = Arc<Monitor<Ended>>;

/// Bounded by the calls that there are: each is in it once.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    tokens: VecDeque<u64>,
    is_closed: bool,
}

#[pymethods]
impl CompletionQueue {
    #[new]
    fn new() -> Self {
        Self { shared: Local::new(SharedQueue::default()) }
    }

    /// Waits for the next call that has ended, and returns its token. None if none has in time, or the queue is closed.
    #[pyo3(signature = (timeout=None))]
    fn get(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<u64>> {
        let shared = self.shared.get().ok_or_else(inherited)?;
        let found = shared.wait(py, duration(timeout)?, |ended| match ended.tokens.pop_front() {
            Some(token) => Some(Some(token)),
            None if ended.is_closed => Some(None),
            None => None,
        });
        Ok(found?.flatten())
    }

    /// Ends every `get`, as soon as it has returned what is left.
    fn close(&self) {
        if let Some(shared) = self.shared.get() {
            shared.change(|ended| ended.is_closed = true);
        }
    }
}

impl CompletionQueue {
    /// Returns what tells the queue that a call has ended.
    pub(crate) fn notifier(&self, token: u64) -> PyResult<Notifier> {
        Ok(Notifier { queue: Arc::clone(self.shared.get().ok_or_else(inherited)?), token })
    }
}

/// Tells a queue that a call has ended.
#[derive(Debug)]
pub(crate) struct Notifier {
    queue: SharedQueue,
    token: u64,
}

impl Notifier {
    pub(crate) fn notify(self) {
        self.queue.change(|ended| ended.tokens.push_back(self.token));
    }
}
