//! Decodes a `Value`.

use serde::de::value::{BorrowedStrDeserializer, StrDeserializer};
use serde::de::{self, DeserializeSeed, Error as _, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;

use super::error::DecodeError;
use super::limits::{LIST_DEPTH, MAX_INTEGER, MAX_MESSAGE_DEPTH, STRUCT_DEPTH};
use crate::slab::Records;
use crate::wire::{
    BOOL_TAG, ENTRY_VALUE_TAG, KEY_TAG, LIST_TAG, NULL_TAG, NUMBER_TAG, STRING_TAG, STRUCT_TAG, read_varint,
};

/// Returns the content of a list, if the value is one.
pub(super) fn as_list(bytes: &[u8]) -> Result<Option<&[u8]>, DecodeError> {
    Ok(if let Kind::List(list) = parse(bytes)? { Some(list) } else { None })
}

/// Returns the content of an object, if the value is one.
pub(super) fn as_struct(bytes: &[u8]) -> Result<Option<&[u8]>, DecodeError> {
    Ok(if let Kind::Struct(fields) = parse(bytes)? { Some(fields) } else { None })
}

/// What a `Value` holds.
#[derive(Clone, Copy)]
enum Kind<'de> {
    Null,
    Number(f64),
    String(&'de str),
    Bool(bool),
    Struct(&'de [u8]),
    List(&'de [u8]),
}

/// Parses a `Value`, which must have exactly one field.
fn parse(bytes: &[u8]) -> Result<Kind<'_>, DecodeError> {
    let (&tag, rest) = bytes.split_first().ok_or(DecodeError::Empty)?;
    match tag {
        NUMBER_TAG => {
            let number = <[u8; 8]>::try_from(rest).map_err(|_| DecodeError::Malformed)?;
            Ok(Kind::Number(f64::from_le_bytes(number)))
        }
        STRING_TAG => {
            let content = whole_content(rest)?;
            Ok(Kind::String(std::str::from_utf8(content).map_err(|_| DecodeError::InvalidUtf8)?))
        }
        STRUCT_TAG => Ok(Kind::Struct(whole_content(rest)?)),
        LIST_TAG => Ok(Kind::List(whole_content(rest)?)),
        NULL_TAG => whole_varint(rest).map(|_| Kind::Null),
        BOOL_TAG => whole_varint(rest).map(|value| Kind::Bool(value != 0)),
        _ => Err(DecodeError::UnknownKind(tag)),
    }
}

fn whole_varint(bytes: &[u8]) -> Result<u64, DecodeError> {
    match read_varint(bytes) {
        Some((value, length)) if length == bytes.len() => Ok(value),
        _ => Err(DecodeError::Malformed),
    }
}

/// Reads a length and the content of that length, which must be the rest of the bytes.
fn whole_content(bytes: &[u8]) -> Result<&[u8], DecodeError> {
    let (content, rest) = split_content(bytes)?;
    if rest.is_empty() { Ok(content) } else { Err(DecodeError::Malformed) }
}

/// Reads a length and the content of that length; returns the content and the rest.
fn split_content(bytes: &[u8]) -> Result<(&[u8], &[u8]), DecodeError> {
    let (length, header) = read_varint(bytes).ok_or(DecodeError::Malformed)?;
    let length = usize::try_from(length).map_err(|_| DecodeError::Malformed)?;
    bytes[header..].split_at_checked(length).ok_or(DecodeError::Malformed)
}

/// Decodes one `Value`.
pub(super) struct Decoder<'de> {
    source: Source<'de>,
    depth: i32,
}

enum Source<'de> {
    Value(&'de [u8]),
    Parsed(Kind<'de>),
}

impl<'de> Decoder<'de> {
    pub(super) fn new(bytes: &'de [u8]) -> Self {
        Self { source: Source::Value(bytes), depth: 0 }
    }

    /// Decodes a list that is not itself a value: its elements may be nested as deeply as any value.
    pub(super) fn of_list(list: &'de [u8]) -> Self {
        Self { source: Source::Parsed(Kind::List(list)), depth: -LIST_DEPTH }
    }

    fn kind(&self) -> Result<Kind<'de>, DecodeError> {
        match self.source {
            Source::Value(bytes) => parse(bytes),
            Source::Parsed(kind) => Ok(kind),
        }
    }

    fn descend(&self, messages: i32) -> Result<i32, DecodeError> {
        let depth = self.depth + messages;
        if depth > MAX_MESSAGE_DEPTH { Err(DecodeError::TooDeep) } else { Ok(depth) }
    }

    fn visit_list<V: Visitor<'de>>(&self, list: &'de [u8], visitor: V) -> Result<V::Value, DecodeError> {
        let mut elements = Elements { records: Records::new(list), depth: self.descend(LIST_DEPTH)?, num_taken: 0 };
        let value = visitor.visit_seq(&mut elements)?;
        let num_taken = elements.num_taken;
        match elements.records.count() {
            0 => Ok(value),
            num_left => Err(DecodeError::invalid_length(num_taken + num_left, &Fewer(num_taken))),
        }
    }

    fn visit_struct<V: Visitor<'de>>(&self, fields: &'de [u8], visitor: V) -> Result<V::Value, DecodeError> {
        let mut entries =
            Entries { records: Records::new(fields), depth: self.descend(STRUCT_DEPTH)?, next_value: None };
        visitor.visit_map(&mut entries)
    }

    fn visit<V: Visitor<'de>>(&self, kind: Kind<'de>, visitor: V) -> Result<V::Value, DecodeError> {
        match kind {
            Kind::Null => visitor.visit_unit(),
            // A double does not distinguish 1 from 1.0. An integer is accepted where a float is expected, but not the
            // other way round. -0.0 is not an integer: it would lose its sign.
            Kind::Number(number) => match to_integer(number) {
                Ok(integer) if integer != 0 || number.is_sign_positive() => visit_integer(integer, visitor),
                // A type that takes anything is a JSON type, and would silently turn it into null.
                _ if !number.is_finite() => Err(DecodeError::NotFinite(number)),
                _ => visitor.visit_f64(number),
            },
            Kind::String(string) => visitor.visit_borrowed_str(string),
            Kind::Bool(value) => visitor.visit_bool(value),
            Kind::Struct(fields) => self.visit_struct(fields, visitor),
            Kind::List(list) => self.visit_list(list, visitor),
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "±(2^53 - 1) fits both types exactly")]
fn to_integer(number: f64) -> Result<i64, DecodeError> {
    if number.abs() <= MAX_INTEGER as f64 {
        let integer = number as i64;
        #[expect(clippy::float_cmp, reason = "it is about being exactly an integer")]
        return if integer as f64 == number { Ok(integer) } else { Err(DecodeError::NotAnInteger(number)) };
    }
    Err(if number.is_finite() { DecodeError::IntegerTooLarge(number) } else { DecodeError::NotAnInteger(number) })
}

