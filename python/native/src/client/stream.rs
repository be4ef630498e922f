//! A call whose items are sent one by one, and whose results are read as they come.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::poll_fn;
use procpool_client::{Call, Client, EncodedList, IMap, Stream as Lists};
use pyo3::exceptions::PyTimeoutError;
use pyo3::prelude::*;
use pyo3::types::PyList;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::codec::Codec;
use super::errors::{Closed, call_error, cancelled, inherited};
use super::monitor::duration;
use super::results::{Batch, Outcome};
use super::stream_state::{End, Order, Shared};
use crate::fork::Local;

/// When so much is encoded, it is sent.
const MAX_PART_BYTES: usize = 64 << 10;
const MAX_PART_ITEMS: usize = 256;

/// A stream of items, and of their results.
#[pyclass(frozen, module = "procpool._native")]
pub(crate) struct Stream {
    running: Local<Running>,
}

struct Running {
    shared: Arc<Shared>,
    task: AbortHandle,
    codec: Codec,
    order: Order,
}

/// What `next` finds.
enum Found {
    Batches(VecDeque<Batch>),
    End(End),
}

impl Stream {
    pub(crate) fn start(
        runtime: &Handle,
        client: Client,
        codec: Codec,
        order: Order,
        window: u32,
        call: impl FnOnce(Client, Pin<Box<dyn Lists<Item = EncodedList> + Send>>) -> Call<IMap<Bytes>>,
    ) -> Self {
        let shared = Arc::new(Shared::new(codec.kind(), window));
        let sending = Arc::clone(&shared);
        let call = call(client, Box::pin(poll_fn(move |context| sending.poll_items(context))));
        let task = runtime.spawn(Arc::clone(&shared).run(call));
        Self { running: Local::new(Running { shared, task: task.abort_handle(), codec, order }) }
    }

    fn running(&self) -> PyResult<&Running> {
        self.running.get().ok_or_else(inherited)
    }
}

#[pymethods]
impl Stream {
    /// Waits until items may be sent, and returns how many.
    #[pyo3(signature = (timeout=None))]
    fn room(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<usize> {
        let found = self.running()?.shared.state.wait(py, duration(timeout)?, |state| match state.room() {
            Some(0) => None,
            room => Some(room),
        });
        found?.ok_or_else(|| PyTimeoutError::new_err("no items may be sent yet"))?.ok_or_else(closed)
    }

    /// Encodes an item and sends it, as soon as that is allowed.
    fn send(&self, py: Python<'_>, item: &Bound<'_, PyAny>) -> PyResult<()> {
        let running = self.running()?;
        let mut list = Vec::new();
        running.codec.push(item, &mut list)?;
        running.send(py, &list, &[list.len()])
    }

    /// Sends the items of a list.
    fn send_many(&self, py: Python<'_>, items: &Bound<'_, PyList>) -> PyResult<()> {
        let running = self.running()?;
        let (mut list, mut ends) = (Vec::new(), Vec::new());
        for item in items.iter() {
            running.codec.push(&item, &mut list)?;
            ends.push(list.len());
            if list.len() >= MAX_PART_BYTES || ends.len() == MAX_PART_ITEMS {
                running.send(py, &list, &ends)?;
                list.clear();
                ends.clear();
            }
        }
        running.send(py, &list, &ends)
    }

    /// There are no more items.
    fn finish(&self) -> PyResult<()> {
        self.running()?.shared.state.change(super::stream_state::State::finish);
        Ok(())
    }

    /// There are no more items, since the input failed: the results of those before still come.
    fn fail(&self) -> PyResult<()> {
        self.finish()
    }

    /// Waits for results, and takes all that are there, at most `max_items` (0: no limit). An unordered stream has a tuple
    /// of the index and the result for each. A failed item is a Failure. None after the last.
    #[pyo3(signature = (timeout=None, max_items=0))]
    fn next<'py>(
        &self,
        py: Python<'py>,
        timeout: Option<f64>,
        max_items: usize,
    ) -> PyResult<Option<Bound<'py, PyList>>> {
        let running = self.running()?;
        let found = running.shared.state.wait(py, duration(timeout)?, |state| {
            if !state.unread.is_empty() {
                return Some(Found::Batches(std::mem::take(&mut state.unread)));
            }
            match &state.end {
                None => None,
                Some(End::Complete) => Some(Found::End(End::Complete)),
                Some(End::Cancelled) => Some(Found::End(End::Cancelled)),
                Some(End::Failed(_)) => state.end.replace(End::Complete).map(Found::End),
            }
        });
        match found?.ok_or_else(|| PyTimeoutError::new_err("no result has come in time"))? {
            Found::Batches(batches) => running.decode(py, batches, max_items).map(Some),
            Found::End(End::Complete) => Ok(None),
            Found::End(End::Failed(error)) => Err(call_error(py, error)),
            Found::End(End::Cancelled) => Err(cancelled(py)),
        }
    }

    /// Cancels the call, here and on the server.
    fn cancel(&self) {
        if let Some(running) = self.running.get() {
            running.shared.cancel();
            running.task.abort();
        }
    }
}

