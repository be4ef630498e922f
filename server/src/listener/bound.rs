//! Addresses that are bound, and open for connections.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpStream, UnixStream};

use super::unix_socket::UnixSocket;
use crate::config::ListenAddress;
use crate::peer::Peer;

/// A bound address, open for connections.
#[derive(Debug)]
pub(crate) struct BoundListener {
    address: ListenAddress,
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixSocket),
}

/// A connection that was accepted.
#[derive(Debug)]
pub(crate) enum Accepted {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Accepted {
    /// Returns who is at its other end. One that has gone again is nobody in particular.
    pub(super) fn peer(&self) -> Peer {
        match self {
            Self::Tcp(stream) => {
                Peer::Tcp(stream.peer_addr().unwrap_or_else(|_| SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))))
            }
            Self::Unix(stream) => Peer::Unix { uid: stream.peer_cred().ok().map(|user| user.uid()) },
        }
    }
}

impl BoundListener {
    /// Binds an address.
    pub(crate) async fn bind(address: &ListenAddress) -> io::Result<Self> {
        match address {
            ListenAddress::Tcp(requested) => {
                let listener = TcpListener::bind(requested).await?;
                let address = ListenAddress::Tcp(listener.local_addr()?);
                Ok(Self { address, socket: Socket::Tcp(listener) })
            }
            ListenAddress::Unix(path) => {
                Ok(Self { address: address.clone(), socket: Socket::Unix(UnixSocket::bind(path)?) })
            }
        }
    }

    /// Returns the address, with the port that was chosen if any would do.
    pub(crate) fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// Accepts one connection. The file of a Unix socket is looked after meanwhile.
    pub(super) async fn accept(&mut self) -> io::Result<Accepted> {
        match &mut self.socket {
            Socket::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // A call waits for every round trip; a socket that cannot do without the delay still works.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, %peer, "cannot set TCP_NODELAY");
                }
                Ok(Accepted::Tcp(stream))
            }
            Socket::Unix(socket) => Ok(Accepted::Unix(socket.accept().await?)),
        }
    }
}
