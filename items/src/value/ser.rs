//! Encodes a `Value`.
//!
//! A message follows its length, which is known only after it is written. Nearly all are shorter than 128 bytes, so one
//! byte is reserved for the length, and a longer message is moved when it is complete.

use std::fmt::Display;

use serde::ser::{self, Serialize};

use super::error::{EncodeError, NonFinite};
use super::key::KeyEncoder;
use super::limits::{LIST_DEPTH, MAX_INTEGER, MAX_MESSAGE_DEPTH, STRUCT_DEPTH};
use crate::wire::{
    BOOL_TAG, ENTRY_VALUE_TAG, KEY_TAG, LIST_TAG, NULL_TAG, NUMBER_TAG, RECORD_TAG, STRING_TAG, STRUCT_TAG, put_varint,
};

/// Appends one `Value` to a buffer.
pub(super) struct Encoder<'b> {
    bytes: &'b mut Vec<u8>,
    non_finite: NonFinite,
    /// Values that only a `Value` cannot represent are accepted, since the output is dropped.
    is_lenient: bool,
    depth: i32,
}

impl<'b> Encoder<'b> {
    pub(super) fn new(bytes: &'b mut Vec<u8>, non_finite: NonFinite) -> Self {
        Self { bytes, non_finite, is_lenient: false, depth: 0 }
    }

    /// Returns an encoder that only detects NaN and the infinities, for another format.
    pub(super) fn checking(bytes: &'b mut Vec<u8>) -> Self {
        Self { bytes, non_finite: NonFinite::Error, is_lenient: true, depth: 0 }
    }

    fn put_null(&mut self) {
        self.bytes.extend_from_slice(&[NULL_TAG, 0]);
    }

    fn put_number(&mut self, number: f64) {
        let mut record = [NUMBER_TAG; 9];
        record[1..].copy_from_slice(&number.to_le_bytes());
        self.bytes.extend_from_slice(&record);
    }

    #[expect(clippy::cast_precision_loss, reason = "up to 2^53 - 1 there is none")]
    fn put_integer(&mut self, magnitude: u64, negative: bool, shown: impl Display) -> Result<(), EncodeError> {
        if magnitude > MAX_INTEGER && !self.is_lenient {
            return Err(EncodeError::IntegerTooLarge(shown.to_string()));
        }
        self.put_number(if negative { -(magnitude as f64) } else { magnitude as f64 });
        Ok(())
    }

    fn put_tagged(&mut self, tag: u8, content: &[u8]) {
        self.bytes.push(tag);
        put_varint(self.bytes, content.len() as u64);
        self.bytes.extend_from_slice(content);
    }

    /// Begins a message; returns the position of its length.
    fn begin(&mut self, tag: u8) -> usize {
        self.bytes.extend_from_slice(&[tag, 0]);
        self.bytes.len() - 1
    }

    /// Ends the message whose length is at this position.
    fn end(&mut self, length_at: usize) {
        let content_at = length_at + 1;
        let length = self.bytes.len() - content_at;
        if let Ok(short @ 0..0x80) = u8::try_from(length) {
            self.bytes[length_at] = short;
            return;
        }
        let mut encoded = Vec::with_capacity(10);
        put_varint(&mut encoded, length as u64);
        let (first, others) = encoded.split_first().expect("a varint has at least one byte");
        self.bytes[length_at] = *first;
        self.bytes.extend_from_slice(others);
        self.bytes[content_at..].rotate_right(others.len());
    }

    fn descend(&mut self, messages: i32) -> Result<(), EncodeError> {
        self.depth += messages;
        if self.depth > MAX_MESSAGE_DEPTH && !self.is_lenient { Err(EncodeError::TooDeep) } else { Ok(()) }
    }

    /// Begins an object with one field, the form of an enum's variant with content.
    fn begin_variant(&mut self, variant: &str) -> Result<Variant, EncodeError> {
        self.descend(STRUCT_DEPTH)?;
        let fields = self.begin(STRUCT_TAG);
        let entry = self.begin(RECORD_TAG);
        self.put_tagged(KEY_TAG, variant.as_bytes());
        let value = self.begin(ENTRY_VALUE_TAG);
        Ok(Variant { fields, entry, value })
    }

