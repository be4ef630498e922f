//! Encoding items and decoding results.

use bytes::Bytes;
use futures_util::StreamExt as _;
use procpool_items::value::{self, NonFinite};
use procpool_items::{Encoded, ItemKind, ItemSlab, SlabBuilder, json};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::error::CallError;
use crate::item_sender::ItemRecords;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An encoded `Value` that is null.
const NULL: [u8; 2] = [0x08, 0x00];

/// How a client sends items and gets results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Encoding {
    /// As protobuf values: the fastest, and every worker understands them. Numbers are doubles: an integer beyond
    /// ±(2^53 - 1) cannot be sent, and a result beyond is a float.
    #[default]
    Values,
    /// As JSON text in blobs: integers of 64 bits stay exact. Larger ones can be sent (`u128`), but a result that has one is
    /// an error. The worker's SDK must know `application/json`.
    Json,
}

/// How one item becomes bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Format {
    Values,
    Json,
    Bytes,
}

impl From<Encoding> for Format {
    fn from(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Values => Self::Values,
            Encoding::Json => Self::Json,
        }
    }
}

impl Format {
    /// Returns the format of items that are encoded already.
    pub(crate) fn of_encoded(kind: ItemKind) -> Self {
        match kind {
            ItemKind::Values => Self::Values,
            ItemKind::Blobs => Self::Bytes,
        }
    }

    pub(crate) fn kind(self) -> ItemKind {
        match self {
            Self::Values => ItemKind::Values,
            Self::Json | Self::Bytes => ItemKind::Blobs,
        }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Values | Self::Bytes => "",
        }
    }

    /// Appends an item.
    pub(crate) fn push<T: Serialize>(self, builder: &mut SlabBuilder, item: &T) -> Result<(), BoxError> {
        match self {
            Self::Values => builder.push(&value::to_bytes(item)?),
            Self::Json | Self::Bytes => builder.push(&json_of(item)?),
        }
        Ok(())
    }

    /// Returns what decodes a result.
    pub(crate) fn decoder<R: DeserializeOwned>(self) -> Decoder<R> {
        match self {
            Self::Values => |bytes| Ok(value::from_bytes(&bytes)?),
            Self::Json | Self::Bytes => |bytes| Ok(json::from_slice(&bytes)?),
        }
    }
}

/// Decodes a result.
pub(crate) type Decoder<R> = fn(Bytes) -> Result<R, BoxError>;

/// The decoder of raw results.
#[expect(clippy::unnecessary_wraps, reason = "it is a Decoder")]
pub(crate) fn raw(bytes: Bytes) -> Result<Bytes, BoxError> {
    Ok(bytes)
}

/// An encoded list of items.
#[derive(Debug, Clone)]
pub(crate) struct Payload {
    pub(crate) list: Encoded,
    pub(crate) count: usize,
}

impl Payload {
    /// Returns the items one by one, each as it is in the list.
    pub(crate) fn into_records(self) -> Result<ItemRecords, CallError> {
        let slab = ItemSlab::parse(self.list.kind, self.list.bytes);
        let slab = slab.map_err(|error| encode_error(error.index as u64, error))?;
        let records = (0..slab.len()).map(move |index| Ok(slab.range(index..index + 1)));
        Ok(futures_util::stream::iter(records).boxed())
    }

    fn of_blobs(mut builder: SlabBuilder) -> Self {
        let count = builder.len();
        Self { list: Encoded { kind: ItemKind::Blobs, bytes: builder.take() }, count }
    }

    pub(crate) fn encode<T: Serialize>(format: Format, items: impl IntoIterator<Item = T>) -> Result<Self, CallError> {
        if matches!(format, Format::Values) {
            let mut count = 0;
            let counted = items.into_iter().inspect(|_| count += 1);
            let list = value::list_to_bytes(counted, NonFinite::default());
            let list = list.map_err(|problem| encode_error(problem.index as u64, problem.error))?;
            return Ok(Self { list: Encoded { kind: ItemKind::Values, bytes: list }, count });
        }
        let mut builder = SlabBuilder::new();
        for item in items {
            let index = builder.len() as u64;
            format.push(&mut builder, &item).map_err(|source| CallError::Encode { index, source })?;
        }
        Ok(Self::of_blobs(builder))
    }

    pub(crate) fn from_blobs<B: AsRef<[u8]>>(blobs: impl IntoIterator<Item = B>) -> Self {
        let mut builder = SlabBuilder::new();
        blobs.into_iter().for_each(|blob| builder.push(blob.as_ref()));
        Self::of_blobs(builder)
    }

