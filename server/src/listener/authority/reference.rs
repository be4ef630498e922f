//! A decoder of what clients send, made apart from the editor: what it says of a connection before and after the editor
//! was there is held against each other.
//!
//! Of the static table it only knows `:authority`; other names of it are made up.

use std::collections::VecDeque;
use std::sync::LazyLock;

use super::{CONTINUATION, END_HEADERS, Editor, FRAME_HEADER_BYTES, HEADERS, PADDED, PREFACE_BYTES, PRIORITY};

const STATIC_ENTRIES: usize = 61;
const ENTRY_OVERHEAD: usize = 32;
const DEFAULT_TABLE_BYTES: usize = 4096;
const MAX_CODE_LENGTH: u8 = 30;

/// The lengths of the Huffman codes of all bytes. The codes are canonical: they follow from these.
#[rustfmt::skip]
const CODE_LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28,
    28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7,
    8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19,
    13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13,
    28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21,
    22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23,
    22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25,
    25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

/// Edits a connection in pieces of these lengths, one after the other and over again, or as a whole.
pub(super) fn edit(connection: &[u8], pieces: &[usize]) -> Vec<u8> {
    let (mut editor, mut edited) = (Editor::new(), connection.to_vec());
    let (mut rest, mut lengths) = (&mut edited[..], pieces.iter().cycle());
    while !rest.is_empty() {
        let length = lengths.next().map_or(rest.len(), |length| (*length).clamp(1, rest.len()));
        let (piece, others) = std::mem::take(&mut rest).split_at_mut(length);
        editor.edit(piece);
        rest = others;
    }
    edited
}

/// Checks that nothing changes in a connection but authorities, and these in no length, whatever the pieces. Returns what
/// it is edited to.
pub(crate) fn check(connection: &[u8], pieces: &[usize]) -> Vec<u8> {
    let edited = edit(connection, &[]);
    assert_eq!(edit(connection, pieces), edited, "pieces of {pieces:?}");
    let (before, after) = (decode(connection), decode(&edited));
    assert_eq!(before.len(), after.len());
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before.0, after.0, "the name");
        assert_eq!(before.1.len(), after.1.len(), "{before:?} {after:?}");
        assert!(before.0 == b":authority" || before.1 == after.1, "{before:?} {after:?}");
    }
    edited
}

/// A name and a value.
pub(super) type Field = (Vec<u8>, Vec<u8>);

/// Returns the fields in what a client sent, up to where it is malformed.
pub(super) fn decode(connection: &[u8]) -> Vec<Field> {
    let (mut fields, mut table, mut block) = (Vec::new(), Table::default(), Vec::new());
    let mut rest = connection.get(PREFACE_BYTES as usize..).unwrap_or_default();
    while let Some((header, others)) = rest.split_at_checked(FRAME_HEADER_BYTES) {
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let Some((payload, others)) = others.split_at_checked(length) else { break };
        rest = others;
        let has = |flag: u8| header[4] & flag != 0;
        let fragment = match header[3] {
            HEADERS => {
                let padding = if has(PADDED) { payload.first().map(|padding| usize::from(*padding)) } else { Some(0) };
                let lead = usize::from(has(PADDED)) + if has(PRIORITY) { 5 } else { 0 };
                padding.and_then(|padding| payload.get(lead..length.checked_sub(padding)?))
            }
            CONTINUATION => Some(payload),
            _ => continue,
        };
        let Some(fragment) = fragment else { break };
        block.extend_from_slice(fragment);
        if has(END_HEADERS) && table.decode_block(&std::mem::take(&mut block), &mut fields).is_none() {
            break;
        }
    }
    fields
}

/// HPACK's dynamic table.
#[derive(Debug)]
pub(super) struct Table {
    entries: VecDeque<Field>,
    max_bytes: usize,
}

impl Default for Table {
    fn default() -> Self {
        Self { entries: VecDeque::new(), max_bytes: DEFAULT_TABLE_BYTES }
    }
}

impl Table {
    /// Returns the names and values that indexes beyond the static table stand for.
    pub(super) fn entries(&self) -> impl Iterator<Item = (usize, &Field)> {
        self.entries.iter().enumerate().map(|(position, entry)| (position + STATIC_ENTRIES + 1, entry))
    }

    pub(super) fn add(&mut self, field: Field) {
        self.entries.push_front(field);
        self.evict();
    }

    pub(super) fn resize(&mut self, max_bytes: usize) {
        self.max_bytes = max_bytes;
        self.evict();
    }

