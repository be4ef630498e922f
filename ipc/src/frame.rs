//! Encodes and decodes frames, without I/O.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{
    DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, encoded_len_varint, key_len,
    skip_field,
};

use crate::proto::{Results, Run, ServerFrame, SetCommon, WorkerFrame, server_frame, worker_frame};

/// The size of the length before every frame.
const LENGTH_BYTES: usize = 4;
/// The field number of `items` in Run and Results, and of `value` in `SetCommon`: the highest, so that it comes last.
const ITEMS_FIELD: u32 = 15;
/// The field number of `run` in `ServerFrame`.
const RUN_FIELD: u32 = 2;
/// The field number of `set_common` in `ServerFrame`.
const SET_COMMON_FIELD: u32 = 6;
/// The field number of `results` in `WorkerFrame`.
const RESULTS_FIELD: u32 = 4;
/// The buffer space for the next read, reserved when less than [`MIN_ROOM`] is left. A longer frame gets a buffer of
/// its own.
const ROOM: usize = 64 << 10;
const MIN_ROOM: usize = 8 << 10;
/// Results that are slices of their frame may keep the rest of it alive, up to this fraction of their length.
const MAX_WASTE_DIVISOR: usize = 16;
/// The most fields in a frame from a worker: more than a chunk has items. A failure or a function takes as little as
/// two bytes in a frame, but at least 80 when decoded.
const MAX_FIELDS: usize = 1 << 20;

/// Why bytes are not a valid frame. After any of these, the connection cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The announced length is over the limit.
    #[error("a frame of {length} bytes is over the limit of {limit}")]
    TooLong {
        /// The announced length.
        length: u32,
        /// The limit.
        limit: u32,
    },
    /// The decoded frame would take many times its length.
    #[error("a frame of more than {limit} fields")]
    TooManyFields {
        /// The limit.
        limit: usize,
    },
    /// The bytes are not a protobuf message of this type.
    #[error("malformed frame: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// A message without a frame, or with an unknown one.
    #[error("empty or unknown frame")]
    Unknown,
}

/// Splits a stream of bytes into frames.
///
/// Read into [`FrameDecoder::buffer`], then call [`FrameDecoder::next_frame`] until it has none.
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: BytesMut,
    max_frame_bytes: u32,
}

impl FrameDecoder {
    /// Returns a decoder that refuses frames longer than this.
    pub fn new(max_frame_bytes: u32) -> Self {
        Self { buffer: BytesMut::new(), max_frame_bytes }
    }

    /// Changes the limit for frames that have not been returned yet.
    pub fn set_max_frame_bytes(&mut self, max_frame_bytes: u32) {
        self.max_frame_bytes = max_frame_bytes;
    }

    /// Returns the buffer to append received bytes to; it always has spare capacity.
    pub fn buffer(&mut self) -> &mut BytesMut {
        if self.buffer.capacity() - self.buffer.len() < MIN_ROOM && !self.holds_room_for_frame() {
            self.buffer.reserve(ROOM);
        }
        &mut self.buffer
    }

    /// Returns the next complete frame, without its length; `None` if more bytes are needed.
    ///
    /// A frame keeps no more than its own length in memory: a short one is copied out of the buffer, and a long one has
    /// a buffer of its own.
    ///
    /// # Errors
    ///
    /// If the next frame is over the limit, as soon as its length is known; every later call fails too.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(length) = self.next_length() else { return Ok(None) };
        if length > self.max_frame_bytes {
            return Err(FrameError::TooLong { length, limit: self.max_frame_bytes });
        }
        let total = LENGTH_BYTES + length as usize;
        if self.buffer.len() < total {
            if total > ROOM && self.buffer.capacity() != total {
                // Exactly its size: the next frame must not share it.
                let mut own = BytesMut::with_capacity(total);
                own.extend_from_slice(&self.buffer);
                self.buffer = own;
            }
            return Ok(None);
        }
        if total > ROOM && self.buffer.len() == total && self.buffer.capacity() == total {
            let mut frame = std::mem::take(&mut self.buffer);
            frame.advance(LENGTH_BYTES);
            return Ok(Some(frame.freeze()));
        }
        let frame = Bytes::copy_from_slice(&self.buffer[LENGTH_BYTES..total]);
        self.buffer.advance(total);
        Ok(Some(frame))
    }

    /// Returns whether the buffer has part of a frame. Valid after [`FrameDecoder::next_frame`] returned `None`.
    pub fn has_partial_frame(&self) -> bool {
        !self.buffer.is_empty()
    }

    fn next_length(&self) -> Option<u32> {
        self.buffer.first_chunk::<LENGTH_BYTES>().map(|length| u32::from_be_bytes(*length))
    }

    /// Returns whether the rest of the partial frame fits the spare capacity, which must not be reallocated then.
    fn holds_room_for_frame(&self) -> bool {
        self.next_length().is_some_and(|length| {
            let total = LENGTH_BYTES + length as usize;
            self.buffer.len() < total && total <= self.buffer.capacity()
        })
    }
}

/// Decodes a frame from the server. User data is a slice of `frame`.
///
/// # Errors
///
/// If it is malformed, empty or of an unknown kind.
pub fn decode_server_frame(frame: Bytes) -> Result<server_frame::Frame, FrameError> {
    ServerFrame::decode(frame)?.frame.ok_or(FrameError::Unknown)
}

