//! What every request to the public port passes: a stack of tower layers around the services.
//!
//! | layer, from the outside | |
//! | --- | --- |
//! | `not_grpc` | answers requests that are not gRPC with an HTTP status |
//! | `telemetry_layer` | measures and traces the call |
//! | `admission` | bounds the calls in progress, and keeps the operators' service for operators |
//! | [`with_details`] | gives errors of the libraries the details that ours have |
//! | `body` | limits the request's messages as they come |
//! | `deadline` | ends the call in time |
//! | `routes` | the services, by name |
//!
//! A layer is a function from a service to a service: one more is a module, and a line in [`stack`]. What a layer knows
//! of a request it leaves in the request's extensions: the [`crate::peer::Peer`] is there from the start, the span and
//! the deadline are added on the way. A value that must live as long as the response goes to [`hold_until_end`].
//!
//! [`hold_until_end`]: crate::listener::hold_until_end

use std::convert::Infallible;
use std::sync::Arc;

use http::{Request, Response};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::ServiceBuilder;
use tower::util::BoxCloneSyncService;

use super::admission::{self, CallBounds};
use super::body::{self, BodyLimits};
use super::pool_rpc::PoolRpc;
use super::routes::routes;
use super::{deadline, health, not_grpc, status, telemetry_layer};
use crate::byte_budget::ByteBudget;
use crate::config::ServerConfig;
use crate::lifecycle::Lifecycle;
use crate::listener::RequestStream;
use crate::telemetry::Telemetry;

/// All services of the server, behind the layers. Cheap to clone.
pub(crate) type GrpcService = BoxCloneSyncService<Request<RequestStream>, Response<Body>, Infallible>;

/// Puts the services and their layers together. `requests` bounds what is being received.
pub(crate) fn stack(
    rpc: PoolRpc,
    health: health::Service,
    requests: &Arc<ByteBudget>,
    config: &ServerConfig,
    lifecycle: &Lifecycle,
    telemetry: Option<&Telemetry>,
) -> GrpcService {
    let limits = BodyLimits { max_message_bytes: config.max_message_bytes, stall_timeout: config.stream_stall_timeout };
    let (bounds, draining) = (Arc::new(CallBounds::new(config)), lifecycle.draining.clone());
    let services = ServiceBuilder::new()
        .layer_fn(not_grpc::layer)
        .layer_fn(|inner| telemetry_layer::layer(inner, telemetry.cloned()))
        // A layer that identifies the caller belongs here: its refusals are measured, and admission can use the identity.
        .layer_fn(|inner| admission::layer(inner, Arc::clone(&bounds)))
        .map_response(with_details)
        .layer_fn(|inner| body::layer(inner, limits, Arc::clone(requests)))
        .layer_fn(|inner| deadline::layer(inner, draining.clone()))
        .service(routes(rpc, health, lifecycle));
    BoxCloneSyncService::new(services)
}

/// Gives an error that a library made the details that ours have.
pub(crate) fn with_details(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    if !headers.contains_key(Status::GRPC_STATUS_DETAILS)
        && let Some(status) = Status::from_header_map(headers)
        && status.code() != Code::Ok
        && let Err(unsendable) = status::with_details(&status).add_header(headers)
    {
        tracing::debug!(%unsendable, "an error stays without details");
    }
    response
}
