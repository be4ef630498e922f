//! Map: a function over every item, all results in one message.

use bytes::{Bytes, BytesMut};
use procpool_items::ItemKind;
use procpool_pool::{Call, CallStyle};
use procpool_proto::v1;
use procpool_proto::v1::map_request::{Common, Items};
use procpool_proto::v1::map_response::Results;
use prost::Message as _;
use tonic::{Request, Response, Status};

use super::call_log::CallRecord;
use super::context::{CallContext, Envelope, Method};
use super::response_body::HeldByResponse;
use super::validate::{SentCall, SentItems, check_call, check_items, separate};
use super::{PoolRpc, status};

pub(super) async fn map(rpc: &PoolRpc, request: Request<v1::MapRequest>) -> Result<Response<v1::MapResponse>, Status> {
    let (metadata, extensions, request) = request.into_parts();
    let v1::MapRequest { function, content_type, options, items, common } = request;
    let items = items.map(|items| match items {
        Items::Values(bytes) => (ItemKind::Values, bytes),
        Items::Blobs(bytes) => (ItemKind::Blobs, bytes),
    });
    let sent = SentCall {
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
    let mut outcome = run_map(rpc, sent, items, Envelope::of(&metadata, &extensions)).await?;
    let results = match outcome.context.kind {
        ItemKind::Values => Results::Values(outcome.results),
        ItemKind::Blobs => Results::Blobs(outcome.results),
    };
    outcome.record.succeed();
    let content_type = outcome.content_type;
    let mut response = Response::new(v1::MapResponse { content_type, errors: outcome.errors, results: Some(results) });
    response.extensions_mut().insert(outcome.held);
    Ok(response)
}

/// What a Map or StarMap came to.
pub(super) struct MapOutcome {
    pub(super) context: CallContext,
    pub(super) record: CallRecord,
    /// Of the items and the results.
    pub(super) content_type: String,
    /// The encoded list of results.
    pub(super) results: Bytes,
    pub(super) errors: Vec<v1::ItemError>,
    /// What all of this takes, to go with the response.
    pub(super) held: HeldByResponse,
}

/// Runs a Map or StarMap, and checks that one message can hold its results.
pub(super) async fn run_map(
    rpc: &PoolRpc,
    mut sent: SentCall,
    mut items: SentItems,
    envelope: Envelope,
) -> Result<MapOutcome, Status> {
    separate(&mut items, &mut sent.common);
    let style = sent.style;
    let kind = items.as_ref().map(|(kind, _)| *kind);
    let mut record = CallRecord::new(sent.method, rpc, &envelope);
    let checked = check_call(rpc, sent, kind, envelope, &mut record)?;
    let context = checked.context;
    let items = check_items(items, style, 0, &context).map_err(|error| record.fail(error))?;
    record.set_items(items.len() as u64);

    let content_type = checked.call.content_type.clone();
    let mapped = rpc.pools.map(rpc.with_answer_limit(checked.call), items).await;
    let output = mapped.map_err(|error| record.fail(status::call_failed(&error, &context)))?;
    let mut debug_budget = status::debug_budget(rpc.max_message_bytes);
    let errors = output.errors.iter().map(|error| status::item_failed(error, &context, &mut debug_budget)).collect();
    // Before anything is copied. The response of StarMap has the same fields.
    let beside = v1::MapResponse { content_type, errors, results: None };
    let num_bytes = output.parts.iter().map(Bytes::len).sum();
    let message_bytes = beside.encoded_len() + 1 + prost::length_delimiter_len(num_bytes) + num_bytes;
    rpc.check_response_size(message_bytes, &context).map_err(|error| record.fail(error))?;
    let (results, held) = (lay_end_to_end(output.parts), HeldByResponse::new(output.held));
    Ok(MapOutcome { content_type: beside.content_type, results, errors: beside.errors, held, context, record })
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

impl PoolRpc {
    /// Has a call fail as soon as its results are more than a message can hold.
    pub(super) fn with_answer_limit(&self, mut call: Call) -> Call {
        call.max_answer_bytes = Some(self.max_message_bytes.into());
        call
    }

    /// Refuses a response that is over the limit, before the library does so in words of its own.
    pub(super) fn check_response_size(&self, bytes: usize, context: &CallContext) -> Result<(), Status> {
        if bytes <= self.max_message_bytes as usize {
            return Ok(());
        }
        Err(status::response_too_large(bytes as u64, u64::from(self.max_message_bytes), context))
    }
}
