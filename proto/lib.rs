//! Generated bindings of procpool's protocols, the codec that they name, the [`Reason`]s of errors and the
//! names of codes; nothing else.
//!
//! Fields that carry user data (`ListValue`, `BlobList`, `Value`, `Struct`) are [`bytes::Bytes`] here: the encoded
//! message, undecoded. `procpool-items` reads and writes them. `build.rs` says how and why.
#![warn(missing_docs)]
#![forbid(unsafe_code)]

pub use procpool::{v1, worker};

#[expect(clippy::all, clippy::pedantic, reason = "generated")]
#[cfg_attr(
    feature = "grpc",
    expect(clippy::allow_attributes, clippy::allow_attributes_without_reason, reason = "generated")
)]
// prost refers from one package to another by nested modules of their names.
mod procpool {
    /// The public API, `procpool.v1`.
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/procpool.v1.rs"));
    }

    /// The frames between server and worker, `procpool.worker.v1`.
    pub mod worker {
        /// Version 1.
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/procpool.worker.v1.rs"));
        }
    }
}

/// Google's error model.
#[expect(clippy::pedantic, rustdoc::invalid_html_tags, reason = "generated")]
pub mod google {
    /// `google.rpc`.
    pub mod rpc {
        include!(concat!(env!("OUT_DIR"), "/google.rpc.rs"));
    }
}

#[cfg(feature = "grpc")]
mod code;
#[cfg(feature = "serde")]
#[expect(clippy::trivially_copy_pass_by_ref, clippy::ref_option, reason = "serde wants it so")]
mod json;
mod reason;

#[cfg(feature = "grpc")]
pub use code::code_name;
pub use reason::Reason;

/// How messages are put on the wire, and taken from it.
#[cfg(feature = "grpc")]
mod codec;

/// The served descriptors: `procpool.v1` and `google/rpc/{status,error_details}.proto` with all that they import.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/procpool_descriptor.bin"));
