//! The wire format of protobuf, as far as items need it: tags and varints.

use bytes::BufMut;

/// The tag of field 1, length-delimited, with which every record starts.
pub(crate) const RECORD_TAG: u8 = 0x0a;
/// The tags of the fields of `Value`.
pub(crate) const NULL_TAG: u8 = 0x08;
pub(crate) const NUMBER_TAG: u8 = 0x11;
pub(crate) const STRING_TAG: u8 = 0x1a;
pub(crate) const BOOL_TAG: u8 = 0x20;
pub(crate) const STRUCT_TAG: u8 = 0x2a;
pub(crate) const LIST_TAG: u8 = 0x32;
/// The tags of the fields of an entry of `Struct.fields`.
pub(crate) const KEY_TAG: u8 = 0x0a;
pub(crate) const ENTRY_VALUE_TAG: u8 = 0x12;
/// A varint of a 64-bit number has at most this many bytes.
pub(crate) const MAX_VARINT_BYTES: usize = 10;

/// Reads a varint; returns it and the number of its bytes.
pub(crate) fn read_varint(bytes: &[u8]) -> Option<(u64, usize)> {
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
pub(crate) fn put_varint(bytes: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        bytes.put_u8(low_byte(value) | 0x80);
        value >>= 7;
    }
    bytes.put_u8(low_byte(value));
}

fn low_byte(value: u64) -> u8 {
    value.to_le_bytes()[0]
}
