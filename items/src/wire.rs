//! The wire format of protobuf, as far as items need it: tags and varints.

use bytes::BufMut;

/// The tag of field 1, length-delimited, with which every record starts.
pub const RECORD_TAG: u8 = 0x0a;
/// The tag of `Value.null_value`.
pub const NULL_TAG: u8 = 0x08;
/// The tag of `Value.number_value`.
pub const NUMBER_TAG: u8 = 0x11;
/// The tag of `Value.string_value`.
pub const STRING_TAG: u8 = 0x1a;
/// The tag of `Value.bool_value`.
pub const BOOL_TAG: u8 = 0x20;
/// The tag of `Value.struct_value`.
pub const STRUCT_TAG: u8 = 0x2a;
/// The tag of `Value.list_value`.
pub const LIST_TAG: u8 = 0x32;
/// The tag of the key of an entry of `Struct.fields`.
pub const KEY_TAG: u8 = 0x0a;
/// The tag of the value of an entry of `Struct.fields`.
pub const ENTRY_VALUE_TAG: u8 = 0x12;
/// A varint of a 64-bit number has at most this many bytes.
pub const MAX_VARINT_BYTES: usize = 10;

/// Reads a varint; returns it and the number of its bytes.
pub fn read_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    // Nearly every item is shorter than 128 bytes.
    let first = *bytes.first()?;
    if first < 0x80 {
        return Some((u64::from(first), 1));
    }
    let mut value = 0_u64;
    for (position, &byte) in bytes.iter().take(MAX_VARINT_BYTES).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * position);
        if byte < 0x80 {
            // The tenth byte has space for one bit.
            let overflows = position + 1 == MAX_VARINT_BYTES && byte > 1;
            return if overflows { None } else { Some((value, position + 1)) };
        }
    }
    None
}

/// Appends a varint.
pub fn put_varint(bytes: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        bytes.put_u8(low_byte(value) | 0x80);
        value >>= 7;
    }
    bytes.put_u8(low_byte(value));
}

fn low_byte(value: u64) -> u8 {
    value.to_le_bytes()[0]
}
