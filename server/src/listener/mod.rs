//! Sockets: binding them, accepting connections, and speaking HTTP/2 on each.
//!
//! h2 is driven here and not through hyper or tonic's server, because these cannot be made to keep the promises of this
//! module: no more connections than the limit, none that is silent, none that outlives the server, an accept loop that
//! does not spin when file descriptors run out, an age limit that is spread, an owner for every task, and windows that open
//! when what came through them has been taken, and not before.
//! It hands each request to the router and knows nothing of what is behind that.

mod accept;
mod authority;
mod bound;
mod call_task;
mod connection;
mod connections;
mod http2;
mod keepalive;
mod stream;
mod unix_socket;
mod watched_stream;

pub(crate) use self::accept::accept_connections;
pub(crate) use self::bound::{Accepted, BoundListener};
pub(crate) use self::call_task::OwnedTasks;
pub(crate) use self::connection::{Serving, serve};
pub(crate) use self::connections::{Connections, Displacement, Place};
pub(crate) use self::stream::RequestStream;
pub(crate) use self::watched_stream::{Traffic, WatchedStream};
