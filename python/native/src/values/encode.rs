//! Objects as encoded `google.protobuf.Value`s.

use procpool_items::wire::{
    BOOL_TAG, ENTRY_VALUE_TAG, KEY_TAG, LIST_TAG, NULL_TAG, NUMBER_TAG, RECORD_TAG, STRING_TAG, STRUCT_TAG, put_varint,
};
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyRange, PyString, PyTuple};

use super::limits::{LEVELS_ABOVE, MAX_LEVELS, MAX_SAFE_INTEGER, TOO_DEEP};
use super::objects::{each_entry, int_value};
use super::plain::{describe, simplify};

/// The most bytes that a tag or a length takes.
const MAX_HEADER_BYTES: usize = 11;

/// Why an object was not encoded.
#[derive(Debug)]
pub(crate) enum EncodeError {
    /// It, or something in it, cannot be sent.
    NotEncodable {
        /// Why.
        problem: String,
        /// The steps that lead to it, from the inside out.
        path: Vec<String>,
    },
    /// Its own code raised, or memory is short.
    Python(PyErr),
}

impl EncodeError {
    fn because(problem: String) -> Self {
        Self::NotEncodable { problem, path: Vec::new() }
    }

    /// Adds the step that led to the object.
    fn at(mut self, step: impl FnOnce() -> PyResult<String>) -> Self {
        match (&mut self, step) {
            (Self::NotEncodable { path, .. }, step) => match step() {
                Ok(step) => path.push(step),
                Err(error) => return Self::Python(error),
            },
            (Self::Python(_), _) => {}
        }
        self
    }
}

impl From<PyErr> for EncodeError {
    fn from(error: PyErr) -> Self {
        Self::Python(error)
    }
}

type Encoded = Result<(), EncodeError>;

/// Appends an object as an encoded `Value`; a part of it may have been appended after an error.
pub(crate) fn encode(object: &Bound<'_, PyAny>, nan_as_null: bool, buffer: &mut Vec<u8>) -> Encoded {
    Encoder { nan_as_null, buffer }.any(object, LEVELS_ABOVE)
}

struct Encoder<'a> {
    nan_as_null: bool,
    buffer: &'a mut Vec<u8>,
}

