//! The worker: runs the user's functions for a server, over `procpool-worker`.
//!
//! Here is what happens for every item, and what must not need the interpreter. Python has the command line and what
//! happens once: it imports the user's module, finds the functions in it, and describes exceptions.

mod arguments;
mod by_value;
mod call_error;
mod cancel;
mod common;
mod failure;
mod forked;
mod function;
mod memory;
mod process;
mod results;
mod signals;

use pyo3::prelude::*;

/// Adds the part of the worker to the module.
pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("NotStartedError", py.get_type::<process::NotStartedError>())?;
    module.add("WorkerError", py.get_type::<process::WorkerError>())?;
    module.add_function(wrap_pyfunction!(process::run_worker, module)?)?;
    module.add_function(wrap_pyfunction!(current, module)?)?;
    module.add_function(wrap_pyfunction!(cancelled, module)?)
}

/// What `procpool.CurrentItem` is made of, in its order.
type CurrentItem = (u64, u32, u64, String, String, String);

/// Returns the parts of the running item; None outside of one.
#[pyfunction]
fn current() -> Option<CurrentItem> {
    let item = procpool_worker::current()?;
    Some((item.index, item.attempt, item.chunk, item.function, item.traceparent, item.tracestate))
}

/// Returns whether the running item is cancelled.
#[pyfunction]
fn cancelled() -> bool {
    procpool_worker::cancelled()
}
