//! The errors of calls and of items, as Python sees them.

use procpool_client::{CallError as Error, ConnectError as AddressError, ItemError, ItemErrorKind};
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

create_exception!(procpool._native, CallError, PyException, "A call as a whole has no results.");
create_exception!(procpool._native, ConnectError, PyException, "A target is no address of a server.");
create_exception!(procpool._native, Closed, PyException, "A stream takes no more items.");

pub(super) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("CallError", py.get_type::<CallError>())?;
    module.add("ConnectError", py.get_type::<ConnectError>())?;
    module.add("Closed", py.get_type::<Closed>())?;
    module.add_class::<Failure>()
}

/// Why one item has no result.
#[pyclass(frozen, get_all, module = "procpool._native")]
#[derive(Debug)]
pub(crate) struct Failure {
    index: u64,
    kind: &'static str,
    message: String,
    /// The type of the exception.
    r#type: String,
    /// The remote traceback, or the stacks of an item that ran too long.
    traceback: String,
    /// The pickle of the exception.
    data: Py<PyBytes>,
    signal: Option<i32>,
    exit_code: Option<i32>,
    pid: Option<u32>,
    attempt: Option<u32>,
    stderr_tail: String,
    /// The exception with which a result could not be decoded here.
    cause: Option<Py<PyAny>>,
}

#[pymethods]
impl Failure {
    fn __repr__(&self) -> String {
        format!("<Failure of item {}: {}: {}>", self.index, self.kind, self.message)
    }
}

impl Failure {
    pub(crate) fn new(py: Python<'_>, error: ItemError) -> PyResult<Py<Self>> {
        let mut failure = Self::with_message(py, error.index, "other", error.message);
        match error.kind {
            ItemErrorKind::Raised { type_name, message, traceback, data } => {
                failure.kind = "raised";
                failure.message = message;
                failure.r#type = type_name;
                failure.traceback = traceback;
                failure.data = PyBytes::new(py, &data).unbind();
            }
            ItemErrorKind::ResultNotEncodable => failure.kind = "result_not_encodable",
            ItemErrorKind::ResultTooLarge => failure.kind = "result_too_large",
            ItemErrorKind::InvalidItem => failure.kind = "invalid_item",
            ItemErrorKind::WorkerCrashed { signal, exit_code, pid, attempt, stderr_tail, .. } => {
                failure.kind = "worker_crashed";
                (failure.signal, failure.exit_code) = (signal, exit_code);
                (failure.pid, failure.attempt) = (known(pid), known(attempt));
                failure.stderr_tail = stderr_tail;
            }
            ItemErrorKind::WorkerOomKilled { pid, attempt, stderr_tail, .. } => {
                failure.kind = "worker_oom_killed";
                (failure.pid, failure.attempt) = (known(pid), known(attempt));
                failure.stderr_tail = stderr_tail;
            }
            ItemErrorKind::CrashLimit { attempts, stderr_tail } => {
                failure.kind = "crash_limit";
                failure.attempt = known(attempts);
                failure.stderr_tail = stderr_tail;
            }
            ItemErrorKind::ItemTimeout { attempt, stack } => {
                failure.kind = "item_timeout";
                failure.attempt = known(attempt);
                failure.traceback = stack;
            }
            ItemErrorKind::WorkerProtocol => failure.kind = "worker_protocol",
            _ => {}
        }
        Py::new(py, failure)
    }

    /// Returns the failure of an item whose result could not be decoded.
    pub(crate) fn not_decodable(py: Python<'_>, index: u64, cause: &PyErr) -> PyResult<Py<Self>> {
        let mut failure = Self::with_message(py, index, "result_not_decodable", cause.to_string());
        failure.cause = Some(cause.value(py).clone().into_any().unbind());
        Py::new(py, failure)
    }

    fn with_message(py: Python<'_>, index: u64, kind: &'static str, message: String) -> Self {
        Self {
            index,
            kind,
            message,
            r#type: String::new(),
            traceback: String::new(),
            data: PyBytes::new(py, b"").unbind(),
            signal: None,
            exit_code: None,
            pid: None,
            attempt: None,
            stderr_tail: String::new(),
            cause: None,
        }
    }
}

fn known(number: u32) -> Option<u32> {
    (number != 0).then_some(number)
}

pub(crate) fn connect_error(error: &AddressError) -> PyErr {
    ConnectError::new_err(error.to_string())
}

/// Returns the exception for a call that failed as a whole.
pub(crate) fn call_error(py: Python<'_>, error: Error) -> PyErr {
    let (kind, reason) = kind_of(&error);
    let (message, retryable) = (error.to_string(), error.is_safe_to_retry());
    let failure = match error {
        Error::ItemFailed(error) => Failure::new(py, *error).map(Some),
        _ => Ok(None),
    };
    failure.and_then(|failure| raise(py, kind, &reason, &message, retryable, failure)).unwrap_or_else(|error| error)
}

/// Returns the exception for a call that the application has cancelled.
pub(crate) fn cancelled(py: Python<'_>) -> PyErr {
    raise(py, "cancelled", "", "the call was cancelled", false, None).unwrap_or_else(|error| error)
}

/// Returns the exception for the use of something in a process that did not make it.
pub(crate) fn inherited() -> PyErr {
    PyRuntimeError::new_err("this was made in another process, of which this one is a fork: make a new one here")
}

fn raise(
    py: Python<'_>,
    kind: &str,
    reason: &str,
    message: &str,
    retryable: bool,
    failure: Option<Py<Failure>>,
) -> PyResult<PyErr> {
    let error = CallError::new_err(message.to_owned());
    let value = error.value(py);
    value.setattr("kind", kind)?;
    value.setattr("reason", reason)?;
    value.setattr("message", message)?;
    value.setattr("retryable", retryable)?;
    value.setattr("failure", failure)?;
    Ok(error)
}

fn kind_of(error: &Error) -> (&'static str, String) {
    let kind = match error {
        Error::QueueFull { .. } => "queue_full",
        Error::Unavailable { reason, .. } => return ("unavailable", reason.clone()),
        Error::ConnectionLost { .. } => "connection_lost",
        Error::FunctionNotFound { .. } => "function_not_found",
        Error::InvalidArgument { .. } => "invalid_argument",
        Error::ItemFailed(_) => "item_failed",
        Error::DeadlineExceeded { phase, .. } => return ("deadline_exceeded", phase.clone()),
        Error::Cancelled { reason, .. } => return ("cancelled", reason.clone()),
        Error::MessageTooLarge { .. } => "message_too_large",
        Error::Protocol { .. } => "protocol",
        Error::Other { reason, .. } => return ("other", reason.clone()),
        _ => "other",
    };
    (kind, String::new())
}
