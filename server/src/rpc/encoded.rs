//! The oneofs of requests and responses that hold values of one kind or the other.

use bytes::Bytes;
use procpool_items::ItemKind;
use procpool_proto::v1;

/// Items, arguments or results, encoded, and of which kind they are.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) kind: ItemKind,
    pub(super) bytes: Bytes,
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