impl Running {
    /// Sends encoded items, of which each end is given, as they are allowed.
    fn send(&self, py: Python<'_>, list: &[u8], ends: &[usize]) -> PyResult<()> {
        let (mut num_sent, mut start) = (0, 0);
        while num_sent < ends.len() {
            let sent = self.shared.state.wait(py, None, |state| match state.room() {
                None => Some(None),
                Some(0) => None,
                Some(room) => {
                    let count = room.min(ends.len() - num_sent);
                    let end = ends[num_sent + count - 1];
                    self.shared.append(state, &list[start..end], count);
                    Some(Some((count, end)))
                }
            });
            let (count, end) = sent?.flatten().ok_or_else(closed)?;
            num_sent += count;
            start = end;
        }
        Ok(())
    }

    /// Decodes results and counts them as taken. After an error none is taken.
    fn decode<'py>(
        &self,
        py: Python<'py>,
        mut batches: VecDeque<Batch>,
        max_items: usize,
    ) -> PyResult<Bound<'py, PyList>> {
        let limit = if max_items == 0 { usize::MAX } else { max_items };
        match self.decode_some(py, &batches, limit) {
            Ok((list, num_batches, place)) => {
                batches.drain(..num_batches);
                if let (Some(place), Some(batch)) = (place, batches.front_mut()) {
                    batch.skip_to(place);
                }
                self.shared.put_back(batches, list.len() as u64);
                Ok(list)
            }
            Err(error) => {
                self.shared.put_back(batches, 0);
                Err(error)
            }
        }
    }

    /// Returns the first results, the number of batches that were used up by them, and how far the next one was.
    #[expect(clippy::type_complexity, reason = "it has one caller, which is above")]
    fn decode_some<'py>(
        &self,
        py: Python<'py>,
        batches: &VecDeque<Batch>,
        limit: usize,
    ) -> PyResult<(Bound<'py, PyList>, usize, Option<(usize, usize)>)> {
        let (list, mut decoder) = (PyList::empty(py), self.codec.decoder(py));
        for (num_batches, batch) in batches.iter().enumerate() {
            let left = limit - list.len();
            let place = batch.visit(py, &mut decoder, left, |index, outcome| {
                let outcome = match outcome {
                    Outcome::Result(result) => result,
                    Outcome::Failed(failure) => failure.into_bound(py).into_any(),
                };
                match self.order {
                    Order::Items => list.append(outcome),
                    Order::Completion => list.append((index, outcome)),
                }
            })?;
            if batch.len() > left {
                return Ok((list, num_batches, Some(place)));
            }
        }
        let num_batches = batches.len();
        Ok((list, num_batches, None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn closed() -> PyErr {
    Closed::new_err("the stream takes no more items: it has ended")
}
