//! A result as the JSON text that is printed: what the worker wrote, if it wrote JSON, so that no number in it changes.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

/// A JSON text on one line.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct JsonText(Box<RawValue>);

impl From<Value> for JsonText {
    fn from(value: Value) -> Self {
        Self(to_raw_value(&value).expect("a value is JSON"))
    }
}

impl JsonText {
    /// Returns what a worker wrote as JSON.
    ///
    /// # Errors
    ///
    /// If it is none.
    pub(crate) fn of_json(text: &Bytes) -> Result<Self, serde_json::Error> {
        serde_json::from_slice::<Box<RawValue>>(text).map(Self::from)
    }

    /// Returns the text of a value.
    ///
    /// # Errors
    ///
    /// Never: every value is JSON.
    pub(crate) fn of_value(value: &Value) -> Result<Self, serde_json::Error> {
        to_raw_value(value).map(Self)
    }

    /// Returns bytes in base64, as a JSON string.
    ///
    /// # Errors
    ///
    /// Never.
    pub(crate) fn of_bytes(bytes: &Bytes) -> Result<Self, serde_json::Error> {
        to_raw_value(&BASE64_STANDARD.encode(bytes)).map(Self)
    }
}

impl From<Box<RawValue>> for JsonText {
    fn from(text: Box<RawValue>) -> Self {
        match without_space(text.get()) {
            Cow::Borrowed(_) => Self(text),
            Cow::Owned(text) => Self(RawValue::from_string(text).expect("space between tokens means nothing")),
        }
    }
}

impl fmt::Display for JsonText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0.get())
    }
}

/// Takes the space between the tokens of a JSON text away, where a line could end.
fn without_space(json: &str) -> Cow<'_, str> {
    let (mut is_in_string, mut is_escaped) = (false, false);
    let mut is_kept = |character: char| {
        if is_in_string {
            is_in_string = is_escaped || character != '"';
            is_escaped = character == '\\' && !is_escaped;
            return true;
        }
        is_in_string = character == '"';
        !character.is_ascii_whitespace()
    };
    let Some(first) = json.find(|character| !is_kept(character)) else { return Cow::Borrowed(json) };
    let (before, rest) = json.split_at(first);
    // The space is one byte.
    Cow::Owned(before.chars().chain(rest[1..].chars().filter(|&character| is_kept(character))).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_text_stays_as_it_came_but_for_space_between_tokens() {
        for (text, expected) in [
            ("1180591620717411303425", "1180591620717411303425"),
            ("1.0", "1.0"),
            ("{ \"b\": [1,\n 2 ],\t\"a\" : \"x y\\\" z\\\\\" }", "{\"b\":[1,2],\"a\":\"x y\\\" z\\\\\"}"),
            ("\"a\u{a0}b \"", "\"a\u{a0}b \""),
        ] {
            let raw: Box<RawValue> = serde_json::from_str(text).unwrap();
            assert_eq!(JsonText::from(raw).to_string(), expected);
        }
        assert_eq!(JsonText::from(json!({"b": 1, "a": [null]})).to_string(), r#"{"a":[null],"b":1}"#);
    }
}
