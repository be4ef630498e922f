//! Items on the wire.
//!
//! [`ItemSlab`] finds the items of an encoded list without decoding them, so that a chunk of work is a byte range.
//! [`value`] converts serde types to encoded `google.protobuf.Value`s and back, and [`json`] to JSON texts, for clients and workers; [`wire`] is for
//! those who convert the objects of another language themselves.
//! With the feature `bindings`, `Encoded` converts from and to the oneofs of the API.
//!
//! This crate knows nothing about jobs, workers or gRPC.

#![warn(missing_docs)]

#[cfg(feature = "bindings")]
mod encoded;
pub mod json;
mod slab;
pub mod value;
pub mod wire;

#[cfg(feature = "bindings")]
pub use encoded::Encoded;
pub use slab::{
    ItemKind, ItemSlab, Records, SlabBuilder, SlabError, SlabProblem, begin_record, end_record, push_record,
};
