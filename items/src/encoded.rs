//! The oneofs of requests and responses that hold values or blobs, as one type.

use bytes::Bytes;
use procpool_proto::v1;

use crate::slab::ItemKind;

/// Items, arguments or results as they travel: encoded, and of which kind they are.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// The kind.
    pub kind: ItemKind,
    /// A list, or a single `Value` or blob.
    pub bytes: Bytes,
}

macro_rules! oneofs {
    ($($oneof:ty: $values:ident | $blobs:ident,)*) => {$(
        impl From<$oneof> for Encoded {
            fn from(oneof: $oneof) -> Self {
                type Oneof = $oneof;
                let (kind, bytes) = match oneof {
                    Oneof::$values(bytes) => (ItemKind::Values, bytes),
                    Oneof::$blobs(bytes) => (ItemKind::Blobs, bytes),
                };
                Self { kind, bytes }
            }
        }

        impl From<Encoded> for $oneof {
            fn from(Encoded { kind, bytes }: Encoded) -> Self {
                match kind {
                    ItemKind::Values => Self::$values(bytes),
                    ItemKind::Blobs => Self::$blobs(bytes),
                }
            }
        }
    )*};
}

oneofs! {
    v1::apply_request::Args: Values | Blobs,
    v1::apply_response::Result: Value | Blob,
    v1::map_request::Items: Values | Blobs,
    v1::map_request::Common: CommonValue | CommonBlob,
    v1::map_response::Results: Values | Blobs,
    v1::star_map_request::Items: Values | Blobs,
    v1::star_map_request::Common: CommonValue | CommonBlob,
    v1::star_map_response::Results: Values | Blobs,
    v1::i_map_request::Items: Values | Blobs,
    v1::i_map_request::Common: CommonValue | CommonBlob,
    v1::i_map_response::Results: Values | Blobs,
    v1::i_map_stream_config::Common: CommonValue | CommonBlob,
    v1::i_map_stream_request::Items: Values | Blobs,
    v1::i_map_stream_response::Results: Values | Blobs,
}
