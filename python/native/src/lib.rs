//! The native module of the Python package, `procpool._native`: the client over `procpool-client`, and the worker's loop
//! over `procpool-worker`. What users see is Python, in `python/procpool`; here is what has to be fast, or must not need
//! the interpreter.

mod client;
mod fork;
mod pickle;
mod values;
mod worker;

#[pyo3::pymodule(name = "_native")]
mod native {
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        crate::fork::watch();
        crate::pickle::add_to(module)?;
        crate::values::add_to(module)?;
        crate::worker::add_to(module)?;
        crate::client::add_to(module)
    }
}
