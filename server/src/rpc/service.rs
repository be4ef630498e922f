//! `PoolService` as tonic has it: hands each method to its module.

use procpool_proto::v1;
use procpool_proto::v1::pool_service_server::PoolService;
use tonic::{Request, Response, Status, Streaming};

use super::pool_rpc::{Messages, PoolRpc};
use super::{apply, imap, imap_stream, list_functions, map};

#[tonic::async_trait]
impl PoolService for PoolRpc {
    async fn apply(&self, request: Request<v1::ApplyRequest>) -> Result<Response<v1::ApplyResponse>, Status> {
        apply::apply(self, request).await
    }

    async fn map(&self, request: Request<v1::MapRequest>) -> Result<Response<v1::MapResponse>, Status> {
        map::map(self, request).await
    }

    async fn star_map(&self, request: Request<v1::StarMapRequest>) -> Result<Response<v1::StarMapResponse>, Status> {
        map::star_map(self, request).await
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
