//! Apply: one function, once, with positional and keyword arguments.

use procpool_items::ItemKind;
use procpool_pool::{Apply, ApplyOutput, CallStyle};
use procpool_proto::v1;
use procpool_proto::v1::apply_request::Args;
use procpool_proto::v1::apply_response::Result as ApplyResult;
use prost::Message as _;
use tonic::{Request, Response, Status};

use super::call_log::CallRecord;
use super::context::{Envelope, Method};
use super::response_body::HeldByResponse;
use super::validate::{SentCall, SentItems, check_call, check_items};
use super::{PoolRpc, status};

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
    let sent = SentCall {
        method: Method::Apply,
        style: CallStyle::Apply,
        function,
        content_type,
        common: None,
        options,
        stream: None,
    };
    let envelope = Envelope::of(&metadata, &extensions);
    let mut record = CallRecord::new(Method::Apply, rpc, &envelope);
    let checked = check_call(rpc, sent, kind, envelope, &mut record)?;
    let context = checked.context;
    let args = check_items(sent_args, CallStyle::Apply, 0, &context).map_err(|error| record.fail(error))?;
    record.set_items(1);

    let content_type = checked.call.content_type.clone();
    let applied = rpc.pools.apply(rpc.with_answer_limit(checked.call), Apply { args, kwargs }).await;
    let ApplyOutput { result, held } = applied.map_err(|error| record.fail(status::call_failed(&error, &context)))?;
    let result = match context.kind {
        ItemKind::Values => ApplyResult::Value(result),
        ItemKind::Blobs => ApplyResult::Blob(result),
    };
    let response = v1::ApplyResponse { content_type, result: Some(result) };
    rpc.check_response_size(response.encoded_len(), &context).map_err(|error| record.fail(error))?;
    record.succeed();
    let mut response = Response::new(response);
    response.extensions_mut().insert(HeldByResponse::new(held));
    Ok(response)
}
