//! What a value can hold, and how deep it may be nested.

/// How deep messages may be nested: protobuf's readers refuse more. A list is two levels, a dict three.
pub(super) const MAX_LEVELS: u32 = 100;
/// A value is in a list in a response, which may be within other messages.
pub(super) const LEVELS_ABOVE: u32 = 4;
pub(super) const TOO_DEEP: &str =
    "nested more than 48 lists or 32 dicts deep, which most readers refuse; is it a cycle?";
/// The largest integer that cannot be a rounded one: 2^53 + 1, rounded to a double, is 2^53.
pub(super) const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;
