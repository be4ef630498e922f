//! Not there yet.

use pyo3::prelude::*;

#[expect(clippy::unnecessary_wraps, reason = "it will fail where a class can't be made")]
pub(crate) fn add_to(_module: &Bound<'_, PyModule>) -> PyResult<()> {
    Ok(())
}
