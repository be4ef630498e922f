//! serde types as JSON in blobs, and back, by `serde_json`, except where it changes a value without an error:
//!
//! - It rounds an integer of more than 64 bits to the nearest double. Here such an integer is an error, whatever type
//!   is asked for.
//! - It writes NaN and the infinities as null. Here they are an error, unless [`NonFinite::Null`] is asked for.
//! - It writes bytes as a list of numbers. Here they are an error, as in a value.
//! - It writes an `f32` as the shortest decimal that is nearest to it, which is another double. Here the text is that of
//!   the double in a value.
//!
//! Doubles are read to the bit, which takes `serde_json`'s feature `float_roundtrip`.

use std::io;
use std::marker::PhantomData;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{DeserializeSeed, Error as _, SeqAccess};
use serde::{Deserialize, Serialize};
use serde_json::ser::Formatter;

use crate::value::{self, EncodeError, NonFinite};

/// The longest part of a large integer that an error quotes, in digits.
const MAX_DIGITS_SHOWN: usize = 40;

/// Why something cannot be written as JSON.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JsonEncodeError {
    /// It has NaN or an infinity.
    #[error(transparent)]
    NonFinite(EncodeError),
    /// Whatever else there is, such as a map whose keys are lists.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// Appends something as JSON.
///
/// # Errors
///
/// If there is no JSON for it; a part of it may have been appended then.
pub fn append_with<T: Serialize + ?Sized>(
    value: &T,
    non_finite: NonFinite,
    bytes: &mut Vec<u8>,
) -> Result<(), JsonEncodeError> {
    let start = bytes.len();
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut *bytes, Strict))?;
    if non_finite == NonFinite::Error && bytes[start..].windows(4).any(|text| text == b"null") {
        value::check_finite(value).map_err(JsonEncodeError::NonFinite)?;
    }
    Ok(())
}

/// Writes compact JSON, and what has a meaning of its own in a value with that meaning or not at all.
struct Strict;

impl Formatter for Strict {
    fn write_f32<W: io::Write + ?Sized>(&mut self, writer: &mut W, value: f32) -> io::Result<()> {
        self.write_f64(writer, f64::from(value))
    }

    fn write_byte_array<W: io::Write + ?Sized>(&mut self, _: &mut W, _: &[u8]) -> io::Result<()> {
        Err(io::Error::other(EncodeError::Bytes))
    }
}

/// Decodes a JSON text.
///
/// # Errors
///
/// If it is not JSON, not of this type, or has an integer of more than 64 bits.
pub fn from_slice<'de, T: Deserialize<'de>>(text: &'de [u8]) -> Result<T, serde_json::Error> {
    decode(PhantomData, text)
}

/// Decodes several JSON texts as one sequence, such as a tuple of arguments.
///
/// # Errors
///
/// As [`from_slice`], and if the type is a sequence of another length.
pub fn sequence_from_slices<'de, T: Deserialize<'de>>(texts: &[&'de [u8]]) -> Result<T, serde_json::Error> {
    T::deserialize(SeqAccessDeserializer::new(Texts(texts.iter())))
}

struct Texts<'a, 'de>(std::slice::Iter<'a, &'de [u8]>);

impl<'de> SeqAccess<'de> for Texts<'_, 'de> {
    type Error = serde_json::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, serde_json::Error> {
        self.0.next().map(|text| decode(seed, text)).transpose()
    }
}

fn decode<'de, S: DeserializeSeed<'de>>(seed: S, text: &'de [u8]) -> Result<S::Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = seed.deserialize(&mut deserializer)?;
    deserializer.end()?;
    match find_too_large_integer(text) {
        None => Ok(value),
        Some((place, integer)) => Err(too_large(&text[..place], integer)),
    }
}

fn too_large(before: &[u8], integer: &str) -> serde_json::Error {
    let lines = before.split(|byte| *byte == b'\n');
    let (line, column) = lines.enumerate().last().map_or((1, 1), |(line, start)| (line + 1, start.len() + 1));
    let (start, rest) = integer.split_at(integer.len().min(MAX_DIGITS_SHOWN));
    let ellipsis = if rest.is_empty() { "" } else { "…" };
    // serde_json takes the place at the end as its own.
    serde_json::Error::custom(format!(
        "the integer {start}{ellipsis} has more than 64 bits and would be rounded (send it as a string, or as a float \
         with a decimal point) at line {line} column {column}"
    ))
}

/// Finds an integer of more than 64 bits in a JSON text, which must be valid.
pub fn too_large_integer(json: &[u8]) -> Option<&str> {
    find_too_large_integer(json).map(|(_, integer)| integer)
}

/// Finds an integer of more than 64 bits in a valid JSON text; returns its offset and its digits.
fn find_too_large_integer(json: &[u8]) -> Option<(usize, &str)> {
    let mut rest = json;
    loop {
        let start = rest.iter().position(|byte| matches!(byte, b'"' | b'-' | b'0'..=b'9'))?;
        rest = &rest[start..];
        if let Some(string) = rest.strip_prefix(b"\"") {
            rest = after_string(string);
            continue;
        }
        let offset = json.len() - rest.len();
        let end = rest.iter().position(|byte| !matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
        let (number, after) = rest.split_at(end.unwrap_or(rest.len()));
        let number = str::from_utf8(number).ok()?;
        let is_integer = !number.contains(['.', 'e', 'E']);
        if is_integer && number.parse::<i64>().is_err() && number.parse::<u64>().is_err() {
            return Some((offset, number));
        }
        rest = after;
    }
}

/// Returns the text after a string whose opening quote has been removed.
fn after_string(mut text: &[u8]) -> &[u8] {
    while let Some(place) = text.iter().position(|byte| matches!(byte, b'"' | b'\\')) {
        if text[place] == b'"' {
            return &text[place + 1..];
        }
        // An escaped quote does not end the string.
        text = text.get(place + 2..).unwrap_or_default();
    }
    &[]
}
