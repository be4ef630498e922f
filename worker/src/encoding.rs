//! How items, results and common arguments are encoded.

/// How an item and a result are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As `google.protobuf.Value`s.
    Values,
    /// As JSON in blobs.
    Json,
    /// As opaque bytes.
    Bytes,
}