impl Encoder<'_> {
    fn any(&mut self, object: &Bound<'_, PyAny>, level: u32) -> Encoded {
        if self.plain(object, level)? { Ok(()) } else { self.other(object, level) }
    }

    /// Appends an object of a plain type; returns whether it is.
    fn plain(&mut self, object: &Bound<'_, PyAny>, level: u32) -> Result<bool, EncodeError> {
        if let Ok(number) = object.cast_exact::<PyInt>() {
            self.int(number)?;
        } else if let Ok(number) = object.cast_exact::<PyFloat>() {
            self.float(number)?;
        } else if let Ok(text) = object.cast_exact::<PyString>() {
            self.field(STRING_TAG, utf8(text)?.as_bytes())?;
        } else if object.is_none() {
            self.push(&[NULL_TAG, 0])?;
        } else if let Ok(flag) = object.cast_exact::<PyBool>() {
            self.push(&[BOOL_TAG, u8::from(flag.is_true())])?;
        } else if let Ok(dict) = object.cast_exact::<PyDict>() {
            self.dict(dict, level)?;
        } else if let Ok(list) = object.cast_exact::<PyList>() {
            self.list(list.iter().map(Ok), level)?;
        } else if let Ok(tuple) = object.cast_exact::<PyTuple>() {
            self.list(tuple.iter().map(Ok), level)?;
        } else if let Ok(range) = object.cast_exact::<PyRange>() {
            self.list(range.try_iter()?, level)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Appends an object of another type, as what it can be converted into.
    fn other(&mut self, object: &Bound<'_, PyAny>, mut level: u32) -> Encoded {
        let mut object = object.clone();
        // One level down for each step, so that an object which converts into itself ends.
        while level <= MAX_LEVELS {
            object = simplify(&object)?.map_err(EncodeError::because)?;
            if self.plain(&object, level)? {
                return Ok(());
            }
            level += 1;
        }
        Err(EncodeError::because(TOO_DEEP.to_owned()))
    }

    fn int(&mut self, number: &Bound<'_, PyInt>) -> Encoded {
        match int_value(number) {
            #[expect(clippy::cast_precision_loss, reason = "there is none within the bounds")]
            Some(value) if value.unsigned_abs() <= MAX_SAFE_INTEGER => self.number(value as f64),
            _ => Err(EncodeError::because(describe("too_large", number)?)),
        }
    }

    fn float(&mut self, number: &Bound<'_, PyFloat>) -> Encoded {
        let value = number.value();
        if value.is_finite() {
            return self.number(value);
        }
        if self.nan_as_null {
            return self.push(&[NULL_TAG, 0]);
        }
        Err(EncodeError::because(describe("not_finite", number)?))
    }

    fn number(&mut self, value: f64) -> Encoded {
        let mut encoded = [NUMBER_TAG; 9];
        encoded[1..].copy_from_slice(&value.to_le_bytes());
        self.push(&encoded)
    }

    fn list<'py>(&mut self, items: impl Iterator<Item = PyResult<Bound<'py, PyAny>>>, level: u32) -> Encoded {
        if level + 2 > MAX_LEVELS {
            return Err(EncodeError::because(TOO_DEEP.to_owned()));
        }
        let whole = self.open(LIST_TAG)?;
        for (index, item) in items.enumerate() {
            let record = self.open(RECORD_TAG)?;
            self.any(&item?, level + 2).map_err(|error| error.at(|| Ok(format!("[{index}]"))))?;
            self.close(record)?;
        }
        self.close(whole)
    }

    fn dict(&mut self, dict: &Bound<'_, PyDict>, level: u32) -> Encoded {
        if level + 3 > MAX_LEVELS {
            return Err(EncodeError::because(TOO_DEEP.to_owned()));
        }
        let whole = self.open(STRUCT_TAG)?;
        each_entry(dict, |key, value| {
            let Ok(name) = key.cast::<PyString>() else {
                return Err(EncodeError::because(describe("bad_key", key)?));
            };
            let step = || describe("short_repr", key);
            let entry = self.open(RECORD_TAG)?;
            let name = match utf8(name) {
                Ok(name) => name,
                Err(EncodeError::NotEncodable { problem, .. }) => {
                    return Err(EncodeError::because(format!("the key {}: {problem}", step()?)));
                }
                Err(error) => return Err(error),
            };
            self.field(KEY_TAG, name.as_bytes())?;
            let content = self.open(ENTRY_VALUE_TAG)?;
            self.any(value, level + 3).map_err(|error| error.at(|| Ok(format!("[{}]", step()?))))?;
            self.close(content)?;
            self.close(entry)
        })?;
        self.close(whole)
    }

    /// Begins a field whose length is not known yet; returns where its content starts.
    fn open(&mut self, tag: u8) -> Result<usize, EncodeError> {
        self.push(&[tag, 0])?;
        Ok(self.buffer.len())
    }

    /// Ends a field: writes the length of its content before it.
    fn close(&mut self, start: usize) -> Encoded {
        let length = self.buffer.len() - start;
        if let Ok(length) = u8::try_from(length)
            && length < 0x80
        {
            self.buffer[start - 1] = length;
            return Ok(());
        }
        let mut encoded = Vec::with_capacity(MAX_HEADER_BYTES);
        put_varint(&mut encoded, length as u64);
        let extra = encoded.len() - 1;
        self.push(&[0; MAX_HEADER_BYTES][..extra])?;
        self.buffer.copy_within(start..start + length, start + extra);
        self.buffer[start - 1..start + extra].copy_from_slice(&encoded);
        Ok(())
    }

    fn field(&mut self, tag: u8, content: &[u8]) -> Encoded {
        self.reserve(MAX_HEADER_BYTES + content.len())?;
        self.buffer.push(tag);
        put_varint(self.buffer, content.len() as u64);
        self.buffer.extend_from_slice(content);
        Ok(())
    }

    fn push(&mut self, bytes: &[u8]) -> Encoded {
        self.reserve(bytes.len())?;
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn reserve(&mut self, additional: usize) -> Encoded {
        self.buffer.try_reserve(additional).map_err(|error| PyMemoryError::new_err(error.to_string()).into())
    }
}

fn utf8<'a>(text: &'a Bound<'_, PyString>) -> Result<&'a str, EncodeError> {
    let py = text.py();
    text.to_str().map_err(|error| {
        if error.is_instance_of::<pyo3::exceptions::PyUnicodeEncodeError>(py) {
            describe("lone_surrogate", error.value(py)).map_or_else(EncodeError::Python, EncodeError::because)
        } else {
            EncodeError::Python(error)
        }
    })
}
