//! Apply: one function, once, with positional and keyword arguments.

use procpool_items::Encoded;
use procpool_pool::{Apply, ApplyOutput, CallStyle};
use procpool_proto::v1;
use prost::Message as _;
use tonic::{Request, Response, Status};

use super::error_context::Method;
use super::pool_rpc::PoolRpc;
use super::request_metadata::RequestMetadata;
use super::status;
use super::validate::{UncheckedCall, check_whole};
use crate::listener::hold_until_end;

pub(super) async fn apply(
    rpc: &PoolRpc,
    request: Request<v1::ApplyRequest>,
) -> Result<Response<v1::ApplyResponse>, Status> {
    let (metadata, request) = RequestMetadata::split(request);
    let v1::ApplyRequest { function, content_type, kwargs, options, args } = request;
    let unchecked = UncheckedCall::new(Method::Apply, CallStyle::Apply, function, content_type, options, None);
    let (checked, args, mut entry) = check_whole(rpc, unchecked, args.map(Encoded::from), metadata)?;
    let context = checked.context;
    entry.set_items(1);

    let content_type = checked.call.content_type.clone();
    let applied = rpc.pools.apply(rpc.with_answer_limit(checked.call), Apply { args, kwargs }).await;
    let ApplyOutput { result, held } = applied.map_err(|error| entry.fail(status::call_failed(&error, &context)))?;
    let result = Encoded { kind: context.kind, bytes: result };
    let response = v1::ApplyResponse { content_type, result: Some(result.into()) };
    rpc.check_response_size(response.encoded_len(), &context).map_err(|error| entry.fail(error))?;
    entry.succeed();
    let mut response = Response::new(response);
    hold_until_end(response.extensions_mut(), held);
    Ok(response)
}
