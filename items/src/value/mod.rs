//! serde types as encoded `google.protobuf.Value`s, and back, without a tree in between.
//!
//! The rules are those of JSON, with these differences, all for the sake of values that keep their meaning:
//!
//! - A number is a double. An integer beyond ±(2^53 - 1) is an error, never rounded. An integral double within these
//!   bounds is an integer to a target that asks for one or takes what comes, and a float to a target that asks for a
//!   float. Beyond them it need not be the integer that was meant, since other libraries round without a word: to a
//!   target that takes what comes it is a float, and one that asks for an integer gets an error.
//! - NaN and the infinities are an error, or null if asked for ([`NonFinite`]): printing tools refuse a whole message
//!   that has one.
//! - None and `()` are `null_value`. A `Value` of zero bytes is an error on both sides.
//! - Bytes are an error: they belong in blobs.
//!
//! Nesting is limited as in other protobuf libraries, which count messages: at most 48 lists or 32 objects, one in the
//! other. Deeper values could be sent, but a reader would refuse the whole reply for one of them.

mod de;
mod key;
mod ser;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::slab::{Records, SlabBuilder, SlabProblem};

/// The tags of the fields of `Value`.
const NULL_TAG: u8 = 0x08;
const NUMBER_TAG: u8 = 0x11;
const STRING_TAG: u8 = 0x1a;
const BOOL_TAG: u8 = 0x20;
const STRUCT_TAG: u8 = 0x2a;
pub(crate) const LIST_TAG: u8 = 0x32;
/// The tags of the fields of an entry of `Struct.fields`.
const KEY_TAG: u8 = 0x0a;
const ENTRY_VALUE_TAG: u8 = 0x12;

/// The largest integer that is surely the one that was meant: 2^53 + 1, rounded to a double, is 2^53.
const MAX_INTEGER: u64 = (1 << 53) - 1;
/// How deep messages may be nested below a `Value`. Other libraries allow 100 in all, and a reply has a few around it.
const MAX_MESSAGE_DEPTH: i32 = 96;
/// The messages that a list adds to the depth: `ListValue` and `Value`.
const LIST_DEPTH: i32 = 2;
/// The messages that an object adds to the depth: `Struct`, its entry and `Value`.
const STRUCT_DEPTH: i32 = 3;

/// What becomes of NaN and the infinities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NonFinite {
    /// An error.
    #[default]
    Error,
    /// null.
    Null,
}

/// Why something cannot be encoded as a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// An integer that a double need not hold.
    #[error(
        "the integer {0} is beyond ±(2^53 - 1), and no value carries it for sure: send it as a string or in a blob"
    )]
    IntegerTooLarge(String),
    /// NaN or an infinity.
    #[error("the number {0} cannot be in a value: send null or a string")]
    NonFinite(String),
    /// Bytes.
    #[error("bytes cannot be in a value: send blobs")]
    Bytes,
    /// A map key that is no string, number or bool.
    #[error("the keys of a map must be strings")]
    Key,
    /// Lists or objects nested too deep.
    #[error("the value is nested too deep: at most 48 lists or 32 objects, one in the other")]
    TooDeep,
    /// Keyword arguments that are not a map.
    #[error("keyword arguments must be a map or a struct")]
    NotAStruct,
    /// What the type said.
    #[error("{0}")]
    Custom(String),
}

/// Why bytes are not a value of the type that was asked for.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A `Value` with none of its fields set.
    #[error("an empty Value; send null_value for null")]
    Empty,
    /// A `Value` of a kind that this version does not know.
    #[error("a Value of an unknown kind (tag {0:#04x})")]
    UnknownKind(u8),
    /// The bytes are no protobuf message of the right type.
    #[error("the value is malformed")]
    Malformed,
    /// A string that is not UTF-8.
    #[error("a string is not UTF-8")]
    InvalidUtf8,
    /// Lists or objects nested too deep.
    #[error("the value is nested too deep: at most 48 lists or 32 objects, one in the other")]
    TooDeep,
    /// A number with a fraction, where an integer is needed.
    #[error("{0} is not an integer")]
    NotAnInteger(f64),
    /// A number beyond ±(2^53 - 1), where an integer is needed.
    #[error("{0} is beyond ±(2^53 - 1) and need not be the integer that was meant: send it as a string or in a blob")]
    IntegerTooLarge(f64),
    /// NaN or an infinity, where anything but a float is meant.
    #[error("{0} is no JSON number: only what takes a float can have it")]
    NotFinite(f64),
    /// What the type said.
    #[error("{0}")]
    Custom(String),
}

/// An error and the index of the item that has it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("item {index}: {error}")]
pub struct ItemProblem<E> {
    /// The index of the item.
    pub index: usize,
    /// What is wrong with it.
    pub error: E,
}

