//! The bytes of a request that the handler has not taken yet: copied out of their frames, and passed on in whole
//! messages.
//!
//! A frame of HTTP/2 that waits takes some 300 bytes whatever it carries, and keeps what was read with it. Here bytes lie
//! end to end, and take what they are and at most as much again.
//!
//! A message is passed on when it is complete: the library allocates memory for a message as soon as it reads the
//! announced length, so it must not read that before the bytes have come.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// The flag and the length before each message.
pub(super) const PREFIX_BYTES: usize = 5;
/// Bounds of the pieces of memory, but for a frame that is larger.
const SMALLEST_CHUNK_BYTES: usize = 512;
const LARGEST_CHUNK_BYTES: usize = 64 << 10;

/// A sequence of messages, of which the last may not be complete.
#[derive(Debug)]
pub(super) struct MessageBuffer {
    max_message_bytes: u32,
    /// Full, in order.
    chunks: VecDeque<Bytes>,
    /// The last chunk, with spare capacity.
    tail: BytesMut,
    len: usize,
    /// How many of the bytes belong to messages that are complete.
    complete: usize,
    /// How many belong to the one that is not.
    incomplete: usize,
    pushed: Cursor,
    popped: Cursor,
}

/// A message is longer than it may be, it says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong(pub(super) u32);

impl MessageBuffer {
    pub(super) fn new(max_message_bytes: u32) -> Self {
        Self {
            max_message_bytes,
            chunks: VecDeque::new(),
            tail: BytesMut::new(),
            len: 0,
            complete: 0,
            incomplete: 0,
            pushed: Cursor::default(),
            popped: Cursor::default(),
        }
    }

    /// Returns how long a message may be.
    pub(super) fn max_message_bytes(&self) -> u32 {
        self.max_message_bytes
    }

    /// Returns how many bytes there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there is a message to pass on, or the rest of one.
    pub(super) fn has_message(&self) -> bool {
        self.complete > 0
    }

    /// Returns whether the last message is incomplete.
    pub(super) fn has_part(&self) -> bool {
        self.incomplete > 0
    }

    /// Returns whether a message has been passed on in part.
    pub(super) fn is_handing_on(&self) -> bool {
        self.popped != Cursor::default()
    }

    /// Adds what has come.
    pub(super) fn push(&mut self, data: &[u8]) -> Result<(), TooLong> {
        let mut rest = data;
        while !rest.is_empty() {
            let step = self.pushed.advance(rest);
            if let Some(announced) = step.announced.filter(|announced| *announced > self.max_message_bytes) {
                return Err(TooLong(announced));
            }
            self.incomplete += step.len;
            if step.is_end {
                self.complete += std::mem::take(&mut self.incomplete);
            }
            rest = &rest[step.len..];
        }
        self.store(data);
        Ok(())
    }

    fn store(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let room = self.tail.capacity() - self.tail.len();
            if room == 0 {
                let full = std::mem::take(&mut self.tail);
                if !full.is_empty() {
                    self.chunks.push_back(full.freeze());
                }
                let size = self.len.clamp(SMALLEST_CHUNK_BYTES, LARGEST_CHUNK_BYTES);
                self.tail = BytesMut::with_capacity(size.max(data.len()));
                continue;
            }
            let (now, rest) = data.split_at(room.min(data.len()));
            self.tail.extend_from_slice(now);
            self.len += now.len();
            data = rest;
        }
    }

    /// Takes the next message, or a part of one whose end has come too.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        if self.complete == 0 {
            return None;
        }
        let front = self.chunks.front().map_or(&self.tail[..], |chunk| &chunk[..]);
        let mut len = 0;
        // No more than one message, so that what is kept of it keeps none of the others.
        loop {
            let step = self.popped.advance(&front[len..]);
            len += step.len;
            if step.is_end || len == front.len() {
                break;
            }
        }
        let popped = match self.chunks.front_mut() {
            Some(chunk) if chunk.len() == len => self.chunks.pop_front()?,
            Some(chunk) => chunk.split_to(len),
            None => self.tail.split_to(len).freeze(),
        };
        self.complete -= len;
        self.len -= len;
        if self.len == 0 {
            self.tail = BytesMut::new();
        }
        Some(popped)
    }

    /// Forgets all that there is.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.max_message_bytes);
    }
}