fn visit_integer<'de, V: Visitor<'de>>(integer: i64, visitor: V) -> Result<V::Value, DecodeError> {
    match u64::try_from(integer) {
        Ok(positive) => visitor.visit_u64(positive),
        Err(_) => visitor.visit_i64(integer),
    }
}

macro_rules! deserialize_integers {
    ($($method:ident),+) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            match self.kind()? {
                Kind::Number(number) => visit_integer(to_integer(number)?, visitor),
                kind => self.visit(kind, visitor),
            }
        }
    )+};
}

macro_rules! deserialize_floats {
    ($($method:ident),+) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            match self.kind()? {
                Kind::Number(number) => visitor.visit_f64(number),
                kind => self.visit(kind, visitor),
            }
        }
    )+};
}

impl<'de> de::Deserializer<'de> for Decoder<'de> {
    type Error = DecodeError;

    deserialize_integers!(
        deserialize_i8,
        deserialize_i16,
        deserialize_i32,
        deserialize_i64,
        deserialize_i128,
        deserialize_u8,
        deserialize_u16,
        deserialize_u32,
        deserialize_u64,
        deserialize_u128
    );
    deserialize_floats!(deserialize_f32, deserialize_f64);
    forward_to_deserialize_any! {
        bool char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.visit(self.kind()?, visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.kind()? {
            Kind::Null => visitor.visit_none(),
            kind => visitor.visit_some(Self { source: Source::Parsed(kind), depth: self.depth }),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.kind()? {
            Kind::String(variant) => visitor.visit_enum(BorrowedStrDeserializer::new(variant)),
            Kind::Struct(fields) => {
                let depth = self.descend(STRUCT_DEPTH)?;
                let mut records = Records::new(fields);
                let (Some(entry), None) = (records.next(), records.next()) else {
                    return Err(DecodeError::invalid_value(Unexpected::Map, &"an object with a single key"));
                };
                let (name, value) = split_entry(entry?)?;
                visitor.visit_enum(Variant { name, value, depth })
            }
            kind => self.visit(kind, visitor),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.kind()?;
        visitor.visit_unit()
    }
}

/// The elements of a list.
struct Elements<'de> {
    records: Records<'de>,
    depth: i32,
    num_taken: usize,
}

impl<'de> de::SeqAccess<'de> for Elements<'de> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, DecodeError> {
        let Some(element) = self.records.next() else { return Ok(None) };
        self.num_taken += 1;
        seed.deserialize(Decoder { source: Source::Value(element?), depth: self.depth }).map(Some)
    }
}

