//! serde types as encoded `google.protobuf.Value`s, and back, without an intermediate tree.
//!
//! The rules are those of JSON, with these differences, so that values keep their meaning:
//!
//! - A number is a double. An integer beyond ±(2^53 - 1) is an error, never rounded. An integral double within these
//!   bounds is an integer to a target that asks for an integer or for any type, and a float to a target that asks for a
//!   float. Beyond the bounds, the sender's library may have rounded it: a target that asks for any type gets a float,
//!   and one that asks for an integer gets an error.
//! - NaN and the infinities are an error, or null on request ([`NonFinite`]): tools that print messages refuse a whole
//!   message that has one.
//! - None and `()` are `null_value`. A `Value` of zero bytes is an error on both sides.
//! - Bytes are an error: they belong in blobs.
//!
//! Nesting is limited as in other protobuf libraries, which count messages: at most 48 nested lists or 32 objects. A
//! reader would refuse a whole response for one deeper value.

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

/// The largest integer that cannot be a rounded one: 2^53 + 1, rounded to a double, is 2^53.
const MAX_INTEGER: u64 = (1 << 53) - 1;
/// How deep messages may be nested below a `Value`. Other libraries allow 100 in all, and a response adds a few.
const MAX_MESSAGE_DEPTH: i32 = 96;
/// The messages that a list adds to the depth: `ListValue` and `Value`.
const LIST_DEPTH: i32 = 2;
/// The messages that an object adds to the depth: `Struct`, its entry and `Value`.
const STRUCT_DEPTH: i32 = 3;

/// How NaN and the infinities are encoded.
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
    /// An integer that a double may not represent.
    #[error("the integer {0} is beyond ±(2^53 - 1) and may be rounded in a value: send it as a string or in a blob")]
    IntegerTooLarge(String),
    /// NaN or an infinity.
    #[error("the number {0} cannot be in a value: send null or a string")]
    NonFinite(String),
    /// Bytes.
    #[error("bytes cannot be in a value: send blobs")]
    Bytes,
    /// A map key that is not a string, number or bool.
    #[error("the keys of a map must be strings")]
    Key,
    /// Lists or objects nested too deeply.
    #[error("the value is nested too deeply: at most 48 lists or 32 objects")]
    TooDeep,
    /// Keyword arguments that are not a map.
    #[error("keyword arguments must be a map or a struct")]
    NotAStruct,
    /// An error of the type.
    #[error("{0}")]
    Custom(String),
}

/// Why bytes are not a value of the requested type.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A `Value` with none of its fields set.
    #[error("an empty Value; send null_value for null")]
    Empty,
    /// A `Value` of an unknown kind.
    #[error("a Value of an unknown kind (tag {0:#04x})")]
    UnknownKind(u8),
    /// The bytes are not a protobuf message of this type.
    #[error("the value is malformed")]
    Malformed,
    /// A string that is not UTF-8.
    #[error("a string is not UTF-8")]
    InvalidUtf8,
    /// Lists or objects nested too deeply.
    #[error("the value is nested too deeply: at most 48 lists or 32 objects")]
    TooDeep,
    /// A number with a fraction, where an integer is needed.
    #[error("{0} is not an integer")]
    NotAnInteger(f64),
    /// A number beyond ±(2^53 - 1), where an integer is needed.
    #[error("{0} is beyond ±(2^53 - 1) and may be a rounded integer: send it as a string or in a blob")]
    IntegerTooLarge(f64),
    /// NaN or an infinity, where a float was not asked for.
    #[error("{0} is not a JSON number: only a function that takes a float can get it")]
    NotFinite(f64),
    /// An error of the type.
    #[error("{0}")]
    Custom(String),
}

/// An error and the index of its item.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("item {index}: {error}")]
pub struct ItemProblem<E> {
    /// The index of the item.
    pub index: usize,
    /// The problem.
    pub error: E,
}

/// Encodes something as a `Value`.
///
/// # Errors
///
/// If a value cannot represent it.
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

/// Checks that a value to be written as JSON has no NaN or infinity, which JSON writers turn into null.
///
/// # Errors
///
/// If it has one.
pub fn check_finite<T: Serialize + ?Sized>(value: &T) -> Result<(), EncodeError> {
    let mut thrown_away = Vec::new();
    match value.serialize(&mut ser::Encoder::checking(&mut thrown_away)) {
        Err(error @ EncodeError::NonFinite(_)) => Err(error),
        // Other errors are left to the other format.
        _ => Ok(()),
    }
}

/// Decodes a `Value`. Strings may be borrowed from the bytes.
///
/// # Errors
///
/// If the bytes are not a value, or not of this type.
pub fn from_bytes<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, DecodeError> {
    T::deserialize(de::Decoder::new(bytes))
}

/// Encodes items as a `ListValue`.
///
/// # Errors
///
/// If a value cannot represent one of them.
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
/// If the bytes are not a list, or an item is not of this type.
pub fn list_from_bytes<'de, T: Deserialize<'de>>(list: &'de [u8]) -> Result<Vec<T>, ItemProblem<DecodeError>> {
    // A number takes 11 bytes. The estimate must not allocate more than a few times the input.
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
/// If the bytes are not a list, or have another length or other types.
pub fn sequence_from_bytes<'de, T: Deserialize<'de>>(list: &'de [u8]) -> Result<T, DecodeError> {
    T::deserialize(de::Decoder::of_list(list))
}

/// Returns the `ListValue` in an encoded `Value`; `None` if it is another kind of value.
///
/// # Errors
///
/// If the bytes are not a value.
pub fn as_list(bytes: &[u8]) -> Result<Option<&[u8]>, DecodeError> {
    de::as_list(bytes)
}

/// Encodes a map or a struct as a `google.protobuf.Struct`.
///
/// # Errors
///
/// If it is neither, or a value cannot represent a part of it.
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
/// If the bytes are not such a message, or not of this type.
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
