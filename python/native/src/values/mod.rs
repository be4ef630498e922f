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
    let py = value.py();
    let mut buffer = Vec::new();
    match encode(value, nan_as_null, &mut buffer) {
        Ok(()) => Ok(buffer),
        Err(EncodeError::Python(error)) => Err(error),
        Err(EncodeError::NotEncodable { problem, path }) => Err(plain::not_encodable(py, &problem, path)),
    }
}

/// Returns the object of an encoded `Value`.
#[pyfunction]
fn decode_value<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    value(py, data).map_err(|error| match error {
        DecodeError::Python(error) => error,
        DecodeError::Malformed(problem) => plain::malformed(py, problem),
    })
}
