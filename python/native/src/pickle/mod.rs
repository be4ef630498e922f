//! One object as one pickle, and back, without a call of Python for the usual objects.
//!
//! `write` and `read` know None, bool, int, float, str, bytes, tuple, list and dict, of exactly these types. Everything
//! else goes to Python: `procpool._pickling.dumps` and `pickle.loads`, always the whole object. So what arrives is what
//! these would have made. This module knows nothing of calls and items.

mod read;
mod write;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyBytes;

/// A function of Python, found when it is first needed.
struct Function {
    module: &'static str,
    name: &'static str,
    found: PyOnceLock<Py<PyAny>>,
}

impl Function {
    const fn new(module: &'static str, name: &'static str) -> Self {
        Self { module, name, found: PyOnceLock::new() }
    }

    fn get<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyAny>> {
        self.found.import(py, self.module, self.name)
    }
}

static DUMPS: Function = Function::new("procpool._pickling", "dumps");
static LOADS: Function = Function::new("pickle", "loads");

/// Appends the pickle of an object. After an error nothing has been appended.
pub(crate) fn append(py: Python<'_>, object: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
    if let Some(pickle) = write_or_dump(py, object, out)? {
        out.extend_from_slice(pickle.as_bytes());
    }
    Ok(())
}

/// Appends the pickle of an object, or returns it if Python has made it: it may be large, and the caller knows best where
/// to copy it to. After an error, or if it is returned, nothing has been appended.
pub(crate) fn write_or_dump<'py>(
    py: Python<'py>,
    object: &Bound<'py, PyAny>,
    out: &mut Vec<u8>,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let start = out.len();
    if write::write(object, out).is_ok() {
        return Ok(None);
    }
    out.truncate(start);
    Ok(Some(DUMPS.get(py)?.call1((object,))?.cast_into()?))
}

/// Returns the object of a pickle.
pub(crate) fn load<'py>(py: Python<'py>, pickle: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    Loader::new(py).load(pickle)
}

/// Loads many pickles, with buffers of its own.
pub(crate) struct Loader<'py> {
    py: Python<'py>,
    reader: read::Reader<'py>,
}

impl<'py> Loader<'py> {
    pub(crate) fn new(py: Python<'py>) -> Self {
        Self { py, reader: read::Reader::new(py) }
    }

    /// Returns the object of a pickle.
    pub(crate) fn load(&mut self, pickle: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        match self.reader.read(pickle) {
            Some(object) => Ok(object),
            None => LOADS.get(self.py)?.call1((PyBytes::new(self.py, pickle),)),
        }
    }
}

/// Returns the pickle of an object.
#[pyfunction]
fn dumps<'py>(py: Python<'py>, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let mut pickle = Vec::new();
    append(py, object, &mut pickle)?;
    Ok(PyBytes::new(py, &pickle))
}

/// Returns the object of a pickle.
#[pyfunction]
fn loads<'py>(py: Python<'py>, pickle: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    load(py, pickle)
}

/// Returns whether an object is written without Python, for tests.
#[pyfunction]
fn is_plain(object: &Bound<'_, PyAny>) -> bool {
    write::write(object, &mut Vec::new()).is_ok()
}

pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(dumps, module)?)?;
    module.add_function(wrap_pyfunction!(loads, module)?)?;
    module.add_function(wrap_pyfunction!(is_plain, module)?)
}
