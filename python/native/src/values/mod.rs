//! Python objects as encoded `google.protobuf.Value`s, and back, without a change of meaning. JSON in blobs is
//! `procpool/_json.py`, by the same rules.
//!
//! What is of a plain type is converted here; for the rest, and for the texts of errors, there is `procpool/_plain.py`.

mod decode;
mod encode;
mod limits;
pub(crate) mod objects;
mod plain;

use pyo3::prelude::*;

pub(crate) use self::decode::{DecodeError, dict, list, value};
pub(crate) use self::encode::{EncodeError, encode};

/// Adds what tests call.
pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(encode_value, module)?)?;
    module.add_function(wrap_pyfunction!(decode_value, module)?)
}

/// Returns the object as an encoded `Value`.
#[pyfunction]
#[pyo3(signature = (value, *, nan_as_null = false))]
fn encode_value(value: &Bound<'_, PyAny>, nan_as_null: bool) -> PyResult<Vec<u8>> {
    let mut buffer = Vec::new();
    append(value, nan_as_null, &mut buffer)?;
    Ok(buffer)
}

/// Returns the object of an encoded `Value`.
#[pyfunction]
fn decode_value<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    load(py, data)
}

/// Appends the object as an encoded `Value`; after an error, a part of it may have been appended.
pub(crate) fn append(object: &Bound<'_, PyAny>, nan_as_null: bool, buffer: &mut Vec<u8>) -> PyResult<()> {
    encode(object, nan_as_null, buffer).map_err(|error| match error {
        EncodeError::Python(error) => error,
        EncodeError::NotEncodable { problem, path } => plain::not_encodable(object.py(), &problem, path),
    })
}

/// Returns the object of an encoded `Value`.
pub(crate) fn load<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    value(py, data).map_err(|error| match error {
        DecodeError::Python(error) => error,
        DecodeError::Malformed(problem) => plain::malformed(py, problem),
    })
}
