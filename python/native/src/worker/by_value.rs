//! Functions that come with the call, as pickles: only in workers that are told to take them, since a pickle can do
//! anything in the process that reads it.
//!
//! The common argument is the function, an item what it is called with, and the result what it returned, each a pickle.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use procpool_worker::{Encoding, Failure, Function, Input, RawCommon, Style};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use super::call_error::{CallError, Part};
use super::cancel::cancellable;
use super::failure::{describe, raised_by_value, shorten};
use super::forked::end_if_child;
use super::results::check_length;
use super::{cancel, common, memory};
use crate::pickle;

/// How many functions are kept from one call to the next, and the longest of these.
const MAX_KEPT: usize = 32;
const MAX_KEPT_BYTES: usize = 1 << 20;

/// How an item becomes the arguments of the function.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// It is the argument.
    Map,
    /// It is a tuple of arguments.
    StarMap,
    /// It is a tuple of a tuple of arguments and a dict of keyword arguments.
    Apply,
}

/// The functions that were decoded last, by the digest of their pickles; the oldest first.
type Kept = Arc<Mutex<VecDeque<(Vec<u8>, Py<PyAny>)>>>;

/// Returns the functions that run functions by value.
pub(super) fn functions() -> Vec<Function> {
    let kept = Kept::default();
    [("map", Shape::Map), ("starmap", Shape::StarMap), ("apply", Shape::Apply)]
        .into_iter()
        .map(|(name, shape)| {
            let kept = Arc::clone(&kept);
            Function::dynamic(format!("procpool:{name}"), move |input, buffer| {
                Python::attach(|py| {
                    let outcome = run(py, shape, &kept, &input, buffer);
                    memory::note(input.chunk_bytes.max(buffer.len()));
                    end_if_child();
                    outcome
                })
            })
        })
        .collect()
}

fn run(py: Python<'_>, shape: Shape, kept: &Kept, input: &Input<'_>, buffer: &mut Vec<u8>) -> Result<(), Failure> {
    let (Encoding::Bytes, Style::Map, Some(function)) = (input.encoding, input.style, input.common) else {
        return Err(Failure::invalid_item("it is called with Map, blobs that are pickles, and a function in common"));
    };
    let result = cancellable(py, || call(py, shape, kept, function, input)).map_err(|error| match error {
        CallError::Raised(error) => raised_by_value(py, error),
        error => error.into_failure(py),
    })?;
    match pickle::append(py, &result, buffer) {
        Ok(()) => check_length(buffer.len(), input),
        Err(error) => Err(not_pickled(&result, &error)),
    }
}

fn call<'py>(
    py: Python<'py>,
    shape: Shape,
    kept: &Kept,
    raw: &RawCommon,
    input: &Input<'_>,
) -> Result<Bound<'py, PyAny>, CallError> {
    let function = common::object(py, raw, |pickle| decode_function(py, kept, pickle))?;
    let item = unpickled(py, pickle::load(py, input.content), Part::Item)?;
    let wrong = |problem: &str| CallError::Invalid { part: Part::Item, problem: problem.to_owned() };
    match shape {
        Shape::Map => Ok(crate::values::objects::call(&function, &item, None)?),
        Shape::StarMap => {
            // As `itertools.starmap` does, and for the same exception.
            let arguments = match item.cast_into::<PyTuple>() {
                Ok(arguments) => arguments,
                Err(other) => {
                    py.get_type::<PyTuple>().call1((other.into_inner(),))?.cast_into().map_err(PyErr::from)?
                }
            };
            Ok(function.call1(arguments)?)
        }
        Shape::Apply => {
            let (arguments, kwargs): (Bound<'py, PyTuple>, Bound<'py, PyDict>) =
                item.extract().map_err(|_| wrong("the item must be a tuple of a tuple of arguments and a dict"))?;
            drop(item);
            Ok(function.call(arguments, Some(&kwargs))?)
        }
    }
}

fn decode_function<'py>(py: Python<'py>, kept: &Kept, pickle: &[u8]) -> Result<Bound<'py, PyAny>, CallError> {
    if pickle.len() > MAX_KEPT_BYTES {
        return unpickled(py, pickle::load(py, pickle), Part::Common);
    }
    let digest = py.import("hashlib")?.call_method1("sha256", (PyBytes::new(py, pickle),))?.call_method0("digest")?;
    let digest: Vec<u8> = digest.extract()?;
    let lock = || kept.lock().unwrap_or_else(PoisonError::into_inner);
    let found = lock().iter().find(|(known, _)| *known == digest).map(|(_, function)| function.clone_ref(py));
    if let Some(function) = found {
        return Ok(function.into_bound(py));
    }
    let function = unpickled(py, pickle::load(py, pickle), Part::Common)?;
    let dropped = {
        let mut kept = lock();
        kept.push_back((digest, function.clone().unbind()));
        if kept.len() > MAX_KEPT { kept.pop_front() } else { None }
    };
    // Outside of the lock: it may run code of the user's.
    drop(dropped);
    Ok(function)
}

/// Says what cannot be unpickled, and why: it fails the item as what a function raises does; a cancelled item stays one.
fn unpickled<T>(py: Python<'_>, loaded: PyResult<T>, part: Part) -> Result<T, CallError> {
    loaded.map_err(|error| {
        if cancel::is_cancelled(py, &error) {
            return CallError::Raised(error);
        }
        let what = if matches!(part, Part::Common) { "the function" } else { "the item" };
        let text = describe(py, error);
        let last_line = text.traceback.trim_end().rsplit('\n').next().unwrap_or_default();
        let message = shorten(py, format!("{what} can't be unpickled: {last_line}"));
        CallError::Unpicklable(Failure::raised_as(String::new(), message, text.traceback))
    })
}

/// Returns the failure of an item whose result can't be pickled, as `multiprocessing` words it.
fn not_pickled(result: &Bound<'_, PyAny>, error: &PyErr) -> Failure {
    let py = result.py();
    let reason = error.value(py).clone();
    let made = || py.import("multiprocessing.pool")?.getattr("MaybeEncodingError")?.call1((reason, result));
    match made() {
        Ok(made) => raised_by_value(py, PyErr::from_value(made)),
        // Its `repr` raises.
        Err(error) => raised_by_value(py, error),
    }
}
