//! JSON that loses nothing: an integer that no value can hold is an error, not the nearest double.

use procpool_items::json::too_large_integer;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::error::InputError;

/// Why a text is no item.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum JsonError {
    /// What is wrong, in words.
    Syntax(String),
    Integer(String),
}

impl JsonError {
    /// Says where the text stands.
    pub(super) fn at(self, place: impl Into<String>, syntax_error: impl FnOnce(String) -> InputError) -> InputError {
        match self {
            Self::Syntax(problem) => syntax_error(problem),
            Self::Integer(integer) => InputError::Integer { place: place.into(), integer },
        }
    }
}

/// Parses a value.
///
/// # Errors
///
/// If it is no JSON, or has an integer that would be rounded.
pub(super) fn parse(text: &[u8]) -> Result<Value, JsonError> {
    let value = serde_json::from_slice(text).map_err(|error| JsonError::Syntax(problem_of(&error)))?;
    match too_large_integer(text) {
        Some(integer) => Err(JsonError::Integer(integer.to_owned())),
        None => Ok(value),
    }
}

/// Looks whether a text is JSON.
///
/// # Errors
///
/// If it is none.
pub(super) fn check(text: &[u8]) -> Result<(), JsonError> {
    let checked: Result<IgnoredAny, _> = serde_json::from_slice(text);
    checked.map(drop).map_err(|error| JsonError::Syntax(problem_of(&error)))
}

/// Returns what is wrong with a line of JSON, and where; serde's own words say `line 1` of any line.
pub(super) fn problem_of(error: &serde_json::Error) -> String {
    let place = format!(" at line {} column {}", error.line(), error.column());
    let text = error.to_string();
    format!("{} at column {}", text.strip_suffix(&place).unwrap_or(&text), error.column())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_that_would_be_rounded_is_an_error() {
        assert!(matches!(parse(b"[1180591620717411303424]"), Err(JsonError::Integer(_))));
        assert_eq!(parse(b"[18446744073709551615]").unwrap()[0], u64::MAX);
    }
}
