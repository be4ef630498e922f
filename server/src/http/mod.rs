//! The admin port: metrics and health in plain text.
//!
//! It shares neither limits nor access control with the public port, so that it answers when the other is full or closed;
//! bind it where only probers and scrapers can reach it. HTTP/1.1 and HTTP/2 on one port. A new connection is always
//! served, since a probe must be answered; at the limit, the most idle one is closed for it.
//!
//! | request | |
//! | --- | --- |
//! | `GET /metrics` | Prometheus text |
//! | `GET /healthz` | 200: the process serves |
//! | `GET /readyz` | 200 if the server takes calls, else 503 and why |
//! | `grpc.health.v1.Health` | the same as on the public port |

mod connection;
mod endpoints;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use self::endpoints::Endpoints;
use crate::listener::{BoundListener, Connections, Eviction, accept_connections};

/// The most connections to the admin port at a time: enough for every prober and scraper of a machine. One more closes
/// the most idle.
pub const MAX_ADMIN_CONNECTIONS: usize = 64;

/// Serves until `closed` is cancelled; that cuts every connection. `tasks` owns them.
pub(crate) async fn serve(
    listener: BoundListener,
    endpoints: Endpoints,
    tasks: TaskTracker,
    closed: CancellationToken,
) {
    let connections = Connections::new(MAX_ADMIN_CONNECTIONS, Eviction::Any);
    let serve =
        |accepted, permit| connection::serve(accepted, permit, endpoints.clone(), tasks.clone(), closed.clone());
    accept_connections(listener, connections, closed.clone(), tasks.clone(), serve).await;
}
