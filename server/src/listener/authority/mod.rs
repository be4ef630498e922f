//! Lets clients in that send the path of a Unix socket as `:authority`.
//!
//! grpcio sends `run%2Fprocpool.sock`, grpcurl and clients of grpc-go with a dialer of their own `/run/procpool.sock`.
//! Neither is an authority by RFC 3986, so that h2 refuses the call with `PROTOCOL_ERROR`, and has no option for it. So
//! what is read from a Unix socket is edited before h2 sees it: each byte of an authority, from the first `/` or `%` on,
//! that an authority may not have is replaced by one that it may.
//!
//! **No length ever changes**, neither on the wire nor of what a Huffman code decodes to. So lengths of frames, sizes of
//! HPACK's dynamic table, evictions and later references by index stay right, and nothing of that has to be known here:
//! HPACK's fields are only walked. What cannot be parsed is left alone from there on; h2 judges it.
//!
//! Nothing may be decided by such an authority. Left to h2, which refuses them: names that are a reference to the dynamic
//! table (the static one has `:authority`), and in Huffman codes the few characters for which there is no substitute of
//! the same length, such as `#` and what is not ASCII.

mod hpack;

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use self::hpack::{Block, Malformed};

/// The length of `PRI * HTTP/2.0 …`.
const PREFACE_BYTES: u32 = 24;
const FRAME_HEADER_BYTES: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
const PRIORITY_BYTES: u32 = 5;

/// Edits the authorities in what a client sends, in pieces of any length.
#[derive(Debug)]
pub(super) struct Editor {
    position: Position,
    frame: FrameHeader,
    block: Block,
}

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    /// So many bytes are of no interest.
    Skipped(u32),
    FrameHeader {
        filled: usize,
    },
    /// What stands before the fields, of which so much is left. How much padding follows the fields says its first byte,
    /// if there is any.
    Lead {
        left: u32,
        padding: Option<u32>,
    },
    /// Fields, of which so much is left, and then padding.
    Fields {
        left: u32,
        padding: u32,
    },
    /// What came was malformed.
    Lost,
}

#[derive(Debug, Default, Clone, Copy)]
struct FrameHeader([u8; FRAME_HEADER_BYTES]);

impl FrameHeader {
    fn length(self) -> u32 {
        u32::from_be_bytes([0, self.0[0], self.0[1], self.0[2]])
    }

    fn kind(self) -> u8 {
        self.0[3]
    }

    fn has(self, flag: u8) -> bool {
        self.0[4] & flag != 0
    }

    /// Returns the length of what stands before the fields of a frame.
    fn lead(self) -> u32 {
        let has = |flag| self.kind() == HEADERS && self.has(flag);
        u32::from(has(PADDED)) + if has(PRIORITY) { PRIORITY_BYTES } else { 0 }
    }
}

impl Editor {
    pub(super) fn new() -> Self {
        Self { position: Position::Skipped(PREFACE_BYTES), frame: FrameHeader::default(), block: Block::default() }
    }

    /// Edits what came next.
    pub(super) fn edit(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() && self.position != Position::Lost {
            let (num_used, next) = self.step(bytes).unwrap_or((0, Position::Lost));
            self.position = next;
            bytes = &mut bytes[num_used..];
        }
    }

    /// Looks at the first of some bytes; returns at how many, and what follows them.
    fn step(&mut self, bytes: &mut [u8]) -> Result<(usize, Position), Malformed> {
        let at_most = |left: u32| left.min(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        match self.position {
            Position::Skipped(left) => {
                let num_used = at_most(left);
                Ok((num_used as usize, skip(left - num_used)))
            }
            Position::FrameHeader { filled } => {
                self.frame.0[filled] = bytes[0];
                let filled = filled + 1;
                let is_whole = filled == FRAME_HEADER_BYTES;
                Ok((1, if is_whole { self.begin_frame()? } else { Position::FrameHeader { filled } }))
            }
            Position::Lead { left, padding } => {
                let padding = padding.unwrap_or_else(|| bytes[0].into());
                let left = left - 1;
                Ok((
                    1,
                    if left == 0 {
                        self.begin_fields(padding)?
                    } else {
                        Position::Lead { left, padding: Some(padding) }
                    },
                ))
            }
            Position::Fields { left, padding } => {
                let num_used = at_most(left);
                for byte in &mut bytes[..num_used as usize] {
                    self.block.edit(byte)?;
                }
                Ok((num_used as usize, self.go_on_with_fields(left - num_used, padding)?))
            }
            Position::Lost => Err(Malformed),
        }
    }

    fn begin_frame(&mut self) -> Result<Position, Malformed> {
        if !matches!(self.frame.kind(), HEADERS | CONTINUATION) {
            return Ok(skip(self.frame.length()));
        }
        let padding = if self.frame.kind() == HEADERS && self.frame.has(PADDED) { None } else { Some(0) };
        match (self.frame.lead(), padding) {
            (0, _) => self.begin_fields(0),
            (left, padding) => Ok(Position::Lead { left, padding }),
        }
    }

    fn begin_fields(&mut self, padding: u32) -> Result<Position, Malformed> {
        let left = self.frame.length().checked_sub(self.frame.lead() + padding).ok_or(Malformed)?;
        self.go_on_with_fields(left, padding)
    }

    fn go_on_with_fields(&self, left: u32, padding: u32) -> Result<Position, Malformed> {
        if left > 0 {
            return Ok(Position::Fields { left, padding });
        }
        if self.frame.has(END_HEADERS) && !self.block.is_between_fields() {
            return Err(Malformed);
        }
        Ok(skip(padding))
    }
}

/// Returns the position before bytes of no interest that are followed by a frame.
fn skip(left: u32) -> Position {
    if left == 0 { Position::FrameHeader { filled: 0 } } else { Position::Skipped(left) }
}
