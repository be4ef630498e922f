//! The argument that all items of a call share, decoded by the first of them that runs.

use procpool_worker::RawCommon;
use pyo3::prelude::*;

use super::call_error::{CallError, Part};
use super::memory;

/// What became of a common argument, kept with it.
struct Decoded {
    /// The object, or why there is none.
    outcome: Result<Py<PyAny>, String>,
    /// The length of the encoded argument.
    num_bytes: usize,
}

impl Drop for Decoded {
    fn drop(&mut self) {
        memory::note(self.num_bytes);
    }
}

/// Returns the common argument, the same object for every item. If the item that decodes it is cancelled meanwhile, or
/// memory is short, the next one decodes it again.
pub(super) fn object<'py>(
    py: Python<'py>,
    common: &RawCommon,
    decode: impl FnOnce(&[u8]) -> Result<Bound<'py, PyAny>, CallError>,
) -> Result<Bound<'py, PyAny>, CallError> {
    if let Some(decoded) = common.attachment().get().and_then(|kept| kept.downcast_ref::<Decoded>()) {
        return match &decoded.outcome {
            Ok(object) => Ok(object.bind(py).clone()),
            Err(problem) => Err(CallError::Invalid { part: Part::Common, problem: problem.clone() }),
        };
    }
    let content = common.content();
    let num_bytes = content.len();
    let decoded = decode(&content);
    let outcome = match &decoded {
        Ok(object) => Ok(object.clone().unbind()),
        Err(CallError::Invalid { problem, .. }) => Err(problem.clone()),
        Err(CallError::TooMuch { .. } | CallError::Unpicklable(_) | CallError::Raised(_)) => return decoded,
    };
    // Only the main thread decodes, so there is none yet.
    let _ = common.attachment().set(Box::new(Decoded { outcome, num_bytes }));
    drop(content);
    common.release_content();
    decoded
}
