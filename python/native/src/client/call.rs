//! A call that runs in the background and has all results at its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use procpool_client::{CallError as Error, Client, EncodedBatch, EncodedList};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyList;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::codec::Codec;
use super::errors::{call_error, cancelled, inherited};
use super::monitor::{Monitor, duration};
use super::options::Options;
use super::queue::Notifier;
use super::results::{Batch, decode_all};
use crate::fork::Local;

/// A request above this is sent as a stream: the server need not take it in one message.
const MAX_REQUEST_BYTES: usize = 16 << 20;
/// How far a request that is sent as a stream runs ahead of its results. Those are read at once.
const STREAM_WINDOW: u32 = 4096;

/// What is to be called, with which items.
pub(crate) struct Request {
    pub(crate) function: String,
    pub(crate) items: EncodedList,
    pub(crate) codec: Codec,
    pub(crate) star: bool,
    pub(crate) fail_fast: bool,
    pub(crate) options: Options,
}

impl Request {
    /// Makes the call. Several results come as they finish: no answer has to hold them all, and none waits for another.
    /// `num_received` counts them.
    async fn answer(self, client: Client, num_received: &AtomicUsize) -> Result<Vec<Batch>, Error> {
        let Self { function, items, star, fail_fast, options, .. } = self;
        if items.count == 0 {
            return Ok(Vec::new());
        }
        if items.count == 1 {
            let call = options.of_map(client.map_encoded(function, items));
            let call = if star { call.star() } else { call };
            let batch: EncodedBatch =
                if fail_fast { call.encoded().await? } else { call.collect_errors().encoded().await? };
            num_received.store(1, Ordering::Relaxed);
            return Ok(vec![Batch::new(batch)]);
        }
        let is_large = items.bytes.len() > MAX_REQUEST_BYTES;
        let mut call = options.of_imap(client.imap_encoded(function, items)).unordered();
        if star {
            call = call.star();
        }
        if fail_fast {
            call = call.fail_fast();
        }
        if is_large {
            call = call.window(STREAM_WINDOW);
        }
        let mut results = call.await?;
        let (mut batches, mut num_taken) = (Vec::new(), 0);
        let taken = results.taken();
        while let Some(batch) = results.next_batch().await? {
            num_taken += batch.results.count as u64;
            num_received.fetch_add(batch.results.count, Ordering::Relaxed);
            if let Some(taken) = &taken {
                taken.report(num_taken);
            }
            if batch.results.count > 0 {
                batches.push(Batch::new(batch));
            }
        }
        Ok(batches)
    }
}

/// A call that has started.
#[pyclass(frozen, module = "procpool._native")]
pub(crate) struct Call {
    running: Local<Running>,
}

struct Running {
    state: Arc<Monitor<State>>,
    task: AbortHandle,
    codec: Codec,
    count: usize,
    num_received: Arc<AtomicUsize>,
}

enum State {
    Running,
    Ended(Result<Vec<Batch>, Error>),
    Cancelled,
    /// The results, or the error, were handed over.
    Taken,
}

/// Sees to it that a call ends, whatever becomes of its task.
struct End {
    state: Arc<Monitor<State>>,
    notifier: Option<Notifier>,
}

impl End {
    fn set(&self, outcome: State) {
        self.state.change(|state| {
            if matches!(state, State::Running) {
                *state = outcome;
            }
        });
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.set(State::Cancelled);
        if let Some(notifier) = self.notifier.take() {
            notifier.notify();
        }
    }
}

impl Call {
    pub(crate) fn start(runtime: &Handle, client: Client, request: Request, notifier: Option<Notifier>) -> Self {
        let (codec, count) = (request.codec, request.items.count);
        let state = Arc::new(Monitor::new(State::Running));
        let end = End { state: Arc::clone(&state), notifier };
        let num_received = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&num_received);
        let task = runtime.spawn(async move {
            let answer = request.answer(client, &counted).await;
            end.set(State::Ended(answer));
        });
        Self { running: Local::new(Running { state, task: task.abort_handle(), codec, count, num_received }) }
    }

    fn running(&self) -> PyResult<&Running> {
        self.running.get().ok_or_else(inherited)
    }
}

#[pymethods]
impl Call {
    /// Waits until the call has ended. Returns whether it has.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let ended = self.running()?.state.wait(py, duration(timeout)?, |state| state.has_ended().then_some(()));
        Ok(ended?.is_some())
    }

    /// Returns whether the call has ended.
    fn ready(&self) -> PyResult<bool> {
        Ok(self.running()?.state.lock().has_ended())
    }

    /// Returns how many items there are.
    fn num_items(&self) -> PyResult<usize> {
        Ok(self.running()?.count)
    }

    /// Returns how many items have ended, as far as it is known here.
    fn num_received(&self) -> PyResult<usize> {
        Ok(self.running()?.num_received.load(Ordering::Relaxed))
    }

    /// Waits for the end, and returns the results, with None for each item that failed, and the failures. They are handed
    /// over: it works once.
    fn result<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyList>, Bound<'py, PyList>)> {
        let running = self.running()?;
        let ended = running.state.wait(py, None, |state| {
            state.has_ended().then(|| match state {
                State::Cancelled => State::Cancelled,
                _ => std::mem::replace(state, State::Taken),
            })
        });
        match ended?.unwrap_or(State::Taken) {
            State::Ended(Ok(batches)) => decode_all(py, running.codec, running.count, &batches).inspect_err(|_| {
                // Ctrl-C, perhaps: it can be tried again.
                *running.state.lock() = State::Ended(Ok(batches));
            }),
            State::Ended(Err(error)) => Err(call_error(py, error)),
            State::Cancelled => Err(cancelled(py)),
            State::Running | State::Taken => Err(PyRuntimeError::new_err("the results were handed over already")),
        }
    }

    /// Cancels the call, here and on the server.
    fn cancel(&self) {
        if let Some(running) = self.running.get() {
            running.state.change(|state| {
                if matches!(state, State::Running) {
                    *state = State::Cancelled;
                }
            });
            running.task.abort();
        }
    }
}

impl State {
    fn has_ended(&self) -> bool {
        !matches!(self, Self::Running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}
