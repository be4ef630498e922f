//! Why a call of a function has no result.

use procpool_worker::Failure;
use pyo3::prelude::*;

use super::failure;

/// A part of a call.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    Item,
    Arguments,
    Kwargs,
    Common,
}

/// Why a call has no result.
pub(super) enum CallError {
    /// The function cannot be called with this.
    Invalid { part: Part, problem: String },
    /// This is too large for the memory of this process, as it is now.
    TooMuch { part: Part, problem: String },
    /// The function or the item is a pickle that cannot be read.
    Unpicklable(Failure),
    /// The function raised, or the item was cancelled.
    Raised(PyErr),
}

impl Part {
    /// Says that it cannot be decoded.
    pub(super) fn cannot_be_decoded(self, why: &str) -> String {
        let what = match self {
            Self::Item => "the item",
            Self::Arguments => "the arguments",
            Self::Kwargs => "the keyword arguments",
            Self::Common => "`common`",
        };
        format!("{what} can't be decoded: {why}")
    }
}

impl CallError {
    /// Returns the failure of the item.
    pub(super) fn into_failure(self, py: Python<'_>) -> Failure {
        match self {
            Self::Invalid { part, problem } | Self::TooMuch { part, problem } => match part {
                Part::Item | Part::Arguments => Failure::invalid_item(problem),
                Part::Kwargs => Failure::invalid_kwargs(problem),
                Part::Common => Failure::invalid_common(problem),
            },
            Self::Unpicklable(failure) => failure,
            Self::Raised(error) => failure::raised(py, error),
        }
    }
}

impl From<PyErr> for CallError {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}