    /// Encodes what stands for an argument list: a tuple, a list, or `()`.
    pub(crate) fn encode_arguments<T: Serialize>(format: Format, arguments: &T) -> Result<Self, CallError> {
        const NO_LIST: &str = "the arguments must be a tuple or a list";
        match format {
            Format::Values => {
                let encoded = value::to_bytes(arguments).map_err(|error| encode_error(0, error))?;
                let bytes = match value::as_list(&encoded).map_err(|error| encode_error(0, error))? {
                    Some(list) => Bytes::copy_from_slice(list),
                    None if encoded == NULL => Bytes::new(),
                    None => return Err(encode_error(0, NO_LIST)),
                };
                let count = ItemSlab::count(ItemKind::Values, &bytes).map_err(|error| encode_error(0, error))?;
                Ok(Self { list: Encoded { kind: ItemKind::Values, bytes }, count })
            }
            Format::Json | Format::Bytes => {
                let text = json_of(arguments).map_err(|error| encode_error(0, error))?;
                // None for null; the texts as they are, so that no number in them changes.
                let arguments: Option<Vec<&RawValue>> =
                    serde_json::from_slice(&text).map_err(|_| encode_error(0, NO_LIST))?;
                let mut builder = SlabBuilder::new();
                arguments.unwrap_or_default().iter().for_each(|argument| builder.push(argument.get().as_bytes()));
                Ok(Self::of_blobs(builder))
            }
        }
    }
}

fn json_of<T: Serialize>(value: &T) -> Result<Vec<u8>, json::JsonEncodeError> {
    let mut text = Vec::new();
    json::append_with(value, NonFinite::default(), &mut text)?;
    Ok(text)
}

/// Encodes keyword arguments as a `Struct`.
pub(crate) fn encode_kwargs<T: Serialize>(kwargs: &T) -> Result<Bytes, CallError> {
    let encoded = value::struct_to_bytes(kwargs, NonFinite::default());
    encoded.map(Bytes::from).map_err(|error| encode_error(0, error))
}

/// Encodes an argument that all items share. Beside items that are bytes it is a value.
pub(crate) fn encode_common<T: Serialize>(format: Format, common: &T) -> Result<Encoded, CallError> {
    let encoded = match format {
        Format::Values | Format::Bytes => value::to_bytes(common).map_err(BoxError::from),
        Format::Json => json_of(common).map_err(BoxError::from),
    };
    let kind = if matches!(format, Format::Json) { ItemKind::Blobs } else { ItemKind::Values };
    let bytes = encoded.map_err(|source| CallError::EncodeCommon { source })?.into();
    Ok(Encoded { kind, bytes })
}

fn encode_error(index: u64, source: impl Into<BoxError>) -> CallError {
    CallError::Encode { index, source: source.into() }
}

/// Finds the results in a response.
pub(crate) fn parse_results(list: Encoded) -> Result<ItemSlab, CallError> {
    ItemSlab::parse(list.kind, list.bytes)
        .map_err(|error| CallError::Protocol { message: format!("malformed results: {error}") })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn arguments_are_a_tuple_a_list_or_nothing() {
        for format in [Format::Values, Format::Json] {
            let counts = [
                Payload::encode_arguments(format, &(2, "x", [1.5])).unwrap().count,
                Payload::encode_arguments(format, &vec![1, 2]).unwrap().count,
                Payload::encode_arguments(format, &()).unwrap().count,
                Payload::encode_arguments(format, &Vec::<u8>::new()).unwrap().count,
            ];
            assert_eq!(counts, [3, 2, 0, 0]);
            assert!(Payload::encode_arguments(format, &7).is_err());
            assert!(Payload::encode_arguments(format, &"text").is_err());
        }
        let exact = Payload::encode_arguments(Format::Json, &(u128::MAX, i128::MIN)).unwrap();
        assert!(exact.list.bytes.ends_with(i128::MIN.to_string().as_bytes()), "{exact:?}");
    }

    #[test]
    fn an_item_that_cannot_be_encoded_is_named() {
        let too_large = Payload::encode(Format::Values, [1_u64, 2, 1 << 53]);
        assert!(matches!(too_large, Err(CallError::Encode { index: 2, .. })), "{too_large:?}");
        let exact = Payload::encode(Format::Json, [(1_u64 << 53) + 1]).unwrap();
        assert!(exact.list.bytes.ends_with(b"9007199254740993"));
    }

    #[test]
    fn no_number_becomes_another_or_null() {
        let decode =
            |text: &'static str| Format::Json.decoder::<serde_json::Value>()(Bytes::from_static(text.as_bytes()));
        assert_eq!(decode("18446744073709551615").unwrap(), u64::MAX);
        assert!(decode("1180591620717411303425").unwrap_err().to_string().contains("would be rounded"));
        for format in [Format::Values, Format::Json] {
            assert!(Payload::encode(format, [f64::NAN]).is_err());
            assert!(Payload::encode_arguments(format, &(1, f64::INFINITY)).is_err());
            assert!(encode_common(format, &[f64::NAN]).is_err());
        }
    }

    #[test]
    fn keyword_arguments_are_a_map() {
        assert!(encode_kwargs(&BTreeMap::from([("key", 1)])).is_ok());
        assert!(encode_kwargs(&[1]).is_err());
    }
}
