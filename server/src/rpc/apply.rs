//! Apply: one function, once, with positional and keyword arguments.

use procpool_items::ItemKind;
use procpool_pool::{Apply, ApplyOutput, CallStyle};
use procpool_proto::v1;
use procpool_proto::v1::apply_request::Args;
use procpool_proto::v1::apply_response::Result as ApplyResult;
use prost::Message as _;
use tonic::{Request, Response, Status};

use super::error_context::Method;
use super::pool_rpc::PoolRpc;
use super::request_metadata::RequestMetadata;
use super::status;
use super::validate::{SentItems, UncheckedCall, check_call, check_items};
use crate::listener::hold_until_end;

pub(super) async fn apply(
    rpc: &PoolRpc,
    request: Request<v1::ApplyRequest>,
) -> Result<Response<v1::ApplyResponse>, Status> {
    let (metadata, extensions, request) = request.into_parts();
    let v1::ApplyRequest { function, content_type, kwargs, options, args } = request;
    let sent_args: SentItems = args.map(|args| match args {
        Args::Values(bytes) => (ItemKind::Values, bytes),
        Args::Blobs(bytes) => (ItemKind::Blobs, bytes),
    });
    let kind = sent_args.as_ref().map(|(kind, _)| *kind);
    let sent = UncheckedCall {
        method: Method::Apply,
        style: CallStyle::Apply,
        function,
        content_type,
        common: None,
        options,
        stream: None,
    };
    let metadata = RequestMetadata::of(&metadata, &extensions);
    let mut entry = rpc.log_entry(Method::Apply, &metadata);
    let checked = check_call(rpc, sent, kind, metadata, &mut entry)?;
    let context = checked.context;
    let args = check_items(sent_args, CallStyle::Apply, 0, &context).map_err(|error| entry.fail(error))?;
    entry.set_items(1);

    let content_type = checked.call.content_type.clone();
    let applied = rpc.pools.apply(rpc.with_answer_limit(checked.call), Apply { args, kwargs }).await;
    let ApplyOutput { result, held } = applied.map_err(|error| entry.fail(status::call_failed(&error, &context)))?;
    let result = match context.kind {
        ItemKind::Values => ApplyResult::Value(result),
        ItemKind::Blobs => ApplyResult::Blob(result),
    };
    let response = v1::ApplyResponse { content_type, result: Some(result) };
    rpc.check_response_size(response.encoded_len(), &context).map_err(|error| entry.fail(error))?;
    entry.succeed();
    let mut response = Response::new(response);
    hold_until_end(response.extensions_mut(), held);
    Ok(response)
}
