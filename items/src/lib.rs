//! Items on the wire.
//!
//! [`ItemSlab`] finds the items of an encoded list without decoding them, so that a chunk of work is a byte range.
//! [`value`] turns serde types into encoded `google.protobuf.Value`s and back, and [`json`] into JSON texts, for the two
//! ends that do look inside.
//!
//! This crate knows neither jobs nor workers nor gRPC.

#![warn(missing_docs)]

pub mod json;
mod slab;
pub mod value;

pub use slab::{ItemKind, ItemSlab, Records, SlabBuilder, SlabError, SlabProblem};
