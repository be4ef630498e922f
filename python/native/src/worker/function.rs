//! A function of the user's module, as the SDK calls it.

use procpool_worker::{Failure, Function, Input};
use pyo3::prelude::*;

use super::arguments::call;
use super::cancel::cancellable;
use super::forked::end_if_child;
use super::{memory, results};

/// Returns the function that a `procpool.worker.loader.WorkerFunction` describes.
pub(super) fn of(described: &Bound<'_, PyAny>) -> PyResult<Function> {
    let text = |name: &str| described.getattr(name)?.extract::<String>();
    let function = described.getattr("call")?.unbind();
    let nan_as_null = described.getattr("nan_as_null")?.extract()?;
    let made = Function::dynamic(text("name")?, move |input, buffer| {
        Python::attach(|py| {
            let outcome = run(function.bind(py), &input, nan_as_null, buffer);
            memory::note(input.chunk_bytes.max(buffer.len()));
            end_if_child();
            outcome
        })
    });
    let made = made.doc(text("doc")?).signature(text("signature")?).example(text("example")?).takes_kwargs();
    Ok(if described.getattr("idempotent")?.extract()? { made.idempotent() } else { made })
}

fn run(function: &Bound<'_, PyAny>, input: &Input<'_>, nan_as_null: bool, buffer: &mut Vec<u8>) -> Result<(), Failure> {
    let py = function.py();
    let result = cancellable(py, || call(function, input)).map_err(|error| error.into_failure(py))?;
    results::encode(&result, input, nan_as_null, buffer)
}
