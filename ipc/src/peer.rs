//! One end of a connection, for the conformance kit and for tests of either side. It does not enforce the order of
//! frames, so that tests can violate it.

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use bytes::{Buf as _, Bytes};
use rustix::io::Errno;
use rustix::net::SendFlags;

use crate::page::PageReader;
use crate::proto::{Welcome, server_frame, worker_frame};
use crate::{
    DEFAULT_MAX_FRAME_BYTES, FrameDecoder, FrameError, MAX_FDS, decode_server_frame, decode_worker_frame,
    encode_server_frame, encode_worker_frame, recv_with_fds, send_with_fds,
};

/// The frames that one side sends; the type that determines the side.
pub trait Frame: Sized {
    /// The frames that the other side sends.
    type Reply;

    /// Encodes the frame with its length.
    fn encode(self) -> Bytes;

    /// Decodes a frame of the other side.
    ///
    /// # Errors
    ///
    /// If the frame is invalid.
    fn decode_reply(frame: Bytes) -> Result<Self::Reply, FrameError>;
}

impl Frame for server_frame::Frame {
    type Reply = worker_frame::Frame;

    fn encode(self) -> Bytes {
        encode_server_frame(self)
    }

    fn decode_reply(frame: Bytes) -> Result<Self::Reply, FrameError> {
        decode_worker_frame(frame)
    }
}

impl Frame for worker_frame::Frame {
    type Reply = server_frame::Frame;

    fn encode(self) -> Bytes {
        encode_worker_frame(self)
    }

    fn decode_reply(frame: Bytes) -> Result<Self::Reply, FrameError> {
        decode_server_frame(frame)
    }
}

/// The end that sends frames `F`. It blocks if its socket does.
#[derive(Debug)]
pub struct Peer<F> {
    socket: UnixStream,
    decoder: FrameDecoder,
    outgoing: VecDeque<Bytes>,
    /// At most [`MAX_FDS`].
    descriptors: Vec<OwnedFd>,
    sends: PhantomData<F>,
}

impl<F: Frame> Peer<F> {
    /// Returns one end of a connection, which refuses frames longer than the limit.
    pub fn new(socket: UnixStream, max_frame_bytes: u32) -> Self {
        Self {
            socket,
            decoder: FrameDecoder::new(max_frame_bytes),
            outgoing: VecDeque::new(),
            descriptors: Vec::new(),
            sends: PhantomData,
        }
    }

    /// Returns the socket, to poll or to close it.
    pub fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// Sends a frame.
    ///
    /// # Errors
    ///
    /// As [`Peer::flush`].
    pub fn send(&mut self, frame: F) -> io::Result<()> {
        self.send_bytes(frame.encode())
    }

    /// Sends raw bytes, which may be an invalid frame.
    ///
    /// # Errors
    ///
    /// As [`Peer::flush`].
    pub fn send_bytes(&mut self, bytes: impl Into<Bytes>) -> io::Result<()> {
        self.queue(bytes);
        self.flush().map(drop)
    }

    /// Queues bytes for the next [`Peer::flush`], which writes them separately.
    pub fn queue(&mut self, bytes: impl Into<Bytes>) {
        self.outgoing.push_back(bytes.into());
    }

    /// Returns whether there are queued bytes.
    pub fn has_queued(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Writes the queued bytes; on a non-blocking socket, as many as it accepts. Returns whether anything was written.
    ///
    /// # Errors
    ///
    /// If the other side is gone. The queued bytes are dropped then.
    pub fn flush(&mut self) -> io::Result<bool> {
        let mut has_written = false;
        while let Some(bytes) = self.outgoing.front_mut() {
            match rustix::net::send(&self.socket, bytes, SendFlags::NOSIGNAL) {
                Ok(count) => {
                    has_written = true;
                    bytes.advance(count);
                    if bytes.is_empty() {
                        self.outgoing.pop_front();
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(error) => {
                    self.outgoing.clear();
                    return Err(error.into());
                }
            }
        }
        Ok(has_written)
    }

    /// Receives once, and keeps the descriptors that arrive. Returns the number of bytes; 0 at the end of the
    /// connection, also if the other side reset it.
    ///
    /// # Errors
    ///
    /// As `recvmsg(2)`; `WouldBlock` if no data arrives on a non-blocking socket or within its timeout.
    pub fn receive(&mut self) -> io::Result<usize> {
        let mut bytes = [0; 16 << 10];
        loop {
            match recv_with_fds(&self.socket, &mut bytes) {
                Ok((count, descriptors)) => {
                    self.decoder.buffer().extend_from_slice(&bytes[..count]);
                    self.descriptors.extend(descriptors);
                    self.descriptors.truncate(MAX_FDS);
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(0),
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns the next received frame, if it is complete.
    ///
    /// # Errors
    ///
    /// If the frame is invalid.
    pub fn received(&mut self) -> Result<Option<F::Reply>, FrameError> {
        self.decoder.next_frame()?.map(F::decode_reply).transpose()
    }

    /// Returns whether part of a frame was received. Valid after [`Peer::received`] returned `None`.
    pub fn has_partial_frame(&self) -> bool {
        self.decoder.has_partial_frame()
    }

    /// Receives until the next frame is complete and returns it; `None` at the end of the connection.
    ///
    /// # Errors
    ///
    /// As [`Peer::receive`]; `InvalidData` if the frame is invalid, `UnexpectedEof` if the connection ends within it.
    pub fn next_frame(&mut self) -> io::Result<Option<F::Reply>> {
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        loop {
            if let Some(frame) = self.received().map_err(invalid)? {
                return Ok(Some(frame));
            }
            if self.receive()? == 0 {
                let is_torn = self.has_partial_frame();
                return if is_torn { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(None) };
            }
        }
    }
}

impl Peer<server_frame::Frame> {
    /// Sends Welcome to a worker, with the progress page that it announces. Returns the server's end.
    ///
    /// # Errors
    ///
    /// If there is no memory for the page, or the worker is gone.
    pub fn welcome(socket: UnixStream, welcome: Welcome) -> io::Result<(Self, Option<PageReader>)> {
        let Welcome { max_frame_bytes, journal_bytes, .. } = welcome;
        let (page, memory) = (journal_bytes > 0).then(|| PageReader::create(journal_bytes)).transpose()?.unzip();
        let descriptor: Option<BorrowedFd<'_>> = memory.as_ref().map(|memory| memory.as_fd());
        // The socket buffer is empty and takes all of it.
        send_with_fds(&socket, &server_frame::Frame::Welcome(welcome).encode(), descriptor.as_slice())?;
        Ok((Self::new(socket, max_frame_bytes), page))
    }
}

impl Peer<worker_frame::Frame> {
    /// Receives Welcome from a server, with its descriptors. Returns the worker's end.
    ///
    /// # Errors
    ///
    /// If the first frame is another one, or the connection fails.
    pub fn connect(socket: UnixStream) -> io::Result<(Self, Welcome, Vec<OwnedFd>)> {
        let mut peer = Self::new(socket, DEFAULT_MAX_FRAME_BYTES);
        match peer.next_frame()? {
            Some(server_frame::Frame::Welcome(welcome)) => {
                peer.decoder.set_max_frame_bytes(welcome.max_frame_bytes);
                let descriptors = std::mem::take(&mut peer.descriptors);
                Ok((peer, welcome, descriptors))
            }
            _ => Err(io::Error::other("the first frame is not Welcome")),
        }
    }
}