/// Decodes a frame from a worker. Results are a slice of `frame`, unless that would keep much more memory alive than
/// their length. The decoded size of the rest is limited.
///
/// # Errors
///
/// If it is malformed, empty, of an unknown kind, or has too many fields.
pub fn decode_worker_frame(frame: Bytes) -> Result<worker_frame::Frame, FrameError> {
    if count_fields(&frame) > MAX_FIELDS {
        return Err(FrameError::TooManyFields { limit: MAX_FIELDS });
    }
    let length = frame.len();
    let mut decoded = WorkerFrame::decode(frame)?.frame.ok_or(FrameError::Unknown)?;
    if let worker_frame::Frame::Results(results) = &mut decoded
        && length - results.items.len() > results.items.len() / MAX_WASTE_DIVISOR
    {
        results.items = Bytes::copy_from_slice(&results.items);
    }
    Ok(decoded)
}

/// Encodes a frame for a worker, its length included. The caller keeps it within `max_frame_bytes`.
///
/// # Panics
///
/// If it is longer than 4 GiB.
pub fn encode_server_frame(frame: server_frame::Frame) -> Bytes {
    encode_with_length(&ServerFrame { frame: Some(frame) })
}

/// Encodes a frame for the server, its length included. The caller keeps it within `max_frame_bytes`.
///
/// # Panics
///
/// If it is longer than 4 GiB.
pub fn encode_worker_frame(frame: worker_frame::Frame) -> Bytes {
    encode_with_length(&WorkerFrame { frame: Some(frame) })
}

/// Encodes a Run frame, its length included, up to its items, which the caller writes after it: `items_len` bytes of
/// them. `texts` are `function`, `content_type`, `traceparent` and `tracestate`, borrowed; these and the items must be empty
/// in `run`.
///
/// # Panics
///
/// If the whole frame is longer than 4 GiB.
pub fn encode_run_header(run: &Run, texts: [&str; 4], items_len: usize) -> Bytes {
    debug_assert!(run.items.is_empty() && run.function.is_empty(), "the texts and the items follow the numbers");
    let [function, content_type, traceparent, tracestate] = texts;
    let texts = [(2, function), (4, content_type), (11, traceparent), (12, tracestate)];
    encode_header(RUN_FIELD, run, &texts, items_len)
}

/// Encodes a `SetCommon` frame, its length included, up to its value, which the caller writes after it: `value_len`
/// bytes of it. `set.value` must be empty.
///
/// # Panics
///
/// If the whole frame is longer than 4 GiB.
pub fn encode_set_common_header(set: &SetCommon, value_len: usize) -> Bytes {
    debug_assert!(set.value.is_empty(), "the value follows the header");
    encode_header(SET_COMMON_FIELD, set, &[], value_len)
}

/// Encodes a Results frame, its length included, up to its items, which the caller writes after it: `items_len` bytes
/// of them. `results.items` must be empty.
///
/// # Panics
///
/// If the whole frame is longer than 4 GiB.
pub fn encode_results_header(results: &Results, items_len: usize) -> Bytes {
    debug_assert!(results.items.is_empty(), "the items follow the header");
    encode_header(RESULTS_FIELD, results, &[], items_len)
}

/// Counts the fields of a frame and of the messages directly in it, up to the first malformed one or the limit.
fn count_fields(mut frame: &[u8]) -> usize {
    let mut count = 0;
    while let Some(mut content) = next_field(&mut frame) {
        count += 1;
        while count <= MAX_FIELDS && next_field(&mut content).is_some() {
            count += 1;
        }
    }
    count
}

/// Takes the next field of a message; returns its content, which is empty unless it is length-delimited. `None` at the
/// end or if it is malformed.
fn next_field<'a>(message: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (tag, wire_type) = decode_key(message).ok()?;
    if wire_type == WireType::LengthDelimited {
        let length = usize::try_from(decode_varint(message).ok()?).ok()?;
        let (content, rest) = message.split_at_checked(length)?;
        *message = rest;
        return Some(content);
    }
    skip_field(wire_type, tag, message, DecodeContext::default()).ok()?;
    Some(&[])
}

fn encode_with_length(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(LENGTH_BYTES + length);
    bytes.put_u32(frame_length(length));
    message.encode_raw(&mut bytes);
    bytes.freeze()
}

/// Encodes the fields of a message, texts that it lacks, and what stands before its items.
fn encode_header(frame_field: u32, message: &impl Message, texts: &[(u32, &str)], items_len: usize) -> Bytes {
    let field_len =
        |field, len: usize| if len == 0 { 0 } else { key_len(field) + encoded_len_varint(len as u64) + len };
    let texts_len: usize = texts.iter().map(|(field, text)| field_len(*field, text.len())).sum();
    let message_len = message.encoded_len() + texts_len + field_len(ITEMS_FIELD, items_len);
    let frame_len = key_len(frame_field) + encoded_len_varint(message_len as u64) + message_len;

    let mut bytes = BytesMut::with_capacity(LENGTH_BYTES + frame_len - items_len);
    bytes.put_u32(frame_length(frame_len));
    let begin = |field, len: usize, bytes: &mut BytesMut| {
        encode_key(field, WireType::LengthDelimited, bytes);
        encode_varint(len as u64, bytes);
    };
    begin(frame_field, message_len, &mut bytes);
    message.encode_raw(&mut bytes);
    for (field, text) in texts.iter().filter(|(_, text)| !text.is_empty()) {
        begin(*field, text.len(), &mut bytes);
        bytes.put_slice(text.as_bytes());
    }
    if items_len > 0 {
        begin(ITEMS_FIELD, items_len, &mut bytes);
    }
    bytes.freeze()
}

fn frame_length(length: usize) -> u32 {
    u32::try_from(length).expect("the caller keeps frames within max_frame_bytes, a u32")
}
