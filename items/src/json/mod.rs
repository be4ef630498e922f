//! serde types as JSON in blobs, and back, by `serde_json`, but for what it changes without a word:
//!
//! - An integer of more than 64 bits becomes the nearest double to a target that takes what comes, such as
//!   `serde_json::Value`. Here that is an error. A target that asks for an `i128` or `u128`, or for a
//!   `Box<RawValue>`, gets it exactly; one that asks for a float gets a float.
//! - NaN and the infinities become null. Here that is an error, unless [`NonFinite::Null`] is asked for.
//! - Bytes become a list of numbers. Here they are an error, as in a value.
//! - An `f32` becomes the shortest decimal that is nearest to it, which is another double. Here it is the same double as
//!   in a value.
//!
//! Doubles are read to the bit, which takes the feature `float_roundtrip`.

mod exact;

use std::io;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{DeserializeSeed, Error as _, SeqAccess};
use serde::{Deserialize, Serialize};
use serde_json::ser::Formatter;

use self::exact::Exact;
use crate::value::{self, EncodeError, NonFinite};

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
/// If it is none, not of this type, or has an integer that would be rounded.
pub fn from_slice<'de, T: Deserialize<'de>>(text: &'de [u8]) -> Result<T, serde_json::Error> {
    if too_large_integer(text).is_none() {
        return serde_json::from_slice(text);
    }
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = T::deserialize(Exact::new(&mut deserializer))?;
    deserializer.end()?;
    Ok(value)
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
        let Some(text) = self.0.next() else { return Ok(None) };
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        let element = match too_large_integer(text) {
            None => seed.deserialize(&mut deserializer)?,
            Some(_) => seed.deserialize(Exact::new(&mut deserializer))?,
        };
        deserializer.end()?;
        Ok(Some(element))
    }
}

/// The error for a number that has been rounded, or may have been.
fn rounded(number: f64) -> serde_json::Error {
    serde_json::Error::custom(format!(
        "an integer of more than 64 bits, about {number:e}, would be rounded: send it as a string, or decode it as an \
         i128 or u128"
    ))
}

/// Finds an integer of more than 64 bits in a JSON text, which must be valid.
pub fn too_large_integer(json: &[u8]) -> Option<&str> {
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
