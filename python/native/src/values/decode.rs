//! Encoded `google.protobuf.Value`s as objects.

use procpool_items::Records;
use procpool_items::wire::{
    BOOL_TAG, ENTRY_VALUE_TAG, KEY_TAG, LIST_TAG, NULL_TAG, NUMBER_TAG, STRING_TAG, STRUCT_TAG, read_varint,
};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyList};

use super::limits::{LEVELS_ABOVE, MAX_LEVELS, MAX_SAFE_INTEGER, TOO_DEEP};
use super::objects::{float, integer, text};

/// How many values are decoded between two looks at signals: a large item can be interrupted.
const VALUES_PER_CHECK: u32 = 4096;
const ENDS_TOO_EARLY: &str = "the bytes end too early";

/// Why there is no object.
#[derive(Debug)]
pub(crate) enum DecodeError {
    /// The bytes are not a value.
    Malformed(&'static str),
    /// There is too little memory, or a signal handler raised.
    Python(PyErr),
}

impl From<PyErr> for DecodeError {
    fn from(error: PyErr) -> Self {
        Self::Python(error)
    }
}

type Decoded<'py, T = PyAny> = Result<Bound<'py, T>, DecodeError>;

/// Decodes a `Value`.
pub(crate) fn value<'py>(py: Python<'py>, bytes: &[u8]) -> Decoded<'py> {
    Decoder::new(py).value(bytes, LEVELS_ABOVE)
}

/// Decodes a `ListValue`.
pub(crate) fn list<'py>(py: Python<'py>, bytes: &[u8]) -> Decoded<'py, PyList> {
    // Its elements are nested as values.
    Decoder::new(py).list(bytes, LEVELS_ABOVE - 1)
}

/// Decodes a `Struct`.
pub(crate) fn dict<'py>(py: Python<'py>, bytes: &[u8]) -> Decoded<'py, PyDict> {
    // The values in its entries are nested as values.
    Decoder::new(py).dict(bytes, LEVELS_ABOVE - 2)
}

struct Decoder<'py> {
    py: Python<'py>,
    until_check: u32,
}

impl<'py> Decoder<'py> {
    fn new(py: Python<'py>) -> Self {
        Self { py, until_check: VALUES_PER_CHECK }
    }

    /// Decodes a value, which must have exactly one field.
    fn value(&mut self, bytes: &[u8], level: u32) -> Decoded<'py> {
        let py = self.py;
        if level > MAX_LEVELS {
            return Err(DecodeError::Malformed(TOO_DEEP));
        }
        self.until_check -= 1;
        if self.until_check == 0 {
            self.until_check = VALUES_PER_CHECK;
            py.check_signals()?;
        }
        let Some((&tag, rest)) = bytes.split_first() else {
            return Err(DecodeError::Malformed("an empty Value; send null_value for null"));
        };
        match tag {
            NUMBER_TAG => {
                let number: [u8; 8] =
                    rest.try_into().map_err(|_| DecodeError::Malformed("a number does not have 8 bytes"))?;
                Ok(number_object(py, f64::from_le_bytes(number))?)
            }
            STRING_TAG => Ok(text(py, utf8(whole_content(rest)?)?)?),
            STRUCT_TAG => Ok(self.dict(whole_content(rest)?, level + 1)?.into_any()),
            LIST_TAG => Ok(self.list(whole_content(rest)?, level + 1)?.into_any()),
            BOOL_TAG => Ok(PyBool::new(py, whole_varint(rest)? != 0).to_owned().into_any()),
            NULL_TAG => whole_varint(rest).map(|_| py.None().into_bound(py)),
            _ => Err(DecodeError::Malformed("a Value of an unknown kind")),
        }
    }

    fn list(&mut self, bytes: &[u8], level: u32) -> Decoded<'py, PyList> {
        if level > MAX_LEVELS {
            return Err(DecodeError::Malformed(TOO_DEEP));
        }
        let list = PyList::empty(self.py);
        for record in Records::new(bytes) {
            let record = record.map_err(|_| DecodeError::Malformed("a list has an invalid element"))?;
            list.append(self.value(record, level + 1)?)?;
        }
        Ok(list)
    }

    /// Decodes a struct. Of two entries with the same key, the last one wins, as in every protobuf map.
    fn dict(&mut self, bytes: &[u8], level: u32) -> Decoded<'py, PyDict> {
        if level > MAX_LEVELS {
            return Err(DecodeError::Malformed(TOO_DEEP));
        }
        let dict = PyDict::new(self.py);
        for record in Records::new(bytes) {
            let entry = record.map_err(|_| DecodeError::Malformed("a struct has an invalid entry"))?;
            let (key, value) = split_entry(entry)?;
            let key = text(self.py, utf8(key)?)?;
            dict.set_item(key, self.value(value, level + 2)?)?;
        }
        Ok(dict)
    }
}

/// Returns the key, which may be missing if it is empty, and the value of an entry.
fn split_entry(mut entry: &[u8]) -> Result<(&[u8], &[u8]), DecodeError> {
    let (mut key, mut value) = (None, None);
    while let Some((&tag, rest)) = entry.split_first() {
        let (content, rest) = split_content(rest)?;
        let field = match tag {
            KEY_TAG => &mut key,
            ENTRY_VALUE_TAG => &mut value,
            _ => return Err(DecodeError::Malformed("an entry of a struct has more than a key and a value")),
        };
        if field.replace(content).is_some() {
            return Err(DecodeError::Malformed("an entry of a struct has more than a key and a value"));
        }
        entry = rest;
    }
    Ok((key.unwrap_or_default(), value.unwrap_or_default()))
}

/// Returns an int for a whole number that cannot be a rounded one. -0.0 would lose its sign.
fn number_object(py: Python<'_>, number: f64) -> PyResult<Bound<'_, PyAny>> {
    #[expect(clippy::cast_possible_truncation, reason = "what is cut off or out of bounds is found by the comparison")]
    let whole = number as i64;
    // By their bits, which differ for the two zeros.
    #[expect(clippy::cast_precision_loss, reason = "what is rounded is beyond the bounds")]
    let is_whole = (whole as f64).to_bits() == number.to_bits() && whole.unsigned_abs() <= MAX_SAFE_INTEGER;
    if is_whole { integer(py, whole) } else { float(py, number) }
}

fn whole_varint(bytes: &[u8]) -> Result<u64, DecodeError> {
    match read_varint(bytes) {
        Some((number, length)) if length == bytes.len() => Ok(number),
        Some(_) => Err(DecodeError::Malformed("a Value has more than one field")),
        None => Err(DecodeError::Malformed(ENDS_TOO_EARLY)),
    }
}

/// Returns the content of a field, which must be the last one.
fn whole_content(bytes: &[u8]) -> Result<&[u8], DecodeError> {
    match split_content(bytes)? {
        (content, []) => Ok(content),
        _ => Err(DecodeError::Malformed("a Value has more than one field")),
    }
}

/// Returns the content of a length-delimited field, and what follows.
fn split_content(bytes: &[u8]) -> Result<(&[u8], &[u8]), DecodeError> {
    let (length, header) = read_varint(bytes).ok_or(DecodeError::Malformed(ENDS_TOO_EARLY))?;
    let content = usize::try_from(length).ok().and_then(|length| bytes[header..].split_at_checked(length));
    content.ok_or(DecodeError::Malformed(ENDS_TOO_EARLY))
}

fn utf8(bytes: &[u8]) -> Result<&str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|_| DecodeError::Malformed("a text is not UTF-8"))
}
