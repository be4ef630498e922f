//! The client: a connection, and the calls that start on it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use procpool_client::{CallError as Error, Client as Connection, FunctionInfo, Limits};
use pyo3::exceptions::{PyNotImplementedError, PyTimeoutError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use super::call::{Call, Request};
use super::codec::Codec;
use super::errors::{call_error, connect_error};
use super::monitor::duration;
use super::options::Options;
use super::queue::CompletionQueue;
use super::runtime;
use super::stream::Stream;
use super::stream_state::Order;
use crate::fork::Local;

/// The limits on messages are the server's.
const MAX_MESSAGE_BYTES: usize = u32::MAX as usize;

/// A client of a server. It connects with its first call, and anew in a fork.
#[pyclass(frozen, module = "procpool._native")]
pub(crate) struct Client {
    target: String,
    request_timeout: Option<Duration>,
    /// Only locked while the interpreter is attached, and never while Python runs: so no fork finds it locked.
    connection: Mutex<Option<Local<Connection>>>,
    is_closed: AtomicBool,
}

#[pymethods]
impl Client {
    #[new]
    #[pyo3(signature = (target, *, request_timeout=None))]
    fn new(target: String, request_timeout: Option<f64>) -> PyResult<Self> {
        Connection::check_address(&target).map_err(|error| connect_error(&error))?;
        let request_timeout = duration(request_timeout)?;
        Ok(Self { target, request_timeout, connection: Mutex::new(None), is_closed: AtomicBool::new(false) })
    }

    /// Encodes all items and starts a call.
    #[expect(clippy::too_many_arguments, reason = "they are keyword arguments of Python")]
    #[pyo3(signature = (
        function, items, *, codec, style="map", common=None, content_type=String::new(), chunk_size=0, item_timeout=None,
        max_attempts=0, fail_fast=false, priority=0, timeout=None, queue=None, token=0,
    ))]
    fn start(
        &self,
        py: Python<'_>,
        function: String,
        items: &Bound<'_, PyAny>,
        codec: &str,
        style: &str,
        common: Option<&Bound<'_, PyBytes>>,
        content_type: String,
        chunk_size: u32,
        item_timeout: Option<f64>,
        max_attempts: u32,
        fail_fast: bool,
        priority: i32,
        timeout: Option<f64>,
        queue: Option<&CompletionQueue>,
        token: u64,
    ) -> PyResult<Call> {
        let codec = Codec::parse(codec)?;
        let star = match style {
            "map" => false,
            "starmap" => true,
            "apply" => return Err(PyNotImplementedError::new_err("the style 'apply' comes with the codec 'values'")),
            _ => return Err(PyValueError::new_err(format!("{style:?} is no style; use 'map', 'starmap' or 'apply'"))),
        };
        let (item_timeout, timeout) = (duration(item_timeout)?, duration(timeout)?);
        let common = common.map(|common| Bytes::copy_from_slice(common.as_bytes()));
        let options = Options { common, content_type, chunk_size, item_timeout, max_attempts, priority, timeout };
        let notifier = queue.map(|queue| queue.notifier(token)).transpose()?;
        let items = codec.encode_all(items)?;
        let request = Request { function, items, codec, star, fail_fast, options };
        Ok(Call::start(&runtime::handle(py)?, self.connection(py)?, request, notifier))
    }

    /// Starts a call whose items are sent one by one.
    #[expect(clippy::too_many_arguments, reason = "they are keyword arguments of Python")]
    #[pyo3(signature = (
        function, *, codec, common=None, content_type=String::new(), ordered=true, window=0, star=false, chunk_size=0,
        item_timeout=None, max_attempts=0, fail_fast=false, priority=0, timeout=None,
    ))]
    fn stream(
        &self,
        py: Python<'_>,
        function: String,
        codec: &str,
        common: Option<&Bound<'_, PyBytes>>,
        content_type: String,
        ordered: bool,
        window: u32,
        star: bool,
        chunk_size: u32,
        item_timeout: Option<f64>,
        max_attempts: u32,
        fail_fast: bool,
        priority: i32,
        timeout: Option<f64>,
    ) -> PyResult<Stream> {
        let codec = Codec::parse(codec)?;
        let (item_timeout, timeout) = (duration(item_timeout)?, duration(timeout)?);
        let common = common.map(|common| Bytes::copy_from_slice(common.as_bytes()));
        let options = Options { common, content_type, chunk_size, item_timeout, max_attempts, priority, timeout };
        let order = if ordered { Order::Items } else { Order::Completion };
        let start = |connection: Connection, lists| {
            let mut call =
                options.of_imap(connection.imap_stream_encoded(function, codec.kind(), lists)).window(window);
            if star {
                call = call.star();
            }
            if fail_fast {
                call = call.fail_fast();
            }
            if order == Order::Completion { call.unordered() } else { call }
        };
        Ok(Stream::start(&runtime::handle(py)?, self.connection(py)?, codec, order, window, start))
    }

    /// Returns the functions that the workers registered.
    #[pyo3(signature = (timeout=None))]
    fn list_functions<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let connection = self.connection(py)?;
        let functions = within(py, timeout, async move { connection.functions().await })?;
        functions.into_iter().map(|function| function_to_dict(py, function)).collect()
    }

    /// Returns what the server accepts.
    #[pyo3(signature = (timeout=None))]
    fn limits<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyDict>> {
        let connection = self.connection(py)?;
        let limits: Limits = within(py, timeout, async move { connection.limits().await })?;
        let dict = PyDict::new(py);
        dict.set_item("max_message_bytes", limits.max_message_bytes)?;
        dict.set_item("max_queued_items", limits.max_queued_items)?;
        dict.set_item("num_slots", limits.num_slots)?;
        Ok(dict)
    }

    /// Returns whether the server takes calls.
    #[pyo3(signature = (timeout=None))]
    fn is_serving(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let connection = self.connection(py)?;
        let health = within(py, timeout, async move { connection.health().await })?;
        Ok(health == procpool_client::Health::Serving)
    }

    /// Lets go of the connection when the calls in progress have ended; there are no more.
    fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(connection);
    }
}

