//! Sockets: binding them, accepting connections, and speaking HTTP/2 on each.
//!
//! hyper is driven here and not through tonic's server, because that one cannot be made to keep the promises of this
//! module: no more connections than the limit, none that is silent, none that outlives the server, an accept loop that
//! does not spin when file descriptors run out, an age limit that is spread, and an owner for every task.
//! Nothing here knows what is served.

mod accept;
mod authority;
mod call_task;
mod connection;
mod unix_socket;
mod watched_stream;

use std::io;
use std::sync::Arc;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

pub(crate) use self::accept::accept_connections;
use self::unix_socket::SocketFile;
use crate::config::{ListenAddress, ServerConfig};
use crate::lifecycle::Lifecycle;
use crate::rpc::router::Router;

/// A bound address, open for connections.
#[derive(Debug)]
pub(crate) struct BoundListener {
    address: ListenAddress,
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix { _file: SocketFile, listener: UnixListener },
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
                let (listener, file) = unix_socket::bind(path)?;
                Ok(Self { address: address.clone(), socket: Socket::Unix { _file: file, listener } })
            }
        }
    }

    /// Returns the address, with the port that was chosen if any would do.
    pub(crate) fn address(&self) -> &ListenAddress {
        &self.address
    }
}

/// What every connection needs.
#[derive(Debug, Clone)]
pub(crate) struct Serving {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) router: Router,
    pub(crate) lifecycle: Lifecycle,
    /// One permit for each connection that may be open.
    pub(crate) permits: Arc<Semaphore>,
    /// Owns the tasks of connections and calls.
    pub(crate) connections: TaskTracker,
}
