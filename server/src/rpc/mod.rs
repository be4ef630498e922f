//! The methods of `PoolService`: request → check → [`Pools`] → response. No scheduling, no workers, no sockets.
//!
//! Each method has a module of its own. `validate` checks what came in, [`status`] is the table of errors,
//! [`stack`] is what every request passes first: a module for each layer.
//!
//! [`Pools`]: crate::pools::Pools

mod admin;
mod admission;
mod apply;
mod body;
pub(crate) mod call_log;
mod deadline;
mod delivery;
mod error_context;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub(crate) mod health;
mod imap;
mod imap_stream;
mod list_functions;
mod map;
mod media_type;
mod message_buffer;
pub(crate) mod not_grpc;
pub(crate) mod pool_rpc;
mod reflection;
mod request_metadata;
mod result_messages;
mod routes;
mod service;
pub(crate) mod stack;
pub(crate) mod status;
mod telemetry_layer;
mod validate;
