//! StarMap: a Map whose items are lists, the arguments of one call each.

use procpool_items::ItemKind;
use procpool_pool::CallStyle;
use procpool_proto::v1;
use procpool_proto::v1::star_map_request::{Common, Items};
use procpool_proto::v1::star_map_response::Results;
use tonic::{Request, Response, Status};

use super::error_context::Method;
use super::map::run_map;
use super::pool_rpc::PoolRpc;
use super::request_metadata::RequestMetadata;
use super::validate::UncheckedCall;
use crate::listener::hold_until_end;

pub(super) async fn star_map(
    rpc: &PoolRpc,
    request: Request<v1::StarMapRequest>,
) -> Result<Response<v1::StarMapResponse>, Status> {
    let (metadata, extensions, request) = request.into_parts();
    let v1::StarMapRequest { function, content_type, options, items, common } = request;
    let items = items.map(|items| match items {
        Items::Values(bytes) => (ItemKind::Values, bytes),
        Items::Blobs(bytes) => (ItemKind::Blobs, bytes),
    });
    let sent = UncheckedCall {
        method: Method::StarMap,
        style: CallStyle::Star,
        function,
        content_type,
        common: common.map(|common| match common {
            Common::CommonValue(bytes) => (ItemKind::Values, bytes),
            Common::CommonBlob(bytes) => (ItemKind::Blobs, bytes),
        }),
        options,
        stream: None,
    };
    let mut outcome = run_map(rpc, sent, items, RequestMetadata::of(&metadata, &extensions)).await?;
    let results = match outcome.context.kind {
        ItemKind::Values => Results::Values(outcome.results),
        ItemKind::Blobs => Results::Blobs(outcome.results),
    };
    outcome.entry.succeed();
    let content_type = outcome.content_type;
    let mut response =
        Response::new(v1::StarMapResponse { content_type, errors: outcome.errors, results: Some(results) });
    hold_until_end(response.extensions_mut(), outcome.held);
    Ok(response)
}
