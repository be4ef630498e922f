//! Items on the wire.
//!
//! [`ItemSlab`] finds the items of an encoded list without decoding them, so that a chunk of work is a byte range.
//! [`value`] converts serde types to encoded `google.protobuf.Value`s and back, and [`json`] to JSON texts, for clients and workers.
//!
//! This crate knows nothing about jobs, workers or gRPC.

#![warn(missing_docs)]

pub mod json;
mod slab;
pub mod value;
mod wire;

pub use slab::{ItemKind, ItemSlab, Records, SlabBuilder, SlabError, SlabProblem};
