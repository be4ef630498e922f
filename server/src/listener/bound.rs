//! Bound addresses.

use std::io;

use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_util::either::Either;

use super::unix_socket::UnixSocket;
use crate::config::ListenAddress;
use crate::peer::Peer;

/// A bound address that accepts connections.
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
pub(crate) struct Accepted {
    pub(crate) stream: Either<TcpStream, UnixStream>,
    pub(super) peer: Peer,
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

    /// Returns the address, with the port that the system chose if it was 0.
    pub(crate) fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// Accepts one connection. Meanwhile the file of a Unix socket is checked, and restored if it was removed.
    pub(super) async fn accept(&mut self) -> io::Result<Accepted> {
        match &mut self.socket {
            Socket::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // Delayed packets would delay every call; a socket without the option still works.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, peer = %address, "cannot set TCP_NODELAY");
                }
                Ok(Accepted { stream: Either::Left(stream), peer: Peer::Tcp(address) })
            }
            Socket::Unix(socket) => {
                let stream = socket.accept().await?;
                let uid = stream.peer_cred().ok().map(|user| user.uid());
                Ok(Accepted { stream: Either::Right(stream), peer: Peer::Unix { uid } })
            }
        }
    }
}
