//! The life of the worker: from the connection to the server to its end.

use std::error::Error;
use std::os::fd::{AsRawFd as _, IntoRawFd as _};
use std::thread;

use procpool_worker::{Adapter, DumpSignal, Function, Worker, connect};
use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

use super::forked::{close_in_children, end_if_child};
use super::{by_value, cancel, function, memory, signals};

create_exception!(procpool._native, NotStartedError, PyException, "The program was not started by a server.");
create_exception!(procpool._native, WorkerError, PyException, "The worker can't go on.");

/// Runs a worker on the main thread until the server shuts it down. The process ends when the server goes away.
///
/// `load` returns the functions, `initialize` runs before the first item, and `register_dump` has a signal write the
/// stacks to the file descriptor that it gets, and returns the signal and how a dump ends. `by_value` registers functions
/// that run pickled ones.
#[pyfunction]
#[pyo3(signature = (*, sdk, load, initialize, register_dump, by_value))]
pub(super) fn run_worker(
    py: Python<'_>,
    sdk: String,
    load: Py<PyAny>,
    initialize: Py<PyAny>,
    register_dump: Py<PyAny>,
    by_value: bool,
) -> PyResult<()> {
    let socket = connect().map_err(|error| NotStartedError::new_err(error.to_string()))?;
    close_in_children(socket.as_raw_fd());
    cancel::install(py)?;
    let mask = signals::block();
    let adapter = Adapter::new()
        .sdk(sdk)
        .loader(move || {
            // The thread of the SDK runs by now.
            mask.restore();
            Python::attach(|py| load_functions(load.bind(py), by_value))
        })
        .dump_stacks(move |pipe| Python::attach(|py| register(register_dump.bind(py), pipe.into_raw_fd())))
        .on_wait(wait)
        .on_disconnect(exit_at_once);
    let (interrupter, repeater) = cancel::interrupter();
    let hook = move || interrupter.interrupt();
    let worker = Worker::new().adapter(adapter).on_cancel(hook).initializer(move || {
        Python::attach(|py| {
            initialize.bind(py).call0()?;
            end_if_child();
            PyResult::Ok(())
        })
    });
    let outcome = thread::scope(|scope| {
        scope.spawn(move || repeater.run());
        // It drops the interrupter, which ends the repeater.
        worker.run_on(socket)
    });
    // It may have failed before.
    mask.restore();
    outcome.map_err(raised_or)
}

fn load_functions(load: &Bound<'_, PyAny>, by_value: bool) -> PyResult<Vec<Function>> {
    let mut functions = if by_value { by_value::functions() } else { Vec::new() };
    for described in load.call0()?.try_iter()? {
        functions.push(function::of(&described?)?);
    }
    end_if_child();
    Ok(functions)
}

fn register(register_dump: &Bound<'_, PyAny>, pipe: i32) -> Option<DumpSignal> {
    // A worker without dumps is better than none.
    let (number, end) = register_dump.call1((pipe,)).ok()?.extract().ok()?;
    Some(DumpSignal { number, end })
}

/// Waits without the interpreter, so that the user's threads go on, then runs the user's signal handlers.
fn wait(wait: &mut (dyn FnMut() + Send)) -> PyResult<()> {
    Python::attach(|py| {
        memory::give_back(py);
        py.detach(wait);
        py.check_signals()?;
        end_if_child();
        Ok(())
    })
}

/// Ends the process from any thread, whatever the user's code is doing: nobody will read the result.
#[expect(unsafe_code, reason = "exit handlers would run beside the user's code")]
fn exit_at_once() {
    // SAFETY: the process ends.
    unsafe { libc::_exit(0) }
}

/// Returns what Python code raised, or an error of the worker.
fn raised_or(error: procpool_worker::WorkerError) -> PyErr {
    type Raised = Box<dyn Error + Send + Sync>;
    let raised = |error: Raised| error.downcast::<PyErr>().map(|error| *error);
    match error {
        procpool_worker::WorkerError::Hook(error) | procpool_worker::WorkerError::Loader(error) => {
            raised(error).unwrap_or_else(|error| WorkerError::new_err(error.to_string()))
        }
        error => WorkerError::new_err(error.to_string()),
    }
}