    fn end_variant(&mut self, variant: &Variant) {
        self.end(variant.value);
        self.end(variant.entry);
        self.end(variant.fields);
        self.depth -= STRUCT_DEPTH;
    }
}

/// The positions of the lengths of a variant's object.
struct Variant {
    fields: usize,
    entry: usize,
    value: usize,
}

/// Integers that every double can represent.
macro_rules! serialize_small {
    ($($method:ident: $type:ty),+) => {$(
        fn $method(self, value: $type) -> Result<(), EncodeError> {
            self.put_number(f64::from(value));
            Ok(())
        }
    )+};
}

impl<'a, 'b> ser::Serializer for &'a mut Encoder<'b> {
    type Ok = ();
    type Error = EncodeError;
    type SerializeSeq = List<'a, 'b>;
    type SerializeTuple = List<'a, 'b>;
    type SerializeTupleStruct = List<'a, 'b>;
    type SerializeTupleVariant = List<'a, 'b>;
    type SerializeMap = Object<'a, 'b>;
    type SerializeStruct = Object<'a, 'b>;
    type SerializeStructVariant = Object<'a, 'b>;

    fn serialize_bool(self, value: bool) -> Result<(), EncodeError> {
        self.bytes.extend_from_slice(&[BOOL_TAG, u8::from(value)]);
        Ok(())
    }

    serialize_small!(
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_u8: u8, serialize_u16: u16, serialize_u32: u32
    );

    fn serialize_i64(self, value: i64) -> Result<(), EncodeError> {
        self.put_integer(value.unsigned_abs(), value < 0, value)
    }

    fn serialize_i128(self, value: i128) -> Result<(), EncodeError> {
        let magnitude = u64::try_from(value.unsigned_abs()).unwrap_or(u64::MAX);
        self.put_integer(magnitude, value < 0, value)
    }

    fn serialize_u64(self, value: u64) -> Result<(), EncodeError> {
        self.put_integer(value, false, value)
    }

    fn serialize_u128(self, value: u128) -> Result<(), EncodeError> {
        self.put_integer(u64::try_from(value).unwrap_or(u64::MAX), false, value)
    }

    fn serialize_f32(self, value: f32) -> Result<(), EncodeError> {
        self.serialize_f64(f64::from(value))
    }

