//! Exceptions as failures of an item.

use procpool_worker::Failure;
use pyo3::exceptions::{PyMemoryError, PyRecursionError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// The longest message of a failure that the worker itself words.
const MAX_PROBLEM_BYTES: usize = 4096;

/// The parts of `procpool/worker/errors.py`.
struct Errors {
    pickled: Py<PyAny>,
    describe: Py<PyAny>,
    shorten: Py<PyAny>,
}

fn errors(py: Python<'_>) -> PyResult<&Errors> {
    static ERRORS: PyOnceLock<Errors> = PyOnceLock::new();
    ERRORS.get_or_try_init(py, || {
        let module = py.import("procpool.worker.errors")?;
        Ok(Errors {
            pickled: module.getattr("pickled")?.unbind(),
            describe: module.getattr("describe")?.unbind(),
            shorten: module.getattr("shorten")?.unbind(),
        })
    })
}

/// An exception as text.
pub(super) struct Text {
    pub(super) kind: String,
    pub(super) message: String,
    pub(super) traceback: String,
}

/// Describes an exception, without the worker's own frames.
pub(super) fn describe(py: Python<'_>, error: PyErr) -> Text {
    let value = error.into_value(py).into_bound(py);
    let described = errors(py).and_then(|errors| {
        let text = errors.describe.bind(py).call1((&value,))?;
        Ok(Text {
            kind: text.getattr("type")?.extract()?,
            message: text.getattr("message")?.extract()?,
            traceback: text.getattr("traceback")?.extract()?,
        })
    });
    // It fails only for want of memory.
    described.unwrap_or_else(|_| Text {
        kind: value.get_type().name().map_or_else(|_| String::new(), |name| name.to_string()),
        message: "<its message can't be shown>".to_owned(),
        traceback: String::new(),
    })
}

/// Returns the failure of an item whose function raised.
pub(super) fn raised(py: Python<'_>, error: PyErr) -> Failure {
    let Text { kind, message, traceback } = describe(py, error);
    Failure::raised_as(kind, message, traceback)
}

/// As [`raised`], with the pickle of the exception, if it has one: for a caller who can raise it again.
pub(super) fn raised_by_value(py: Python<'_>, error: PyErr) -> Failure {
    let pickled = errors(py).and_then(|errors| errors.pickled.bind(py).call1((error.value(py),))?.extract::<Vec<u8>>());
    // It fails only for want of memory.
    raised(py, error).with_data(pickled.unwrap_or_default())
}

/// Returns the failure of an item whose result's own code raised while it was encoded.
pub(super) fn not_encodable(py: Python<'_>, error: PyErr) -> Failure {
    let Text { kind, message, traceback } = describe(py, error);
    Failure::not_encodable_as(kind, message, traceback)
}

/// Returns the name of the error, if it is one for an item that is too large for this process.
pub(super) fn too_much(py: Python<'_>, error: &PyErr) -> Option<&'static str> {
    if error.is_instance_of::<PyMemoryError>(py) {
        Some("MemoryError")
    } else if error.is_instance_of::<PyRecursionError>(py) {
        Some("RecursionError")
    } else {
        None
    }
}

/// Cuts a message that the worker itself words.
pub(super) fn shorten(py: Python<'_>, problem: String) -> String {
    if problem.len() <= MAX_PROBLEM_BYTES {
        return problem;
    }
    let short = errors(py).and_then(|errors| errors.shorten.bind(py).call1((&problem, MAX_PROBLEM_BYTES))?.extract());
    short.unwrap_or(problem)
}