/// A position in the sequence of messages.
#[derive(Debug, Default, PartialEq, Eq)]
struct Cursor {
    prefix: [u8; PREFIX_BYTES],
    /// How much of the prefix is behind.
    known: usize,
    /// How much of the message is still to come, once the prefix is known.
    remaining: usize,
}

/// A step of a cursor.
struct Step {
    len: usize,
    /// The length of the message, if its prefix ends with this step.
    announced: Option<u32>,
    /// A message ends with this step.
    is_end: bool,
}

impl Cursor {
    /// Walks to the end of a prefix, of a message or of the data, whichever comes first.
    fn advance(&mut self, data: &[u8]) -> Step {
        let is_in_prefix = self.known < PREFIX_BYTES;
        let (len, announced) = if is_in_prefix {
            let len = (PREFIX_BYTES - self.known).min(data.len());
            self.prefix[self.known..self.known + len].copy_from_slice(&data[..len]);
            self.known += len;
            let [_, a, b, c, d] = self.prefix;
            let announced = (self.known == PREFIX_BYTES).then(|| u32::from_be_bytes([a, b, c, d]));
            self.remaining = announced.map_or(0, |announced| announced as usize);
            (len, announced)
        } else {
            let len = self.remaining.min(data.len());
            self.remaining -= len;
            (len, None)
        };
        let is_end = self.known == PREFIX_BYTES && self.remaining == 0;
        if is_end {
            *self = Self::default();
        }
        Step { len, announced, is_end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: usize) -> Vec<u8> {
        let mut message = vec![0];
        message.extend(u32::try_from(length).unwrap().to_be_bytes());
        message.extend((0..length).map(|index| u8::try_from(index % 251).unwrap()));
        message
    }

    /// Returns what the buffer takes.
    fn memory(buffer: &MessageBuffer) -> usize {
        buffer.chunks.iter().map(Bytes::len).sum::<usize>() + buffer.tail.capacity()
    }

    #[test]
    fn messages_come_out_one_by_one_however_they_are_cut() {
        let messages: Vec<_> = [0, 10, 3000, 0, 1, 200_000].map(message).into();
        let sent = messages.concat();
        for piece_size in [1, 2, 3, 4, 5, 6, 7, 100, 511, 4096, 70_000, sent.len()] {
            let mut buffer = MessageBuffer::new(200_000);
            let (mut received, mut parts) = (Vec::new(), Vec::new());
            for piece in sent.chunks(piece_size) {
                buffer.push(piece).unwrap();
                while let Some(part) = buffer.pop() {
                    parts.extend(part);
                    if !buffer.is_handing_on() {
                        received.push(std::mem::take(&mut parts));
                    }
                }
            }
            assert!(received == messages, "in pieces of {piece_size}");
            assert_eq!((buffer.len(), memory(&buffer)), (0, 0));
        }
    }

    #[test]
    fn a_message_is_handed_on_when_its_last_byte_has_come() {
        let mut buffer = MessageBuffer::new(100_000);
        let sent = message(100_000);
        for piece in sent[..sent.len() - 1].chunks(16 << 10) {
            buffer.push(piece).unwrap();
            assert_eq!(buffer.pop(), None);
            assert!(buffer.has_part() && !buffer.has_message());
        }
        buffer.push(&sent[sent.len() - 1..]).unwrap();
        assert!(buffer.has_message() && !buffer.has_part());
        let parts: Vec<_> = std::iter::from_fn(|| buffer.pop()).collect();
        assert!(parts.concat() == sent);
    }

    #[test]
    fn a_message_over_the_limit_is_refused_at_its_prefix() {
        let mut buffer = MessageBuffer::new(10);
        buffer.push(&message(10)).unwrap();
        buffer.push(&message(11)[..PREFIX_BYTES - 1]).unwrap();
        assert_eq!(buffer.push(&message(11)[PREFIX_BYTES - 1..PREFIX_BYTES]), Err(TooLong(11)));
    }

    #[test]
    fn what_lies_here_takes_no_more_than_twice_its_length() {
        let mut buffer = MessageBuffer::new(1 << 20);
        for count in 1..20_000 {
            buffer.push(&message(13)).unwrap();
            assert!(memory(&buffer) <= 2 * buffer.len() + SMALLEST_CHUNK_BYTES, "{count}: {buffer:?}");
        }
        while buffer.pop().is_some() {
            assert!(memory(&buffer) <= buffer.len() + 2 * LARGEST_CHUNK_BYTES);
        }
    }
}