    fn evict(&mut self) {
        let size = |(name, value): &Field| name.len() + value.len() + ENTRY_OVERHEAD;
        while self.entries.iter().map(size).sum::<usize>() > self.max_bytes {
            self.entries.pop_back();
        }
    }

    fn get(&self, index: usize) -> Option<Field> {
        match index {
            0 => None,
            1 => Some((b":authority".to_vec(), Vec::new())),
            2..=STATIC_ENTRIES => Some((format!("static-{index}").into_bytes(), Vec::new())),
            _ => self.entries.get(index - STATIC_ENTRIES - 1).cloned(),
        }
    }

    fn decode_block(&mut self, mut block: &[u8], fields: &mut Vec<Field>) -> Option<()> {
        while let Some(first) = block.first() {
            if first & 0x80 != 0 {
                fields.push(self.get(integer(&mut block, 7)?)?);
            } else if first & 0xe0 == 0x20 {
                let max_bytes = integer(&mut block, 5)?;
                self.resize(max_bytes);
            } else {
                let is_kept = first & 0x40 != 0;
                let name = match integer(&mut block, if is_kept { 6 } else { 4 })? {
                    0 => string(&mut block)?,
                    index => self.get(index)?.0,
                };
                let field = (name, string(&mut block)?);
                if is_kept {
                    self.add(field.clone());
                }
                fields.push(field);
            }
        }
        Some(())
    }
}

fn integer(bytes: &mut &[u8], prefix_bits: u32) -> Option<usize> {
    let mut next = || bytes.split_off_first().copied();
    let mask = (1 << prefix_bits) - 1;
    let mut value = usize::from(next()? & mask);
    if value == usize::from(mask) {
        for shift in (0..28).step_by(7) {
            let byte = next()?;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        return None;
    }
    Some(value)
}

fn string(bytes: &mut &[u8]) -> Option<Vec<u8>> {
    let is_huffman = bytes.first()? & 0x80 != 0;
    let length = integer(bytes, 7)?;
    let text = bytes.split_off(..length)?;
    if is_huffman { decode_huffman(text) } else { Some(text.to_vec()) }
}

/// The code of each byte, and its length.
static CODES: LazyLock<Vec<(u32, u8)>> = LazyLock::new(|| {
    let mut symbols: Vec<u8> = (0..=255).collect();
    symbols.sort_by_key(|symbol| CODE_LENGTHS[usize::from(*symbol)]);
    let (mut codes, mut next, mut length) = (vec![(0, 0); 256], 0, 0);
    for symbol in symbols {
        let own_length = CODE_LENGTHS[usize::from(symbol)];
        next <<= own_length - length;
        length = own_length;
        codes[usize::from(symbol)] = (next, length);
        next += 1;
    }
    codes
});

fn bits_of(number: u32, length: u8) -> impl Iterator<Item = bool> {
    (0..length).rev().map(move |bit| number >> bit & 1 == 1)
}

fn decode_huffman(text: &[u8]) -> Option<Vec<u8>> {
    /// The first code of each length, and the bytes whose codes have that length, in the order of their codes.
    static SYMBOLS: LazyLock<Vec<(u32, Vec<u8>)>> = LazyLock::new(|| {
        let mut lengths = vec![(u32::MAX, Vec::new()); usize::from(MAX_CODE_LENGTH) + 1];
        for ((code, length), symbol) in CODES.iter().zip(0..=255) {
            let (first, symbols) = &mut lengths[usize::from(*length)];
            *first = (*first).min(*code);
            symbols.push(symbol);
        }
        lengths
    });
    let (mut decoded, mut code, mut length) = (Vec::new(), 0, 0);
    for bit in text.iter().flat_map(|byte| bits_of((*byte).into(), 8)) {
        (code, length) = (code << 1 | u32::from(bit), length + 1);
        let (first, symbols) = &SYMBOLS[length];
        if let Some(symbol) = code.checked_sub(*first).and_then(|position| symbols.get(position as usize)) {
            decoded.push(*symbol);
            (code, length) = (0, 0);
        } else if length == usize::from(MAX_CODE_LENGTH) {
            return None;
        }
    }
    Some(decoded)
}

#[cfg(test)]
pub(super) fn encode_huffman(text: &[u8]) -> Vec<u8> {
    let mut bits: Vec<bool> = text
        .iter()
        .flat_map(|symbol| {
            let (code, length) = CODES[usize::from(*symbol)];
            bits_of(code, length)
        })
        .collect();
    bits.resize(bits.len().next_multiple_of(8), true);
    bits.chunks(8).map(|bits| bits.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit))).collect()
}