/// Encodes something as a `Value`.
///
/// # Errors
///
/// If it is nothing that a value can hold.
pub fn to_bytes<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, EncodeError> {
    to_bytes_with(value, NonFinite::Error)
}

/// Encodes something as a `Value`, with a choice for NaN and the infinities.
///
/// # Errors
///
/// As [`to_bytes`].
pub fn to_bytes_with<T: Serialize + ?Sized>(value: &T, non_finite: NonFinite) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = Vec::new();
    append_with(value, non_finite, &mut bytes)?;
    Ok(bytes)
}

/// Appends something as an encoded `Value`.
///
/// # Errors
///
/// As [`to_bytes`]; a part of it may have been appended then.
pub fn append_with<T: Serialize + ?Sized>(
    value: &T,
    non_finite: NonFinite,
    bytes: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    value.serialize(&mut ser::Encoder::new(bytes, non_finite))
}

/// Checks that there is no NaN and no infinity in something that is written as JSON, which would make null of them.
///
/// # Errors
///
/// If there is one.
pub fn check_finite<T: Serialize + ?Sized>(value: &T) -> Result<(), EncodeError> {
    let mut thrown_away = Vec::new();
    match value.serialize(&mut ser::Encoder::checking(&mut thrown_away)) {
        Err(error @ EncodeError::NonFinite(_)) => Err(error),
        // Whatever else there is, is for the other format to say.
        _ => Ok(()),
    }
}

/// Decodes a `Value`. Strings may be borrowed from the bytes.
///
/// # Errors
///
/// If the bytes are no value, or not one of this type.
pub fn from_bytes<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, DecodeError> {
    T::deserialize(de::Decoder::new(bytes))
}

/// Encodes items as a `ListValue`.
///
/// # Errors
///
/// If one of them is nothing that a value can hold.
pub fn list_to_bytes<I>(items: I, non_finite: NonFinite) -> Result<Bytes, ItemProblem<EncodeError>>
where
    I: IntoIterator,
    I::Item: Serialize,
{
    let mut list = SlabBuilder::new();
    let mut item_bytes = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        item_bytes.clear();
        append_with(&item, non_finite, &mut item_bytes).map_err(|error| ItemProblem { index, error })?;
        list.push(&item_bytes);
    }
    Ok(list.take())
}

/// Decodes the items of a `ListValue`.
///
/// # Errors
///
/// If the bytes are no list, or one of the items is not of this type.
pub fn list_from_bytes<'de, T: Deserialize<'de>>(list: &'de [u8]) -> Result<Vec<T>, ItemProblem<DecodeError>> {
    // A number takes 11 bytes. The guess must not make room for more than a few times of what came.
    let mut items = Vec::with_capacity(list.len() / size_of::<T>().div_ceil(4).max(11));
    for record in Records::new(list) {
        let item = record.map_err(DecodeError::from).and_then(from_bytes);
        items.push(item.map_err(|error| ItemProblem { index: items.len(), error })?);
    }
    Ok(items)
}

/// Decodes a whole `ListValue` as one sequence, such as a tuple of arguments.
///
/// # Errors
///
/// If the bytes are no list, or one of another length or other types.
pub fn sequence_from_bytes<'de, T: Deserialize<'de>>(list: &'de [u8]) -> Result<T, DecodeError> {
    T::deserialize(de::Decoder::of_list(list))
}

/// Returns the `ListValue` in an encoded `Value`; `None` if it is another kind of value.
///
/// # Errors
///
/// If the bytes are no value.
pub fn as_list(bytes: &[u8]) -> Result<Option<&[u8]>, DecodeError> {
    de::as_list(bytes)
}

/// Encodes a map or a struct as a `google.protobuf.Struct`.
///
/// # Errors
///
/// If it is neither, or holds what a value cannot.
pub fn struct_to_bytes<T: Serialize + ?Sized>(fields: &T, non_finite: NonFinite) -> Result<Vec<u8>, EncodeError> {
    let value = to_bytes_with(fields, non_finite)?;
    match de::as_struct(&value) {
        Ok(Some(content)) => Ok(content.to_vec()),
        _ => Err(EncodeError::NotAStruct),
    }
}

/// Decodes a `google.protobuf.Struct` as a map or a struct.
///
/// # Errors
///
/// If the bytes are no such message, or not of this type.
pub fn struct_from_bytes<'de, T: Deserialize<'de>>(fields: &'de [u8]) -> Result<T, DecodeError> {
    T::deserialize(de::Decoder::of_struct(fields))
}

impl From<SlabProblem> for DecodeError {
    fn from(problem: SlabProblem) -> Self {
        match problem {
            SlabProblem::EmptyValue => Self::Empty,
            SlabProblem::Malformed | SlabProblem::TooLong => Self::Malformed,
        }
    }
}

impl serde::ser::Error for EncodeError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self::Custom(message.to_string())
    }
}

impl serde::de::Error for DecodeError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self::Custom(message.to_string())
    }
}
