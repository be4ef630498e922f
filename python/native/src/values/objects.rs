//! Objects whose size is the caller's to choose. The constructors of `PyO3` panic when memory is short; these raise.

#![expect(unsafe_code, reason = "PyO3 has no constructors that return an error")]

use pyo3::ffi;
use pyo3::prelude::*;

fn length(bytes: &[u8]) -> ffi::Py_ssize_t {
    ffi::Py_ssize_t::try_from(bytes.len()).expect("a slice is at most isize::MAX long")
}

/// Returns a str.
pub(crate) fn text<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the pointer and the length are those of a slice, which is copied; a new reference is returned, or NULL
    // with an exception.
    unsafe {
        let made = ffi::PyUnicode_FromStringAndSize(text.as_ptr().cast(), length(text.as_bytes()));
        Bound::from_owned_ptr_or_err(py, made)
    }
}

/// Returns a bytes object.
pub(crate) fn bytes<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: as in `text`.
    unsafe {
        let made = ffi::PyBytes_FromStringAndSize(bytes.as_ptr().cast(), length(bytes));
        Bound::from_owned_ptr_or_err(py, made)
    }
}

/// Returns an int.
pub(crate) fn integer(py: Python<'_>, value: i64) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: a new reference is returned, or NULL with an exception.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyLong_FromLongLong(value)) }
}

/// Returns the value of an int, if it has at most 64 bits.
pub(crate) fn int_value(number: &Bound<'_, pyo3::types::PyInt>) -> Option<i64> {
    let mut overflow = 0;
    // SAFETY: the object lives and is an int, so there is no error but the overflow, which is no exception.
    let value = unsafe { ffi::PyLong_AsLongLongAndOverflow(number.as_ptr(), &raw mut overflow) };
    if overflow == 0 { Some(value) } else { None }
}

/// Returns a float.
pub(crate) fn float(py: Python<'_>, value: f64) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: as in `integer`.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyFloat_FromDouble(value)) }
}

/// Calls `visit` with the keys and the values of a dict.
///
/// # Errors
///
/// If `visit` fails, or the dict has changed its size meanwhile.
pub(crate) fn each_entry<'py, E: From<PyErr>>(
    dict: &Bound<'py, pyo3::types::PyDict>,
    mut visit: impl FnMut(&Bound<'py, PyAny>, &Bound<'py, PyAny>) -> Result<(), E>,
) -> Result<(), E> {
    let py = dict.py();
    let size = dict.len();
    let (mut position, mut key, mut value) = (0, std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: the dict lives, and the pointers are to variables. `PyDict_Next` bears a dict that has changed since.
    while unsafe { ffi::PyDict_Next(dict.as_ptr(), &raw mut position, &raw mut key, &raw mut value) } != 0 {
        // SAFETY: both are borrowed from the dict, which nothing has changed since; these own a reference each.
        let (key, value) = unsafe { (Bound::from_borrowed_ptr(py, key), Bound::from_borrowed_ptr(py, value)) };
        visit(&key, &value)?;
        if dict.len() != size {
            let error = pyo3::exceptions::PyRuntimeError::new_err("dictionary changed size during iteration");
            return Err(error.into());
        }
    }
    Ok(())
}

/// Calls with one argument or two, without a tuple for them.
pub(crate) fn call<'py>(
    function: &Bound<'py, PyAny>,
    first: &Bound<'py, PyAny>,
    second: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let end = std::ptr::null_mut::<ffi::PyObject>();
    // SAFETY: the arguments are objects and live; NULL ends them. A new reference is returned, or NULL with an exception.
    unsafe {
        let result = match second {
            None => ffi::PyObject_CallFunctionObjArgs(function.as_ptr(), first.as_ptr(), end),
            Some(second) => ffi::PyObject_CallFunctionObjArgs(function.as_ptr(), first.as_ptr(), second.as_ptr(), end),
        };
        Bound::from_owned_ptr_or_err(function.py(), result)
    }
}
