//! Sockets: binding them, accepting connections, and speaking HTTP/2 on each.
//!
//! h2 is driven here and not through hyper or tonic's server, because these cannot be made to keep the promises of this
//! module: a limit of connections, a timeout for silent ones, none that outlives the server, an accept loop that
//! does not spin when file descriptors run out, an age limit that is spread, an owner for every task, and windows that
//! open when the handler has taken the data, not before. Each request goes to an [`HttpService`]; nothing here knows
//! what that is.

mod accept;
mod authority;
mod bound;
mod connection;
mod connections;
mod http2;
mod keepalive;
mod monitor;
mod response_body;
mod service;
mod stream;
mod stream_task;
mod unix_socket;
mod watched_stream;

pub(crate) use self::accept::accept_connections;
pub(crate) use self::bound::{Accepted, BoundListener};
pub(crate) use self::connection::Http2Server;
pub(crate) use self::connections::{ConnectionPermit, Connections, Eviction};
pub(crate) use self::monitor::{Intake, STREAM};
pub(crate) use self::response_body::{hold_until_end, monitored};
pub(crate) use self::service::HttpService;
pub(crate) use self::stream::{RequestStream, Source};
pub(crate) use self::stream_task::StreamTasks;
pub(crate) use self::watched_stream::WatchedStream;
