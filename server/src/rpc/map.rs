//! Map and StarMap: a function over every item, all results in one message.

use bytes::{Bytes, BytesMut};
use procpool_items::Encoded;
use procpool_pool::CallStyle;
use procpool_proto::v1;
use prost::Message as _;
use tonic::{Request, Response, Status};

use super::error_context::Method;
use super::pool_rpc::PoolRpc;
use super::request_metadata::RequestMetadata;
use super::status;
use super::validate::{UncheckedCall, check_whole};
use crate::listener::hold_until_end;

pub(super) async fn map(rpc: &PoolRpc, request: Request<v1::MapRequest>) -> Result<Response<v1::MapResponse>, Status> {
    let (metadata, request) = RequestMetadata::split(request);
    let v1::MapRequest { function, content_type, options, items, common } = request;
    let common = common.map(Encoded::from);
    let unchecked = UncheckedCall::new(Method::Map, CallStyle::Map, function, content_type, options, common);
    run(rpc, unchecked, items.map(Encoded::from), metadata).await
}

/// StarMap: the same, and each item is a list, the arguments of one call.
pub(super) async fn star_map(
    rpc: &PoolRpc,
    request: Request<v1::StarMapRequest>,
) -> Result<Response<v1::StarMapResponse>, Status> {
    let (metadata, request) = RequestMetadata::split(request);
    let v1::StarMapRequest { function, content_type, options, items, common } = request;
    let common = common.map(Encoded::from);
    let unchecked = UncheckedCall::new(Method::StarMap, CallStyle::Star, function, content_type, options, common);
    let mapped = run(rpc, unchecked, items.map(Encoded::from), metadata).await?;
    Ok(mapped.map(|v1::MapResponse { content_type, errors, results }| v1::StarMapResponse {
        content_type,
        errors,
        results: results.map(|results| Encoded::from(results).into()),
    }))
}

/// Runs either, and checks that one message can hold the results.
async fn run(
    rpc: &PoolRpc,
    unchecked: UncheckedCall,
    items: Option<Encoded>,
    metadata: RequestMetadata,
) -> Result<Response<v1::MapResponse>, Status> {
    let (checked, items, mut entry) = check_whole(rpc, unchecked, items, metadata)?;
    let context = checked.context;
    entry.set_items(items.len() as u64);

    let content_type = checked.call.content_type.clone();
    let mapped = rpc.pools.map(rpc.with_answer_limit(checked.call), items).await;
    let output = mapped.map_err(|error| entry.fail(status::call_failed(&error, &context)))?;
    let mut debug_budget = status::debug_budget(rpc.max_message_bytes);
    let errors = output.errors.iter().map(|error| status::item_failed(error, &context, &mut debug_budget)).collect();
    // Before anything is copied.
    let beside = v1::MapResponse { content_type, errors, results: None };
    let num_bytes = output.parts.iter().map(Bytes::len).sum();
    let message_bytes = beside.encoded_len() + 1 + prost::length_delimiter_len(num_bytes) + num_bytes;
    rpc.check_response_size(message_bytes, &context).map_err(|error| entry.fail(error))?;
    let results = Encoded { kind: context.kind, bytes: lay_end_to_end(output.parts) };
    entry.succeed();
    let mut response = Response::new(v1::MapResponse { results: Some(results.into()), ..beside });
    hold_until_end(response.extensions_mut(), output.held);
    Ok(response)
}

/// Joins encoded lists into one, with one copy at most.
pub(super) fn lay_end_to_end(mut parts: Vec<Bytes>) -> Bytes {
    if parts.len() == 1 {
        return parts.swap_remove(0);
    }
    let mut whole = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
    for part in parts {
        whole.extend_from_slice(&part);
    }
    whole.freeze()
}
