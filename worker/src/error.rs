//! Why a worker ended.

use std::error::Error;
use std::io;

use procpool_ipc::FrameError;

/// Why a worker failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The program was not started by a pool.
    #[error(
        "neither PROCPOOL_FD nor PROCPOOL_SOCKET is set: this program is a worker; start it with \
         `procpool serve -- COMMAND`"
    )]
    NotStartedByPool,
    /// `PROCPOOL_FD` is not the number of an inherited socket.
    #[error("PROCPOOL_FD={value} is not an inherited socket: {error}")]
    BadDescriptor {
        /// The value of the variable.
        value: String,
        /// Why it cannot be used.
        error: io::Error,
    },
    /// The socket at `PROCPOOL_SOCKET` cannot be connected.
    #[error("cannot connect to PROCPOOL_SOCKET={path}: {error}")]
    Connect {
        /// The value of the variable.
        path: String,
        /// The error of the system.
        error: io::Error,
    },
    /// The initialiser failed.
    #[error("the worker's initialiser failed: {0}")]
    Initializer(String),
    /// The functions could not be found.
    #[error("cannot load the functions: {0}")]
    Loader(Box<dyn Error + Send + Sync>),
    /// The hook around waiting failed.
    #[error("the worker was interrupted while it waited: {0}")]
    Hook(Box<dyn Error + Send + Sync>),
    /// The server violated the protocol.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
    /// The server sent an invalid frame.
    #[error("the server broke the protocol: {0}")]
    Frame(#[from] FrameError),
    /// The functions with their documentation do not fit in a frame.
    #[error("the descriptions of the functions take {length} bytes; a frame holds {limit}")]
    HelloTooLong {
        /// Their length.
        length: usize,
        /// The limit.
        limit: u32,
    },
    /// The connection failed.
    #[error("the connection to the server failed: {0}")]
    Io(#[from] io::Error),
}

impl WorkerError {
    /// Returns whether the server is gone, which is not a failure of the worker.
    pub(crate) fn is_disconnect(&self) -> bool {
        let Self::Io(error) = self else { return false };
        matches!(
            error.kind(),
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof
        )
    }
}

impl From<rustix::io::Errno> for WorkerError {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Io(error.into())
    }
}
