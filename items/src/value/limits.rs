//! What a value can hold, and how deep it may be nested.

/// The largest integer that cannot be a rounded one: 2^53 + 1, rounded to a double, is 2^53.
pub(super) const MAX_INTEGER: u64 = (1 << 53) - 1;
/// How deep messages may be nested below a `Value`. Other libraries allow 100 in all, and a response adds a few.
pub(super) const MAX_MESSAGE_DEPTH: i32 = 96;
/// The messages that a list adds to the depth: `ListValue` and `Value`.
pub(super) const LIST_DEPTH: i32 = 2;
/// The messages that an object adds to the depth: `Struct`, its entry and `Value`.
pub(super) const STRUCT_DEPTH: i32 = 3;
