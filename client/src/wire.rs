//! Conversions between the oneofs of the generated bindings: each is either values or blobs.

use bytes::Bytes;
use procpool_items::ItemKind;
use procpool_proto::v1 as proto;

/// An encoded list of items or results, or an encoded argument that all items share.
#[derive(Debug, Clone)]
pub(crate) struct Encoded {
    pub(crate) kind: ItemKind,
    pub(crate) bytes: Bytes,
}

macro_rules! into_oneof {
    ($values:ident, $blobs:ident, $($oneof:path),*) => {$(
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
into_oneof!(
    CommonValue,
    CommonBlob,
    proto::map_request::Common,
    proto::star_map_request::Common,
    proto::i_map_request::Common,
    proto::i_map_stream_config::Common
);
into_oneof!(
    Values,
    Blobs,
    proto::apply_request::Args,
    proto::map_request::Items,
    proto::star_map_request::Items,
    proto::i_map_request::Items,
    proto::i_map_stream_request::Items
);

macro_rules! from_oneof {
    ($($oneof:path),*) => {$(
        impl From<$oneof> for Encoded {
            fn from(results: $oneof) -> Self {
                use $oneof as Oneof;
                match results {
                    Oneof::Values(bytes) => Self { kind: ItemKind::Values, bytes },
                    Oneof::Blobs(bytes) => Self { kind: ItemKind::Blobs, bytes },
                }
            }
        }
    )*};
}
from_oneof!(
    proto::map_response::Results,
    proto::star_map_response::Results,
    proto::i_map_response::Results,
    proto::i_map_stream_response::Results
);