impl Client {
    /// Returns the connection of this process.
    fn connection(&self, py: Python<'_>) -> PyResult<Connection> {
        if self.is_closed.load(Ordering::Relaxed) {
            return Err(PyValueError::new_err("the client is closed"));
        }
        let runtime = runtime::handle(py)?;
        let mut shared = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = shared.as_ref().and_then(Local::get) {
            return Ok(connection.clone());
        }
        let mut builder = Connection::builder().max_message_bytes(MAX_MESSAGE_BYTES);
        if let Some(timeout) = self.request_timeout {
            builder = builder.default_timeout(timeout);
        }
        let _in_runtime = runtime.enter();
        let connection = builder.connect_lazy(&self.target).map_err(|error| connect_error(&error))?;
        *shared = Some(Local::new(connection.clone()));
        Ok(connection)
    }
}

/// Waits for the answer to a request, for so long.
fn within<T: Send + 'static>(
    py: Python<'_>,
    timeout: Option<f64>,
    request: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> PyResult<T> {
    let timeout = duration(timeout)?;
    let answer = runtime::block_on(py, async move {
        match timeout {
            Some(timeout) => tokio::time::timeout(timeout, request).await.ok(),
            None => Some(request.await),
        }
    });
    match answer? {
        Some(answer) => answer.map_err(|error| call_error(py, error)),
        None => Err(PyTimeoutError::new_err("the server has not answered in time")),
    }
}

fn function_to_dict(py: Python<'_>, function: FunctionInfo) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("name", function.name)?;
    dict.set_item("signature", function.signature)?;
    dict.set_item("doc", function.doc)?;
    dict.set_item("example", function.example)?;
    dict.set_item("idempotent", function.idempotent)?;
    dict.set_item("pool", function.pool)?;
    Ok(dict)
}
