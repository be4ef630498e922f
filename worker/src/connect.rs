//! Connects a worker to its server and receives the first frame. Only this module reads the environment.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use procpool_ipc::page::PageWriter;
use procpool_ipc::proto::Welcome;
use procpool_ipc::proto::server_frame::Frame as ServerFrame;
use procpool_ipc::{
    DEFAULT_MAX_FRAME_BYTES, FrameDecoder, PROTOCOL_VERSION, decode_server_frame, recv_with_fds, take_inherited_socket,
};
use rustix::fs::OFlags;

use crate::error::WorkerError;

/// The smallest limit on frames that a worker accepts: a failure with a message must fit.
const MIN_MAX_FRAME_BYTES: u32 = 1024;

/// A connection after its Welcome.
pub(crate) struct Connection {
    pub(crate) socket: OwnedFd,
    pub(crate) decoder: FrameDecoder,
    pub(crate) welcome: Welcome,
    pub(crate) page: Option<PageWriter>,
    /// The write end of the pipe for stack dumps.
    pub(crate) dump_pipe: Option<OwnedFd>,
}

/// Connects to the server that the environment names.
///
/// [`Worker::run`](crate::Worker::run) does this; a program that needs the socket itself passes it on to
/// [`Worker::run_on`](crate::Worker::run_on). Works once per process.
///
/// # Errors
///
/// If neither `PROCPOOL_FD` nor `PROCPOOL_SOCKET` is set, or there is no such socket.
pub fn connect() -> Result<OwnedFd, WorkerError> {
    if let Some(number) = std::env::var_os("PROCPOOL_FD") {
        return inherited_socket(&number);
    }
    let path = std::env::var_os("PROCPOOL_SOCKET").ok_or(WorkerError::NotStartedByPool)?;
    UnixStream::connect(&path)
        .map(OwnedFd::from)
        .map_err(|error| WorkerError::Connect { path: path.to_string_lossy().into_owned(), error })
}

fn inherited_socket(number: &OsStr) -> Result<OwnedFd, WorkerError> {
    let value = number.to_string_lossy();
    value
        .parse()
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "it is not a number"))
        .and_then(take_inherited_socket)
        .map_err(|error| WorkerError::BadDescriptor { value: value.into_owned(), error })
}

impl Connection {
    /// Receives the Welcome frame, and the progress page that comes with it.
    pub(crate) fn open(socket: OwnedFd) -> Result<Self, WorkerError> {
        // The socket may have been made non-blocking for an async server; this side blocks.
        let flags = rustix::fs::fcntl_getfl(&socket)?;
        rustix::fs::fcntl_setfl(&socket, flags - OFlags::NONBLOCK)?;

        let mut decoder = FrameDecoder::new(DEFAULT_MAX_FRAME_BYTES);
        let mut descriptors = VecDeque::new();
        let frame = loop {
            if let Some(frame) = decoder.next_frame()? {
                break frame;
            }
            // A plain read would lose the descriptor that comes with the first byte.
            let mut piece = [0; 512];
            let (count, received) = recv_with_fds(&socket, &mut piece)?;
            if count == 0 {
                return Err(WorkerError::Io(io::ErrorKind::UnexpectedEof.into()));
            }
            decoder.buffer().extend_from_slice(&piece[..count]);
            descriptors.extend(received);
        };
        let ServerFrame::Welcome(welcome) = decode_server_frame(frame)? else {
            return Err(WorkerError::Protocol("its first frame is not Welcome".to_owned()));
        };
        check(&welcome)?;
        decoder.set_max_frame_bytes(welcome.max_frame_bytes);
        // Without the page, the worker sends Started frames, which cost more.
        let page_file = if welcome.journal_bytes > 0 { descriptors.pop_front() } else { None };
        let page = page_file.and_then(|page_file| PageWriter::map(page_file, welcome.journal_bytes).ok());
        let dump_pipe = if welcome.dump_pipe { descriptors.pop_front() } else { None };
        Ok(Self { socket, decoder, welcome, page, dump_pipe })
    }
}

fn check(welcome: &Welcome) -> Result<(), WorkerError> {
    let version = welcome.protocol_version;
    if version != PROTOCOL_VERSION {
        let problem = format!("it speaks version {version}, this worker version {PROTOCOL_VERSION}");
        return Err(WorkerError::Protocol(problem));
    }
    if welcome.max_frame_bytes < MIN_MAX_FRAME_BYTES {
        let problem = format!("max_frame_bytes is {}, less than {MIN_MAX_FRAME_BYTES}", welcome.max_frame_bytes);
        return Err(WorkerError::Protocol(problem));
    }
    Ok(())
}
