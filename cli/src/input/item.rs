//! What an item is on its way from a list to a call.

use std::ops::ControlFlow;

use serde_json::Value;

use super::json::{self, JsonError};

/// How the items of a call are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ItemForm {
    /// As values, whose numbers are doubles.
    Values,
    /// As the JSON texts that they are.
    Json,
    /// As bytes that only the function understands.
    Bytes,
}

impl ItemForm {
    /// Returns the form that the command line asks for.
    pub(crate) fn new(is_json: bool, is_bytes: bool) -> Self {
        match (is_json, is_bytes) {
            (true, _) => Self::Json,
            (false, true) => Self::Bytes,
            (false, false) => Self::Values,
        }
    }
}

/// Takes an item. Breaks when no more are wanted.
pub(super) type Take<'a> = &'a mut dyn FnMut(Item) -> ControlFlow<()>;

/// An item, or another argument, as it is sent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Item {
    Value(Value),
    /// A JSON text, or bytes that only the function understands.
    Blob(Vec<u8>),
}

impl Item {
    /// Parses a JSON text. Sent as a text, it may have integers of any size: what they mean is for the worker to say.
    pub(super) fn parse(text: &[u8], form: ItemForm) -> Result<Self, JsonError> {
        if form == ItemForm::Json {
            json::check(text)?;
            return Ok(Self::Blob(text.trim_ascii().to_vec()));
        }
        json::parse(text).map(Self::Value)
    }

    /// Returns the item of a value that this program made.
    pub(super) fn of(value: Value, form: ItemForm) -> Self {
        match form {
            ItemForm::Values | ItemForm::Bytes => Self::Value(value),
            ItemForm::Json => Self::Blob(value.to_string().into_bytes()),
        }
    }

    /// Returns the value; of a blob, the value that its text is.
    pub(crate) fn into_value(self) -> Value {
        match self {
            Self::Value(value) => value,
            Self::Blob(text) => serde_json::from_slice(&text).unwrap_or_default(),
        }
    }

    /// Returns the bytes; of a value, its JSON text.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Value(value) => value.to_string().into_bytes(),
            Self::Blob(bytes) => bytes,
        }
    }

    /// Returns how many bytes it takes at least in a request. That is not exact; the client knows, when all is in memory.
    pub(crate) fn least_bytes(&self) -> usize {
        match self {
            Self::Value(value) => least_bytes_of(value),
            // The tag and the length.
            Self::Blob(bytes) => 2 + bytes.len(),
        }
    }
}

fn least_bytes_of(value: &Value) -> usize {
    // Tags and lengths.
    const OVERHEAD: usize = 4;
    match value {
        Value::Number(_) => 11,
        Value::Null | Value::Bool(_) => OVERHEAD,
        Value::String(text) => OVERHEAD + text.len(),
        Value::Array(items) => OVERHEAD + items.iter().map(least_bytes_of).sum::<usize>(),
        Value::Object(fields) => {
            OVERHEAD + fields.iter().map(|(name, value)| name.len() + least_bytes_of(value)).sum::<usize>()
        }
    }
}
