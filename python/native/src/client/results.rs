//! Results as they came, as objects of Python.

use std::collections::HashMap;

use procpool_client::{CallError as Error, EncodedBatch, ItemError};
use procpool_items::Records;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::codec::{Codec, Decoder};
use super::errors::{Failure, call_error};
use super::monitor::STEPS_BETWEEN_SIGNALS;

/// From so many results on it pays to keep the garbage collector from looking at them all while they are made.
const MANY: usize = 1000;

/// What became of an item.
pub(crate) enum Outcome<'py> {
    Result(Bound<'py, PyAny>),
    Failed(Py<Failure>),
}

/// A batch of which a part may have been taken.
#[derive(Debug)]
pub(crate) struct Batch {
    message: EncodedBatch,
    errors: HashMap<u64, ItemError>,
    /// Where the rest begins: the number of the result, and its place in the list.
    position: usize,
    offset: usize,
}

impl Batch {
    pub(crate) fn new(mut message: EncodedBatch) -> Self {
        let errors = std::mem::take(&mut message.errors);
        let errors = errors.into_iter().map(|error| (error.index, error)).collect();
        Self { message, errors, position: 0, offset: 0 }
    }

    /// Returns the number of results that are left.
    pub(crate) fn len(&self) -> usize {
        self.message.results.count - self.position
    }

    /// Returns the memory that it takes.
    pub(crate) fn num_bytes(&self) -> usize {
        self.message.results.bytes.len() + self.message.indexes.len() * size_of::<u64>()
    }

    /// Takes the results up to a place that [`Batch::visit`] returned.
    pub(crate) fn skip_to(&mut self, (position, offset): (usize, usize)) {
        (self.position, self.offset) = (position, offset);
    }

    /// Calls a function for each result that is left, at most `limit`. Returns where the rest begins; nothing is taken.
    pub(crate) fn visit<'py>(
        &self,
        py: Python<'py>,
        decoder: &mut Decoder<'py>,
        limit: usize,
        mut with: impl FnMut(u64, Outcome<'py>) -> PyResult<()>,
    ) -> PyResult<(usize, usize)> {
        let list = &self.message.results.bytes;
        let mut records = Records::new(&list[self.offset..]);
        let mut position = self.position;
        for content in records.by_ref().take(limit).flatten() {
            let index = self.message.indexes.get(position).copied();
            let index = index.unwrap_or(self.message.first_index + position as u64);
            let error = if self.errors.is_empty() { None } else { self.errors.get(&index) };
            let outcome = match error {
                Some(error) => Outcome::Failed(Failure::new(py, error.clone())?),
                None => match decoder.decode(content) {
                    Ok(result) => Outcome::Result(result),
                    Err(error) if error.is_instance_of::<PyException>(py) => {
                        Outcome::Failed(Failure::not_decodable(py, index, &error)?)
                    }
                    // Such as Ctrl-C.
                    Err(error) => return Err(error),
                },
            };
            with(index, outcome)?;
            position += 1;
            if position.is_multiple_of(STEPS_BETWEEN_SIGNALS) {
                py.check_signals()?;
            }
        }
        Ok((position, list.len() - records.num_bytes_left()))
    }
}

/// Returns all results of a call in the order of its items, with None for each that failed, and the failures.
pub(crate) fn decode_all<'py>(
    py: Python<'py>,
    codec: Codec,
    count: usize,
    batches: &[Batch],
) -> PyResult<(Bound<'py, PyList>, Bound<'py, PyList>)> {
    let _paused = (count >= MANY).then(|| GarbageCollectorPause::begin(py));
    let mut results: Vec<Option<Bound<'py, PyAny>>> = Vec::new();
    results.resize_with(count, || None);
    let (mut failures, mut num_came) = (Vec::new(), 0);
    let mut decoder = codec.decoder(py);
    for batch in batches {
        batch.visit(py, &mut decoder, usize::MAX, |index, outcome| {
            let place = usize::try_from(index).ok().and_then(|index| results.get_mut(index));
            let place = place.ok_or_else(|| protocol(py, format!("a result came for item {index} of {count}")))?;
            match outcome {
                Outcome::Result(result) => *place = Some(result),
                Outcome::Failed(failure) => {
                    *place = Some(py.None().into_bound(py));
                    failures.push((index, failure));
                }
            }
            num_came += 1;
            Ok(())
        })?;
    }
    if num_came != count || results.iter().any(Option::is_none) {
        return Err(protocol(py, format!("{num_came} results came for {count} items")));
    }
    failures.sort_by_key(|(index, _)| *index);
    let failures = PyList::new(py, failures.into_iter().map(|(_, failure)| failure))?;
    Ok((PyList::new(py, results)?, failures))
}

fn protocol(py: Python<'_>, message: String) -> PyErr {
    call_error(py, Error::Protocol { message })
}

/// While it exists, the garbage collector does not run by itself.
struct GarbageCollectorPause<'py> {
    was_enabled: bool,
    _attached: Python<'py>,
}

#[expect(unsafe_code, reason = "it has no safe name")]
impl<'py> GarbageCollectorPause<'py> {
    fn begin(py: Python<'py>) -> Self {
        // SAFETY: the interpreter is attached.
        let was_enabled = unsafe { pyo3::ffi::PyGC_Disable() } != 0;
        Self { was_enabled, _attached: py }
    }
}

#[expect(unsafe_code, reason = "it has no safe name")]
impl Drop for GarbageCollectorPause<'_> {
    fn drop(&mut self) {
        if self.was_enabled {
            // SAFETY: the interpreter is attached, as `_attached` says.
            unsafe { pyo3::ffi::PyGC_Enable() };
        }
    }
}
