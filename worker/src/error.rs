//! Why a worker ended.

use std::io;

use procpool_ipc::FrameError;

/// Why a worker could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The program was started by hand.
    #[error(
        "neither PROCPOOL_FD nor PROCPOOL_SOCKET is set: this program is a worker, and is started by \
         `procpool serve -- COMMAND`"
    )]
    NotStartedByPool,
    /// `PROCPOOL_FD` is not the number of an inherited socket.
    #[error("PROCPOOL_FD={value} is not an inherited socket: {error}")]
    BadDescriptor {
        /// What the variable says.
        value: String,
        /// What is wrong with it.
        error: io::Error,
    },
    /// The socket at `PROCPOOL_SOCKET` does not answer.
    #[error("cannot connect to PROCPOOL_SOCKET={path}: {error}")]
    Connect {
        /// What the variable says.
        path: String,
        /// What the system said.
        error: io::Error,
    },
    /// The initialiser failed.
    #[error("the worker's initialiser failed: {0}")]
    Initializer(String),
    /// The server sent what the protocol does not allow.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
    /// The server sent something that is no frame.
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
    /// Tells whether the server has gone away, which is no failure of the worker.
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
