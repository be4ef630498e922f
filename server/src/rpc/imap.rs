//! IMap: a function over every item, the results as a stream.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use procpool_items::{Encoded, ItemKind};
use procpool_pool::CallStyle;
use procpool_proto::v1;
use prost::Message as _;
use tonic::{Request, Response, Status};

use super::delivery::{Outputs, Progress, deliver};
use super::error_context::Method;
use super::pool_rpc::{Messages, PoolRpc};
use super::request_metadata::RequestMetadata;
use super::result_messages::{MessageCutter, ResultMessage, padding as padding_of};
use super::status;
use super::validate::{UncheckedCall, check_whole};

pub(super) async fn imap(
    rpc: &PoolRpc,
    request: Request<v1::IMapRequest>,
) -> Result<Response<Messages<v1::IMapResponse>>, Status> {
    let (metadata, request) = RequestMetadata::split(request);
    let v1::IMapRequest { function, content_type, options, order, window, star, items, common } = request;
    let style = if star { CallStyle::Star } else { CallStyle::Map };
    let common = common.map(Encoded::from);
    let mut unchecked = UncheckedCall::new(Method::IMap, style, function, content_type, options, common);
    unchecked.stream = Some((order, window));
    let (checked, items, mut entry) = check_whole(rpc, unchecked, items.map(Encoded::from), metadata)?;
    let context = checked.context;

    let kind = context.kind;
    let content_type = checked.call.content_type.clone();
    let cutter = MessageCutter::new(context, checked.call.options.on_error, rpc.max_message_bytes);
    let started = rpc.pools.imap(checked.call, items, checked.stream).await;
    let results = started.map_err(|error| entry.fail(status::call_failed(&error, cutter.context())))?;
    let progress = Progress { kind: OnceLock::from(kind), ..Progress::default() };
    let outputs = Outputs::new(results, Arc::new(progress), false, None);
    let respond = move |message, kind, _| response(message, kind, &content_type);
    deliver(outputs, cutter, entry, (), respond).await
}

fn response(message: Option<ResultMessage>, kind: ItemKind, content_type: &str) -> v1::IMapResponse {
    let ResultMessage { first_index, indexes, results, errors, .. } = message.unwrap_or_default();
    let content_type = content_type.to_owned();
    let (results, padding) = (Some(Encoded { kind, bytes: results }.into()), Bytes::new());
    let response = v1::IMapResponse { first_index, indexes, results, content_type, errors, padding };
    v1::IMapResponse { padding: padding_of(response.encoded_len()), ..response }
}