/// The length that a target expected that took this many elements.
struct Fewer(usize);

impl de::Expected for Fewer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "a list of {}", self.0)
    }
}

/// Parses an entry of an object. An entry may omit an empty key. One with two keys or two values is malformed, like a
/// `Value` with two fields: readers would not agree on its meaning.
fn split_entry(mut entry: &[u8]) -> Result<(&str, &[u8]), DecodeError> {
    let mut key = None;
    let mut value = None;
    while let Some((&tag, rest)) = entry.split_first() {
        let (content, after) = split_content(rest)?;
        let field = match tag {
            KEY_TAG => &mut key,
            ENTRY_VALUE_TAG => &mut value,
            _ => return Err(DecodeError::Malformed),
        };
        if field.replace(content).is_some() {
            return Err(DecodeError::Malformed);
        }
        entry = after;
    }
    let key = std::str::from_utf8(key.unwrap_or_default()).map_err(|_| DecodeError::InvalidUtf8)?;
    Ok((key, value.unwrap_or_default()))
}

/// The entries of an object.
struct Entries<'de> {
    records: Records<'de>,
    depth: i32,
    next_value: Option<&'de [u8]>,
}

impl<'de> de::MapAccess<'de> for Entries<'de> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        let Some(entry) = self.records.next() else { return Ok(None) };
        let (key, value) = split_entry(entry?)?;
        self.next_value = Some(value);
        seed.deserialize(Key { key }).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, DecodeError> {
        let value =
            self.next_value.take().ok_or_else(|| DecodeError::custom("a value was requested before its key"))?;
        seed.deserialize(Decoder { source: Source::Value(value), depth: self.depth })
    }
}

/// A key of an object: a string, or a number or bool written as one.
struct Key<'de> {
    key: &'de str,
}

macro_rules! deserialize_parsed_key {
    ($($method:ident => $visit:ident),+) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            match self.key.parse() {
                Ok(key) => visitor.$visit(key),
                Err(_) => visitor.visit_borrowed_str(self.key),
            }
        }
    )+};
}

impl<'de> de::Deserializer<'de> for Key<'de> {
    type Error = DecodeError;

    deserialize_parsed_key!(
        deserialize_bool => visit_bool, deserialize_i8 => visit_i8, deserialize_i16 => visit_i16,
        deserialize_i32 => visit_i32, deserialize_i64 => visit_i64, deserialize_i128 => visit_i128,
        deserialize_u8 => visit_u8, deserialize_u16 => visit_u16, deserialize_u32 => visit_u32,
        deserialize_u64 => visit_u64, deserialize_u128 => visit_u128, deserialize_f32 => visit_f32,
        deserialize_f64 => visit_f64
    );
    forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier
        ignored_any
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_borrowed_str(self.key)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_enum(BorrowedStrDeserializer::new(self.key))
    }
}

/// A variant of an enum that has content.
struct Variant<'de> {
    name: &'de str,
    value: &'de [u8],
    depth: i32,
}

impl<'de> de::EnumAccess<'de> for Variant<'de> {
    type Error = DecodeError;
    type Variant = Decoder<'de>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Decoder<'de>), DecodeError> {
        let name: StrDeserializer<'_, DecodeError> = self.name.into_deserializer();
        let variant = seed.deserialize(name)?;
        Ok((variant, Decoder { source: Source::Value(self.value), depth: self.depth }))
    }
}

impl<'de> de::VariantAccess<'de> for Decoder<'de> {
    type Error = DecodeError;

    fn unit_variant(self) -> Result<(), DecodeError> {
        de::Deserialize::deserialize(self)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, DecodeError> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, DecodeError> {
        de::Deserializer::deserialize_any(self, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        de::Deserializer::deserialize_any(self, visitor)
    }
}
