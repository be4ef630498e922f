//! Decodes what an item says into arguments, and calls the function with them.

use procpool_items::Records;
use procpool_worker::{Encoding, Input, Style};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PyTuple};

use super::call_error::{CallError, Part};
use super::common;
use super::failure::{shorten, too_much};
use crate::values::{self, DecodeError, objects};

/// Calls the function with an item.
pub(super) fn call<'py>(function: &Bound<'py, PyAny>, input: &Input<'_>) -> Result<Bound<'py, PyAny>, CallError> {
    let py = function.py();
    let common = match input.common {
        None => None,
        Some(raw) => Some(common::object(py, raw, |content| decode(py, raw.encoding(), content, Part::Common))?),
    };
    match input.style {
        Style::Map => {
            let item = decode(py, input.encoding, input.content, Part::Item)?;
            Ok(match &common {
                None => objects::call(function, &item, None)?,
                Some(common) => objects::call(function, common, Some(&item))?,
            })
        }
        Style::Star => {
            let list = decode(py, input.encoding, input.content, Part::Item)?;
            let Ok(list) = list.cast_exact::<PyList>() else { return Err(not_a_list(&list)) };
            Ok(function.call1(tuple(py, common, list)?)?)
        }
        Style::Apply => {
            let kwargs = if input.kwargs.is_empty() {
                None
            } else {
                let kwargs = values::dict(py, input.kwargs);
                Some(explain(py, kwargs, Part::Kwargs)?)
            };
            let list = apply_arguments(py, input)?;
            let arguments = tuple(py, common, &list)?;
            // The function shall hold the only references to its arguments.
            drop(list);
            Ok(function.call(arguments, kwargs.as_ref())?)
        }
    }
}

fn tuple<'py>(
    py: Python<'py>,
    common: Option<Bound<'py, PyAny>>,
    list: &Bound<'py, PyList>,
) -> PyResult<Bound<'py, PyTuple>> {
    match common {
        None => Ok(list.to_tuple()),
        Some(common) => {
            let mut arguments = vec![common];
            arguments.extend(list.iter());
            PyTuple::new(py, arguments)
        }
    }
}

fn apply_arguments<'py>(py: Python<'py>, input: &Input<'_>) -> Result<Bound<'py, PyList>, CallError> {
    if input.encoding == Encoding::Values {
        return explain(py, values::list(py, input.content), Part::Arguments);
    }
    let list = PyList::empty(py);
    for blob in Records::new(input.content) {
        let blob = blob.map_err(|_| DecodeError::Malformed("the bytes are not a list"));
        let blob = explain(py, blob, Part::Arguments)?;
        list.append(decode(py, input.encoding, blob, Part::Arguments)?)?;
    }
    Ok(list)
}

/// Decodes one value, JSON text, or blob.
fn decode<'py>(
    py: Python<'py>,
    encoding: Encoding,
    content: &[u8],
    part: Part,
) -> Result<Bound<'py, PyAny>, CallError> {
    match encoding {
        Encoding::Values => explain(py, values::value(py, content), part),
        Encoding::Json => decode_json(py, content, part),
        Encoding::Bytes => explain(py, objects::bytes(py, content).map_err(DecodeError::from), part),
    }
}

/// The parts of `procpool/_json.py` and `procpool/_plain.py`.
struct Json {
    decode: Py<PyAny>,
    malformed: Py<PyAny>,
}

fn decode_json<'py>(py: Python<'py>, content: &[u8], part: Part) -> Result<Bound<'py, PyAny>, CallError> {
    static JSON: PyOnceLock<Json> = PyOnceLock::new();
    let json = JSON.get_or_try_init(py, || {
        let malformed = py.import("procpool._plain")?.getattr("MalformedError")?.unbind();
        PyResult::Ok(Json { decode: py.import("procpool._json")?.getattr("decode_json")?.unbind(), malformed })
    })?;
    let Ok(text) = std::str::from_utf8(content) else {
        return Err(malformed(py, "it is not JSON: a text is not UTF-8", part));
    };
    let text = explain(py, objects::text(py, text).map_err(DecodeError::from), part)?;
    match objects::call(json.decode.bind(py), &text, None) {
        Err(error) if error.get_type(py).is(&json.malformed) => Err(malformed(py, &error.value(py).to_string(), part)),
        decoded => explain(py, decoded.map_err(DecodeError::from), part),
    }
}

/// Makes an invalid part of the call of what cannot be decoded. What a signal handler raised stays what it is.
fn explain<T>(py: Python<'_>, decoded: Result<T, DecodeError>, part: Part) -> Result<T, CallError> {
    decoded.map_err(|error| match error {
        DecodeError::Malformed(problem) => malformed(py, problem, part),
        DecodeError::Python(error) => match too_much(py, &error) {
            Some(name) => CallError::TooMuch { part, problem: part.cannot_be_decoded(name) },
            None => CallError::Raised(error),
        },
    })
}

fn malformed(py: Python<'_>, why: &str, part: Part) -> CallError {
    CallError::Invalid { part, problem: shorten(py, part.cannot_be_decoded(why)) }
}

fn not_a_list(item: &Bound<'_, PyAny>) -> CallError {
    let shown = if item.is_instance_of::<pyo3::types::PyBytes>() {
        Ok("bytes".to_owned())
    } else {
        let text = item.py().import("json").and_then(|json| json.call_method1("dumps", (item,))?.extract::<String>());
        text.map(|text| text.chars().take(100).collect())
    };
    match shown {
        Ok(shown) => CallError::Invalid {
            part: Part::Item,
            problem: format!("the item must be a list, the arguments of one call, and is {shown}"),
        },
        Err(error) => CallError::Raised(error),
    }
}
