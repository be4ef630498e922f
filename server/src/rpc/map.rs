//! Map: a function over every item, all results in one message.

use bytes::{Bytes, BytesMut};
use procpool_items::ItemKind;
use procpool_pool::{CallStyle, ResultBytes};
use procpool_proto::v1;
use procpool_proto::v1::map_request::{Common, Items};
use procpool_proto::v1::map_response::Results;
use prost::Message as _;
use tonic::{Request, Response, Status};

use super::call_log::CallLogEntry;
use super::error_context::{ErrorContext, Method};
use super::pool_rpc::PoolRpc;
use super::request_metadata::RequestMetadata;
use super::status;
use super::validate::{SentItems, UncheckedCall, check_call, check_items, separate};
use crate::listener::hold_until_end;

pub(super) async fn map(rpc: &PoolRpc, request: Request<v1::MapRequest>) -> Result<Response<v1::MapResponse>, Status> {
    let (metadata, extensions, request) = request.into_parts();
    let v1::MapRequest { function, content_type, options, items, common } = request;
    let items = items.map(|items| match items {
        Items::Values(bytes) => (ItemKind::Values, bytes),
        Items::Blobs(bytes) => (ItemKind::Blobs, bytes),
    });
    let sent = UncheckedCall {
        method: Method::Map,
        style: CallStyle::Map,
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
    let mut response = Response::new(v1::MapResponse { content_type, errors: outcome.errors, results: Some(results) });
    hold_until_end(response.extensions_mut(), outcome.held);
    Ok(response)
}

/// What a Map or StarMap came to.
pub(super) struct MapOutcome {
    pub(super) context: ErrorContext,
    pub(super) entry: CallLogEntry,
    /// Of the items and the results.
    pub(super) content_type: String,
    /// The encoded list of results.
    pub(super) results: Bytes,
    pub(super) errors: Vec<v1::ItemError>,
    /// What all of this takes, to go with the response.
    pub(super) held: ResultBytes,
}

/// Runs a Map or StarMap, and checks that one message can hold its results.
pub(super) async fn run_map(
    rpc: &PoolRpc,
    mut sent: UncheckedCall,
    mut items: SentItems,
    metadata: RequestMetadata,
) -> Result<MapOutcome, Status> {
    separate(&mut items, &mut sent.common);
    let style = sent.style;
    let kind = items.as_ref().map(|(kind, _)| *kind);
    let mut entry = rpc.log_entry(sent.method, &metadata);
    let checked = check_call(rpc, sent, kind, metadata, &mut entry)?;
    let context = checked.context;
    let items = check_items(items, style, 0, &context).map_err(|error| entry.fail(error))?;
    entry.set_items(items.len() as u64);

    let content_type = checked.call.content_type.clone();
    let mapped = rpc.pools.map(rpc.with_answer_limit(checked.call), items).await;
    let output = mapped.map_err(|error| entry.fail(status::call_failed(&error, &context)))?;
    let mut debug_budget = status::debug_budget(rpc.max_message_bytes);
    let errors = output.errors.iter().map(|error| status::item_failed(error, &context, &mut debug_budget)).collect();
    // Before anything is copied. The response of StarMap has the same fields.
    let beside = v1::MapResponse { content_type, errors, results: None };
    let num_bytes = output.parts.iter().map(Bytes::len).sum();
    let message_bytes = beside.encoded_len() + 1 + prost::length_delimiter_len(num_bytes) + num_bytes;
    rpc.check_response_size(message_bytes, &context).map_err(|error| entry.fail(error))?;
    let (results, held) = (lay_end_to_end(output.parts), output.held);
    Ok(MapOutcome { content_type: beside.content_type, results, errors: beside.errors, held, context, entry })
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
