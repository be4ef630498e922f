//! `procpool/_plain.py`, as far as the codec calls it.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// The module's parts, each looked up once.
struct Plain {
    simplify: Py<PyAny>,
    not_encodable: Py<PyAny>,
    malformed: Py<PyAny>,
    module: Py<PyModule>,
}

static PLAIN: PyOnceLock<Plain> = PyOnceLock::new();

fn plain(py: Python<'_>) -> PyResult<&Plain> {
    PLAIN.get_or_try_init(py, || {
        let module = py.import("procpool._plain")?;
        Ok(Plain {
            simplify: module.getattr("simplify")?.unbind(),
            not_encodable: module.getattr("NotEncodableError")?.unbind(),
            malformed: module.getattr("MalformedError")?.unbind(),
            module: module.unbind(),
        })
    })
}

/// Converts an object into a plainer one, by one step. What is no `NotEncodableError` is an error of the object itself.
pub(super) fn simplify<'py>(value: &Bound<'py, PyAny>) -> PyResult<Result<Bound<'py, PyAny>, String>> {
    let py = value.py();
    let plain = plain(py)?;
    match plain.simplify.bind(py).call1((value,)) {
        Ok(simpler) => Ok(Ok(simpler)),
        Err(error) if error.get_type(py).is(&plain.not_encodable) => {
            Ok(Err(error.value(py).getattr("problem")?.extract()?))
        }
        Err(error) => Err(error),
    }
}

/// Returns a text about an object: `name` is the function that makes it.
pub(super) fn describe(name: &str, about: &Bound<'_, PyAny>) -> PyResult<String> {
    plain(about.py())?.module.bind(about.py()).getattr(name)?.call1((about,))?.extract()
}

/// Returns a `NotEncodableError`.
pub(super) fn not_encodable(py: Python<'_>, problem: &str, path: Vec<String>) -> PyErr {
    let error = plain(py).and_then(|plain| plain.not_encodable.bind(py).call1((problem, path)));
    error.map_or_else(|error| error, PyErr::from_value)
}

/// Returns a `MalformedError`.
pub(super) fn malformed(py: Python<'_>, problem: &str) -> PyErr {
    let error = plain(py).and_then(|plain| plain.malformed.bind(py).call1((problem,)));
    error.map_or_else(|error| error, PyErr::from_value)
}
