//! StarMap: a Map whose items are lists, the arguments of one call each.

use procpool_pool::CallStyle;
use procpool_proto::v1;
use tonic::{Request, Response, Status};

use super::encoded::Encoded;
use super::error_context::Method;
use super::map::run_map;
use super::pool_rpc::PoolRpc;
use super::request_metadata::RequestMetadata;
use super::validate::UncheckedCall;

pub(super) async fn star_map(
    rpc: &PoolRpc,
    request: Request<v1::StarMapRequest>,
) -> Result<Response<v1::StarMapResponse>, Status> {
    let (metadata, extensions, request) = request.into_parts();
    let v1::StarMapRequest { function, content_type, options, items, common } = request;
    let unchecked = UncheckedCall {
        method: Method::StarMap,
        style: CallStyle::Star,
        function,
        content_type,
        common: common.map(Encoded::from),
        options,
        stream: None,
    };
    let metadata = RequestMetadata::of(&metadata, &extensions);
    let mapped = run_map(rpc, unchecked, items.map(Encoded::from), metadata).await?;
    Ok(mapped.map(|v1::MapResponse { content_type, errors, results }| v1::StarMapResponse {
        content_type,
        errors,
        results: results.map(|results| Encoded::from(results).into()),
    }))
}
