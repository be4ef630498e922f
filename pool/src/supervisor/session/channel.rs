//! The server's end of the socket: frames in and out, without ever waiting for one to write the other.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf as _, Bytes};
use procpool_ipc::{FrameDecoder, proto};
use tokio::net::UnixStream;

/// How many slices one write takes.
const MAX_SLICES: usize = 64;
const LAST_READ_BYTES: usize = 16 << 10;

/// A socket to one worker.
#[derive(Debug)]
pub(super) struct Channel {
    stream: UnixStream,
    decoder: FrameDecoder,
    /// What is still to be written. Bounded by what the scheduler gives a worker at a time.
    outgoing: VecDeque<Bytes>,
    is_readable: bool,
    is_writable: bool,
}

impl Channel {
    /// Takes over a connected socket that does not block.
    pub(super) fn new(stream: UnixStream, max_frame_bytes: u32) -> Self {
        Self {
            stream,
            decoder: FrameDecoder::new(max_frame_bytes),
            outgoing: VecDeque::new(),
            is_readable: true,
            is_writable: true,
        }
    }

    /// Waits until [`Channel::read`] may have something; forever once the worker has closed its end.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again.
    pub(super) async fn readable(&self) {
        if !self.is_readable || self.stream.readable().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until [`Channel::write`] may get on; forever if there is nothing to write.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again.
    pub(super) async fn writable(&self) {
        if self.outgoing.is_empty() || !self.is_writable || self.stream.writable().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Returns whether the worker has closed its end, or a part of it.
    pub(super) fn is_closed(&self) -> bool {
        !self.is_readable || !self.is_writable
    }

    /// Reads once, without waiting. Returns the number of bytes; 0 if there is nothing now or any more.
    pub(super) fn read(&mut self) -> usize {
        if !self.is_readable {
            return 0;
        }
        loop {
            match self.stream.try_read_buf(self.decoder.buffer()) {
                Ok(0) => self.is_readable = false,
                Ok(length) => return length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // What the worker had written before it closed with our frames unread comes first.
                Err(_) => self.is_readable = false,
            }
            return 0;
        }
    }

    /// Reads once what a dead worker has written, as [`Channel::read`] does; the runtime need not have noticed yet that
    /// there is something.
    pub(super) fn read_last(&mut self) -> usize {
        if !self.is_readable {
            return 0;
        }
        let mut bytes = [0; LAST_READ_BYTES];
        loop {
            match rustix::io::read(&self.stream, &mut bytes) {
                Ok(length) => {
                    self.decoder.buffer().extend_from_slice(&bytes[..length]);
                    return length;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return 0,
            }
        }
    }

    /// Returns the next frame of what was read, if it is whole.
    ///
    /// # Errors
    ///
    /// What is wrong with it, as a fragment of a sentence about the worker.
    pub(super) fn next_frame(&mut self) -> Result<Option<proto::worker_frame::Frame>, String> {
        let frame =
            self.decoder.next_frame().and_then(|frame| frame.map(procpool_ipc::decode_worker_frame).transpose());
        frame.map_err(|error| format!("sent what is no frame: {error}"))
    }

    /// Queues parts of a frame, and writes what the socket takes now.
    pub(super) fn send(&mut self, parts: impl IntoIterator<Item = Bytes>) {
        if self.is_writable {
            self.outgoing.extend(parts.into_iter().filter(|part| !part.is_empty()));
            self.write();
        }
    }

    /// Writes what the socket takes now. Returns whether that was anything.
    pub(super) fn write(&mut self) -> bool {
        let mut has_written = false;
        while !self.outgoing.is_empty() {
            let slices: Vec<IoSlice<'_>> =
                self.outgoing.iter().take(MAX_SLICES).map(|part| IoSlice::new(part)).collect();
            match self.stream.try_write_vectored(&slices) {
                Ok(written) => {
                    has_written = true;
                    self.advance(written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.is_writable = false;
                    self.outgoing.clear();
                }
            }
        }
        has_written
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(part) = self.outgoing.front_mut() {
            if written < part.len() {
                part.advance(written);
                return;
            }
            written -= part.len();
            self.outgoing.pop_front();
        }
    }
}
