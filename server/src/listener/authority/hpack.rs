//! HPACK (RFC 7541), as much of it as it takes to find authorities: fields, integers, and the lengths of Huffman codes.

/// The index of `:authority` in the static table.
const AUTHORITY: u32 = 1;
const PLAIN_NAME: &[u8] = b":authority";
const HUFFMAN_NAME: &[u8] = &[0xb8, 0x3b, 0x53, 0x39, 0xec, 0x32, 0x7d, 0x7f];
/// More than any index or length needs that h2 takes.
const MAX_INTEGER_SHIFT: u32 = 21;

/// What cannot be parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// A header block: fields, in pieces of any length.
#[derive(Debug, Default)]
pub(super) struct Block {
    at: At,
}

/// What the next byte is.
#[derive(Debug, Clone, Copy, Default)]
enum At {
    #[default]
    Field,
    /// The rest of an integer, of which so much is known.
    Integer {
        value: u32,
        shift: u32,
        of: Of,
    },
    /// The length of a string, with the bit that says how it is coded.
    Length(Part),
    Name {
        left: u32,
        /// What is left of the name that is looked for; `None`: it is another.
        rest: Option<&'static [u8]>,
    },
    Value {
        left: u32,
        text: Text,
    },
}

/// What an integer is of.
#[derive(Debug, Clone, Copy)]
enum Of {
    /// A field in the table, or a size of that: nothing follows.
    Whole,
    /// The name of a field, whose value follows.
    NameIndex,
    Length {
        part: Part,
        is_huffman: bool,
    },
}

#[derive(Debug, Clone, Copy)]
enum Part {
    Name,
    Value { is_authority: bool },
}

/// How a value is coded that is being walked.
#[derive(Debug, Clone, Copy)]
enum Text {
    /// It is no authority.
    Other,
    Plain {
        is_path: bool,
    },
    Huffman(Code),
}

impl Block {
    /// Tells whether the block may end here.
    pub(super) fn is_between_fields(&self) -> bool {
        matches!(self.at, At::Field)
    }

    /// Takes the next byte, and edits it if that is to be.
    pub(super) fn edit(&mut self, byte: &mut u8) -> Result<(), Malformed> {
        self.at = match self.at {
            At::Field => match *byte {
                indexed @ 0x80.. => integer(indexed, 0x7f, Of::Whole),
                with_indexing @ 0x40.. => integer(with_indexing, 0x3f, Of::NameIndex),
                size_update @ 0x20.. => integer(size_update, 0x1f, Of::Whole),
                without_indexing => integer(without_indexing, 0x0f, Of::NameIndex),
            },
            At::Integer { shift, .. } if shift > MAX_INTEGER_SHIFT => return Err(Malformed),
            At::Integer { value, shift, of } => {
                let value = value + (u32::from(*byte & 0x7f) << shift);
                if *byte & 0x80 == 0 { after(value, of) } else { At::Integer { value, shift: shift + 7, of } }
            }
            At::Length(part) => integer(*byte, 0x7f, Of::Length { part, is_huffman: *byte & 0x80 != 0 }),
            At::Name { left, rest } => {
                let rest = rest.and_then(|rest| rest.strip_prefix(&[*byte]));
                match left - 1 {
                    0 => At::Length(Part::Value { is_authority: rest == Some(&[]) }),
                    left => At::Name { left, rest },
                }
            }
            At::Value { left, mut text } => {
                text.edit(byte);
                if left == 1 { At::Field } else { At::Value { left: left - 1, text } }
            }
        };
        Ok(())
    }
}

/// Begins an integer, whose first bits are these of a byte.
fn integer(byte: u8, mask: u8, of: Of) -> At {
    let value = byte & mask;
    if value < mask { after(value.into(), of) } else { At::Integer { value: value.into(), shift: 0, of } }
}

/// Returns what follows an integer.
fn after(value: u32, of: Of) -> At {
    match (of, value) {
        (Of::Whole, _) | (Of::Length { part: Part::Value { .. }, .. }, 0) => At::Field,
        (Of::NameIndex, 0) => At::Length(Part::Name),
        (Of::NameIndex, index) => At::Length(Part::Value { is_authority: index == AUTHORITY }),
        (Of::Length { part: Part::Name, .. }, 0) => At::Length(Part::Value { is_authority: false }),
        (Of::Length { part: Part::Name, is_huffman }, left) => {
            At::Name { left, rest: Some(if is_huffman { HUFFMAN_NAME } else { PLAIN_NAME }) }
        }
        (Of::Length { part: Part::Value { is_authority }, is_huffman }, left) => {
            let text = match (is_authority, is_huffman) {
                (false, _) => Text::Other,
                (true, false) => Text::Plain { is_path: false },
                (true, true) => Text::Huffman(Code::default()),
            };
            At::Value { left, text }
        }
    }
}

impl Text {
    fn edit(&mut self, byte: &mut u8) {
        match self {
            Self::Other => {}
            Self::Plain { is_path } => {
                *is_path |= matches!(byte, b'/' | b'%');
                if *is_path && !(byte.is_ascii_alphanumeric() || b"-._~".contains(byte)) {
                    *byte = b'-';
                }
            }
            Self::Huffman(code) => {
                for mask in (0..8).rev().map(|bit| 1 << bit) {
                    if code.next_bit(*byte & mask != 0) {
                        *byte |= mask;
                    }
                }
            }
        }
    }
}

/// How many Huffman codes there are of each length, from one bit on. They are canonical: shorter codes come first, so
/// that these numbers tell where each code ends.
const CODES_OF_LENGTH: [u32; 30] =
    [0, 0, 0, 0, 10, 26, 32, 6, 0, 5, 3, 2, 6, 2, 3, 0, 0, 0, 3, 8, 13, 26, 29, 12, 4, 15, 19, 29, 0, 4];

/// The begin of a Huffman code.
#[derive(Debug, Clone, Copy, Default)]
struct Code {
    bits: u32,
    length: usize,
    /// The first code of this length.
    first: u32,
    /// The authority is a path.
    is_path: bool,
}

impl Code {
    /// Takes the next bit; tells whether it is to be set. Each substitute is as long as what it stands for.
    fn next_bit(&mut self, bit: bool) -> bool {
        let is_flipped = !bit
            && match (self.length, self.bits) {
                // A space or `%`, as which of the two the next bit says, becomes `-` or `.`; `/` becomes `3`.
                (4, 0b0101) | (5, 0b01100) => true,
                // `:` becomes `B`, unless it stands before a port.
                (6, 0b101_110) => self.is_path,
                _ => false,
            };
        self.is_path |= is_flipped;
        self.bits = self.bits << 1 | u32::from(bit || is_flipped);
        self.first <<= 1;
        let num_codes = CODES_OF_LENGTH.get(self.length).copied().unwrap_or(u32::MAX);
        self.length += 1;
        if self.bits.wrapping_sub(self.first) < num_codes {
            *self = Self { is_path: self.is_path, ..Self::default() };
        } else {
            self.first += num_codes;
        }
        is_flipped
    }
}
