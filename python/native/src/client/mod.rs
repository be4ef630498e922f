//! The client for `procpool.Pool`: calls that run in the background, and can be waited for with Ctrl-C.
//!
//! No Python runs on the runtime's thread, and no lock is held while Python runs. What one process made, a fork of it does
//! not use. Which calls a pool makes, and what an exception looks like, is for Python to say.

mod call;
mod codec;
mod connection;
mod errors;
mod monitor;
mod options;
mod queue;
mod results;
mod runtime;
mod stream;
mod stream_state;

use pyo3::prelude::*;

pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    errors::add_to(module)?;
    module.add_class::<connection::Client>()?;
    module.add_class::<call::Call>()?;
    module.add_class::<queue::CompletionQueue>()?;
    module.add_class::<stream::Stream>()
}
