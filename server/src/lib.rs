//! The gRPC server around a [`procpool_pool`] of worker processes.
//!
//! | module | |
//! | --- | --- |
//! | `app` | the server as a whole: bind, serve, drain, end |
//! | `config` | its settings, as plain data |
//! | `shutdown` | being told to stop, by signals or by a handle |
//! | `lifecycle` | the phases of the end, for all that have to know |
//! | `pools` | the pools by name, and which of them runs a function |
//! | `listener` | sockets, connections, HTTP/2, for any service |
//! | `peer`, `operators` | the other end of a connection; who may use the operators' service |
//! | `headers` | what is read from the headers of a request |
//! | `byte_budget` | how many bytes of requests may be in memory |
//! | `memory` | what was freed goes back to the system |
//! | `http` | the admin port: metrics and health |
//! | `telemetry` | traces and metrics |
//! | `rpc` | the methods of `PoolService`, errors, deadlines, limits, health, reflection |
//!
//! Modules import each other in one direction: `app → {http, rpc} → telemetry → {listener, pools}`.
//!
//! # Theory of operation
//!
//! `listener` accepts connections and has h2 speak HTTP/2 on each. Every request goes through the layers of
//! `rpc::stack`, which bound the calls in progress, limit the body, note the deadline and hand it to the generated
//! service. A method in `rpc` checks the request and has `pools` find the [`procpool_pool::PoolHandle`] whose workers
//! registered the function; then it encodes what comes back. It never looks into an item, schedules nothing, and knows
//! no worker. What fails takes its form in `rpc::status`, and only there.
//!
//! A call that is given up is dropped: its task drops the handler's future or the response stream when the client goes
//! away, and dropping the pool's future or stream cancels the job. So nothing here has to tell the pool of it.
//!
//! Every task has an owner: connections and calls are tracked, and [`App::serve`] returns when all have ended and every
//! worker is gone.

mod app;
mod byte_budget;
mod config;
mod headers;
mod http;
mod lifecycle;
mod listener;
mod memory;
mod operators;
mod peer;
mod pools;
mod rpc;
mod shutdown;
mod telemetry;

pub use app::{App, AppError};
pub use config::{ConfigError, ListenAddress, ServerConfig, TelemetryConfig};
pub use http::MAX_ADMIN_CONNECTIONS;
pub use operators::Operators;
pub use pools::{DuplicateFunction, NamedPool};
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub use rpc::fuzzing::fuzz_request;
pub use shutdown::{Shutdown, ShutdownHandle};
