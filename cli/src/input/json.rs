//! JSON that loses nothing: an integer that no value can hold is an error, not the nearest double.

use serde_json::Value;

use super::InputError;

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

/// Finds an integer of more than 64 bits, which the library takes for a double. `json` must be valid.
fn too_large_integer(json: &[u8]) -> Option<&str> {
    let mut rest = json;
    loop {
        let start = rest.iter().position(|byte| matches!(byte, b'"' | b'-' | b'0'..=b'9'))?;
        rest = &rest[start..];
        if let Some(string) = rest.strip_prefix(b"\"") {
            rest = behind_string(string);
            continue;
        }
        let end = rest.iter().position(|byte| !matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
        let (number, behind) = rest.split_at(end.unwrap_or(rest.len()));
        let number = str::from_utf8(number).ok()?;
        let is_integer = !number.contains(['.', 'e', 'E']);
        if is_integer && number.parse::<i64>().is_err() && number.parse::<u64>().is_err() {
            return Some(number);
        }
        rest = behind;
    }
}

/// Returns what is behind the end of a string, whose first quote is gone.
fn behind_string(mut text: &[u8]) -> &[u8] {
    while let Some(place) = text.iter().position(|byte| matches!(byte, b'"' | b'\\')) {
        if text[place] == b'"' {
            return &text[place + 1..];
        }
        // What is escaped ends nothing.
        text = text.get(place + 2..).unwrap_or_default();
    }
    &[]
}

/// Returns what is wrong with a line of JSON, and where; serde's own words say `line 1` of any line.
pub(crate) fn problem_of(error: &serde_json::Error) -> String {
    let place = format!(" at line {} column {}", error.line(), error.column());
    let text = error.to_string();
    format!("{} at column {}", text.strip_suffix(&place).unwrap_or(&text), error.column())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_beyond_64_bits_are_errors_wherever_they_stand() {
        let large = "1180591620717411303424";
        for text in
            [large.to_owned(), format!("-{large}"), format!("[1,{{\"a\":{large}}}]"), format!("[\"\\\"\",{large}]")]
        {
            assert!(matches!(parse(text.as_bytes()), Err(JsonError::Integer(_))), "{text}");
        }
        for text in ["18446744073709551615", "-9223372036854775808", "1e30", "-0", "1180591620717411303424.0"] {
            parse(text.as_bytes()).unwrap();
        }
        for text in [format!("\"{large}\""), format!("{{\"\\\\{large}\":[]}}"), format!("\"é\\u00e9\\\"{large}\"")] {
            parse(text.as_bytes()).unwrap();
        }
    }
}
