//! The methods of `PoolService`: request → check → [`Pools`] → response. No scheduling, no workers, no sockets.
//!
//! Each method has a module of its own. [`validate`] checks what came in, [`status`] is the table of errors,
//! [`router`] is what every request passes first.

mod admin;
mod apply;
pub(crate) mod body;
pub(crate) mod call_log;
pub(crate) mod context;
mod deadline;
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
mod reflection;
pub(crate) mod response_body;
mod result_messages;
pub(crate) mod router;
mod star_map;
pub(crate) mod status;
mod telemetry_layer;
mod validate;

use std::sync::Arc;

use futures_util::stream::BoxStream;
use procpool_proto::v1;
use procpool_proto::v1::pool_service_server::PoolService;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use self::call_log::CallLog;
use crate::pools::Pools;

/// The service, over the pools.
#[derive(Debug)]
pub(crate) struct PoolRpc {
    /// What runs the calls.
    pub(crate) pools: Pools,
    /// The largest message, either way.
    pub(crate) max_message_bytes: u32,
    /// Has a token for each call in progress, and the tasks of those that have any.
    pub(crate) calls: TaskTracker,
    /// The lines of calls in the log.
    pub(crate) call_log: Arc<CallLog>,
}

/// The messages of a response.
type Messages<T> = BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl PoolService for PoolRpc {
    async fn apply(&self, request: Request<v1::ApplyRequest>) -> Result<Response<v1::ApplyResponse>, Status> {
        apply::apply(self, request).await
    }

    async fn map(&self, request: Request<v1::MapRequest>) -> Result<Response<v1::MapResponse>, Status> {
        map::map(self, request).await
    }

    async fn star_map(&self, request: Request<v1::StarMapRequest>) -> Result<Response<v1::StarMapResponse>, Status> {
        star_map::star_map(self, request).await
    }

    type IMapStream = Messages<v1::IMapResponse>;

    async fn i_map(&self, request: Request<v1::IMapRequest>) -> Result<Response<Self::IMapStream>, Status> {
        imap::imap(self, request).await
    }

    type IMapStreamStream = Messages<v1::IMapStreamResponse>;

    async fn i_map_stream(
        &self,
        request: Request<Streaming<v1::IMapStreamRequest>>,
    ) -> Result<Response<Self::IMapStreamStream>, Status> {
        imap_stream::imap_stream(self, request).await
    }

    async fn list_functions(
        &self,
        _request: Request<v1::ListFunctionsRequest>,
    ) -> Result<Response<v1::ListFunctionsResponse>, Status> {
        Ok(Response::new(list_functions::list_functions(self)))
    }
}