    fn serialize_f64(self, value: f64) -> Result<(), EncodeError> {
        if value.is_finite() {
            self.put_number(value);
        } else if self.non_finite == NonFinite::Null {
            self.put_null();
        } else {
            return Err(EncodeError::NonFinite(value.to_string()));
        }
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), EncodeError> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), EncodeError> {
        self.put_tagged(STRING_TAG, value.as_bytes());
        Ok(())
    }

    fn serialize_bytes(self, _value: &[u8]) -> Result<(), EncodeError> {
        if self.is_lenient { Ok(()) } else { Err(EncodeError::Bytes) }
    }

    fn serialize_none(self) -> Result<(), EncodeError> {
        self.put_null();
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), EncodeError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), EncodeError> {
        self.serialize_none()
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), EncodeError> {
        self.serialize_none()
    }

    fn serialize_unit_variant(self, _name: &'static str, _: u32, variant: &'static str) -> Result<(), EncodeError> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), EncodeError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        let variant = self.begin_variant(variant)?;
        value.serialize(&mut *self)?;
        self.end_variant(&variant);
        Ok(())
    }

    fn serialize_seq(self, _len: Option<usize>) -> Result<List<'a, 'b>, EncodeError> {
        List::begin(self, None)
    }

    fn serialize_tuple(self, _len: usize) -> Result<List<'a, 'b>, EncodeError> {
        List::begin(self, None)
    }

    fn serialize_tuple_struct(self, _name: &'static str, _len: usize) -> Result<List<'a, 'b>, EncodeError> {
        List::begin(self, None)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<List<'a, 'b>, EncodeError> {
        let variant = self.begin_variant(variant)?;
        List::begin(self, Some(variant))
    }

    fn serialize_map(self, _len: Option<usize>) -> Result<Object<'a, 'b>, EncodeError> {
        Object::begin(self, None)
    }

    fn serialize_struct(self, _name: &'static str, _len: usize) -> Result<Object<'a, 'b>, EncodeError> {
        Object::begin(self, None)
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<Object<'a, 'b>, EncodeError> {
        let variant = self.begin_variant(variant)?;
        Object::begin(self, Some(variant))
    }
}

/// A list that is being written.
pub(super) struct List<'a, 'b> {
    encoder: &'a mut Encoder<'b>,
    length_at: usize,
    variant: Option<Variant>,
}

impl<'a, 'b> List<'a, 'b> {
    fn begin(encoder: &'a mut Encoder<'b>, variant: Option<Variant>) -> Result<Self, EncodeError> {
        encoder.descend(LIST_DEPTH)?;
        let length_at = encoder.begin(LIST_TAG);
        Ok(Self { encoder, length_at, variant })
    }

    fn put<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        let record_at = self.encoder.begin(RECORD_TAG);
        value.serialize(&mut *self.encoder)?;
        self.encoder.end(record_at);
        Ok(())
    }

    fn finish(self) {
        self.encoder.end(self.length_at);
        self.encoder.depth -= LIST_DEPTH;
        if let Some(variant) = &self.variant {
            self.encoder.end_variant(variant);
        }
    }
}

/// An object that is being written.
pub(super) struct Object<'a, 'b> {
    encoder: &'a mut Encoder<'b>,
    fields_at: usize,
    /// The position of the length of the entry whose key has been written.
    entry_at: usize,
    variant: Option<Variant>,
}

impl<'a, 'b> Object<'a, 'b> {
    fn begin(encoder: &'a mut Encoder<'b>, variant: Option<Variant>) -> Result<Self, EncodeError> {
        encoder.descend(STRUCT_DEPTH)?;
        let fields_at = encoder.begin(STRUCT_TAG);
        Ok(Self { encoder, fields_at, entry_at: fields_at, variant })
    }

    fn put_key(&mut self, key: &str) {
        self.entry_at = self.encoder.begin(RECORD_TAG);
        self.encoder.put_tagged(KEY_TAG, key.as_bytes());
    }

    fn put_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        let value_at = self.encoder.begin(ENTRY_VALUE_TAG);
        value.serialize(&mut *self.encoder)?;
        self.encoder.end(value_at);
        self.encoder.end(self.entry_at);
        Ok(())
    }

    fn finish(self) {
        self.encoder.end(self.fields_at);
        self.encoder.depth -= STRUCT_DEPTH;
        if let Some(variant) = &self.variant {
            self.encoder.end_variant(variant);
        }
    }
}

macro_rules! impl_list {
    ($($trait:ident :: $method:ident),+) => {$(
        impl ser::$trait for List<'_, '_> {
            type Ok = ();
            type Error = EncodeError;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
                self.put(value)
            }

            fn end(self) -> Result<(), EncodeError> {
                self.finish();
                Ok(())
            }
        }
    )+};
}

impl_list!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
);

macro_rules! impl_object {
    ($($trait:ident),+) => {$(
        impl ser::$trait for Object<'_, '_> {
            type Ok = ();
            type Error = EncodeError;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), EncodeError> {
                self.put_key(key);
                self.put_value(value)
            }

            fn end(self) -> Result<(), EncodeError> {
                self.finish();
                Ok(())
            }
        }
    )+};
}

impl_object!(SerializeStruct, SerializeStructVariant);

impl ser::SerializeMap for Object<'_, '_> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), EncodeError> {
        let key = key.serialize(KeyEncoder)?;
        self.put_key(&key);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.put_value(value)
    }

    fn end(self) -> Result<(), EncodeError> {
        self.finish();
        Ok(())
    }
}
