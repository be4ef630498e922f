//! The other end of a connection.

use std::fmt;
use std::net::SocketAddr;

/// The other end of a connection, as the kernel reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A TCP connection from this address.
    Tcp(SocketAddr),
    /// A process of this user on a Unix socket; `None` if the kernel did not tell.
    Unix { uid: Option<u32> },
}

impl fmt::Display for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(formatter, "{address}"),
            Self::Unix { uid: Some(uid) } => write!(formatter, "unix:uid={uid}"),
            Self::Unix { uid: None } => formatter.write_str("unix:uid=unknown"),
        }
    }
}
