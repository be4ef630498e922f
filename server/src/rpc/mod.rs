//! The methods of `PoolService`: request → check → [`Pools`] → response. No scheduling, no workers, no sockets.
//!
//! Each method has a module of its own. [`validate`] checks what came in, [`status`] is the table of errors,
//! [`router`] is what every request passes first.

mod admin;
mod apply;
mod body;
pub(crate) mod context;
mod deadline;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub(crate) mod health;
mod imap;
mod imap_stream;
mod list_functions;
mod map;
mod reflection;
mod result_messages;
pub(crate) mod router;
mod stall_guard;
mod star_map;
pub(crate) mod status;
mod validate;

use std::time::Duration;

use futures_util::Stream;
use procpool_proto::v1;
use procpool_proto::v1::pool_service_server::PoolService;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use self::stall_guard::StallGuard;
use crate::lifecycle::CUT_CALL;
use crate::pools::Pools;

/// The service, over the pools.
#[derive(Debug)]
pub(crate) struct PoolRpc {
    /// What runs the calls.
    pub(crate) pools: Pools,
    /// The largest message, either way.
    pub(crate) max_message_bytes: u32,
    /// How long a reader may take nothing.
    pub(crate) stream_stall_timeout: Duration,
    /// Has a token for each call in progress, and their tasks.
    pub(crate) calls: TaskTracker,
}

impl PoolRpc {
    /// Has a response stream cut when its reader takes nothing.
    fn guard<T>(&self, messages: impl Stream<Item = Result<T, Status>> + Send + 'static) -> StallGuard<T> {
        let cut = CUT_CALL.with(CancellationToken::clone);
        StallGuard::new(messages, self.stream_stall_timeout, cut, &self.calls)
    }
}

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

    type IMapStream = StallGuard<v1::IMapResponse>;

    async fn i_map(&self, request: Request<v1::IMapRequest>) -> Result<Response<Self::IMapStream>, Status> {
        imap::imap(self, request).await
    }

    type IMapStreamStream = StallGuard<v1::IMapStreamResponse>;

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
