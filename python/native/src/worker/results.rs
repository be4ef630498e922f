//! Encodes the result of a function, as its item was.

use procpool_worker::{Encoding, Failure, Input};
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyMemoryView};

use super::failure::{not_encodable, shorten};
use crate::values::{self, EncodeError};

/// Appends a result in the encoding of the item.
pub(super) fn encode(
    result: &Bound<'_, PyAny>,
    input: &Input<'_>,
    nan_as_null: bool,
    buffer: &mut Vec<u8>,
) -> Result<(), Failure> {
    let py = result.py();
    let encoded = match input.encoding {
        Encoding::Values => values::encode(result, nan_as_null, buffer),
        Encoding::Json => encode_json(result, nan_as_null, buffer),
        Encoding::Bytes => encode_bytes(result, buffer),
    };
    match encoded {
        Ok(()) => check_length(buffer.len(), input),
        Err(EncodeError::NotEncodable { problem, path }) => {
            let steps: String = path.into_iter().rev().collect();
            Err(Failure::not_encodable(shorten(py, format!("result{steps}: {problem}"))))
        }
        Err(EncodeError::Python(error)) => Err(not_encodable(py, error)),
    }
}

/// Returns a failure if a result of this length does not fit a frame.
pub(super) fn check_length(length: usize, input: &Input<'_>) -> Result<(), Failure> {
    if length <= input.max_result_bytes {
        return Ok(());
    }
    let limit = input.max_result_bytes;
    Err(Failure::not_encodable(format!("result: has {length} bytes encoded; at most {limit} can be sent")))
}

/// The parts of `procpool/_json.py` and `procpool/_plain.py`.
struct Json {
    encode: Py<PyAny>,
    not_encodable: Py<PyAny>,
}

fn encode_json(result: &Bound<'_, PyAny>, nan_as_null: bool, buffer: &mut Vec<u8>) -> Result<(), EncodeError> {
    static JSON: PyOnceLock<Json> = PyOnceLock::new();
    let py = result.py();
    let json = JSON.get_or_try_init(py, || {
        let not_encodable = py.import("procpool._plain")?.getattr("NotEncodableError")?.unbind();
        PyResult::Ok(Json { encode: py.import("procpool._json")?.getattr("encode_json")?.unbind(), not_encodable })
    })?;
    let options = PyDict::new(py);
    options.set_item("nan_as_null", nan_as_null)?;
    match json.encode.bind(py).call((result,), Some(&options)) {
        Ok(text) => append(text.cast::<PyBytes>().map_err(PyErr::from)?.as_bytes(), buffer),
        Err(error) if error.get_type(py).is(&json.not_encodable) => {
            let error = error.value(py);
            Err(EncodeError::NotEncodable {
                problem: error.getattr("problem")?.extract()?,
                path: error.getattr("path")?.extract()?,
            })
        }
        Err(error) => Err(error.into()),
    }
}

fn encode_bytes(result: &Bound<'_, PyAny>, buffer: &mut Vec<u8>) -> Result<(), EncodeError> {
    if let Ok(bytes) = result.cast::<PyBytes>() {
        return append(bytes.as_bytes(), buffer);
    }
    if result.is_instance_of::<PyByteArray>() || result.is_instance_of::<PyMemoryView>() {
        let bytes = result.py().get_type::<PyBytes>().call1((result,))?;
        return append(bytes.cast::<PyBytes>().map_err(PyErr::from)?.as_bytes(), buffer);
    }
    let kind = result.get_type().name()?;
    Err(EncodeError::NotEncodable {
        problem: format!(
            "{kind} is not bytes, which a function called with blobs must return; call it with values, or with the \
             content type application/json"
        ),
        path: Vec::new(),
    })
}

/// Appends bytes, which may be many.
pub(super) fn append(bytes: &[u8], buffer: &mut Vec<u8>) -> Result<(), EncodeError> {
    buffer.try_reserve_exact(bytes.len()).map_err(|error| PyMemoryError::new_err(error.to_string()))?;
    buffer.extend_from_slice(bytes);
    Ok(())
}
