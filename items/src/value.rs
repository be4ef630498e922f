//! serde types as encoded `google.protobuf.Value`s, and back.
