//! The oneofs of the generated bindings, which all say the same: values or blobs.

use bytes::Bytes;
use procpool_items::ItemKind;
use procpool_proto::v1 as proto;

/// An encoded list of items or results.
#[derive(Debug, Clone)]
pub(crate) struct EncodedList {
    pub(crate) kind: ItemKind,
    pub(crate) bytes: Bytes,
}

/// An encoded argument that all items share.
#[derive(Debug, Clone)]
pub(crate) struct EncodedCommon {
    pub(crate) kind: ItemKind,
    pub(crate) bytes: Bytes,
}

macro_rules! to_common {
    ($($oneof:path),*) => {$(
        impl From<EncodedCommon> for $oneof {
            fn from(common: EncodedCommon) -> Self {
                match common.kind {
                    ItemKind::Values => Self::CommonValue(common.bytes),
                    ItemKind::Blobs => Self::CommonBlob(common.bytes),
                }
            }
        }
    )*};
}
to_common!(
    proto::map_request::Common,
    proto::star_map_request::Common,
    proto::i_map_request::Common,
    proto::i_map_stream_config::Common
);

macro_rules! to_oneof {
    ($($oneof:path),*) => {$(
        impl From<EncodedList> for $oneof {
            fn from(list: EncodedList) -> Self {
                match list.kind {
                    ItemKind::Values => Self::Values(list.bytes),
                    ItemKind::Blobs => Self::Blobs(list.bytes),
                }
            }
        }
    )*};
}
to_oneof!(
    proto::apply_request::Args,
    proto::map_request::Items,
    proto::star_map_request::Items,
    proto::i_map_request::Items,
    proto::i_map_stream_request::Items
);

macro_rules! from_oneof {
    ($($oneof:path),*) => {$(
        impl From<$oneof> for EncodedList {
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
