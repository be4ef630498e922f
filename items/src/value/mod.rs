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
mod error;
mod key;
mod limits;
mod ser;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use self::error::{DecodeError, EncodeError, NonFinite};
use crate::slab::{Records, SlabBuilder};

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
