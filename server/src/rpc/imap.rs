//! IMap: a function over every item, the results as a stream.

use async_stream::stream;
use bytes::Bytes;
use futures_util::StreamExt as _;
use procpool_items::ItemKind;
use procpool_pool::{CallError, CallStyle, ResultRun, ResultStream};
use procpool_proto::v1;
use prost::Message as _;
use tonic::{Request, Response, Status};

use super::encoded::Encoded;
use super::error_context::Method;
use super::pool_rpc::{Messages, PoolRpc};
use super::request_metadata::RequestMetadata;
use super::result_messages::{MessageCutter, ResultMessage, padding as padding_of};
use super::status;
use super::validate::{UncheckedCall, check_whole, separate};

pub(super) async fn imap(
    rpc: &PoolRpc,
    request: Request<v1::IMapRequest>,
) -> Result<Response<Messages<v1::IMapResponse>>, Status> {
    let (metadata, extensions, request) = request.into_parts();
    let v1::IMapRequest { function, content_type, options, order, window, star, items, common } = request;
    let mut items = items.map(Encoded::from);
    let mut unchecked = UncheckedCall {
        method: Method::IMap,
        style: if star { CallStyle::Star } else { CallStyle::Map },
        function,
        content_type,
        common: common.map(Encoded::from),
        options,
        stream: Some((order, window)),
    };
    separate(&mut items, &mut unchecked.common);
    let metadata = RequestMetadata::of(&metadata, &extensions);
    let (checked, items, mut entry) = check_whole(rpc, unchecked, items, metadata)?;
    let context = checked.context;

    let kind = context.kind;
    let content_type = checked.call.content_type.clone();
    let cutter = MessageCutter::new(context, checked.call.options.on_error, rpc.max_message_bytes);
    let started = rpc.pools.imap(checked.call, items, checked.stream).await;
    let mut results = started.map_err(|error| entry.fail(status::call_failed(&error, cutter.context())))?;
    // The headers commit the call: until the first result comes, a failure may still be one that is safe to retry.
    let mut next_run = match next_run(&mut results).await {
        Some(Err(error)) => return Err(entry.fail(status::call_failed(&error, cutter.context()))),
        first => first,
    };

    let messages = stream! {
        let mut delivered = 0;
        while let Some(run) = next_run {
            let mut run = match run {
                Ok(run) => run,
                Err(error) => {
                    yield Err(entry.fail(status::call_failed(&error, cutter.context())));
                    return;
                }
            };
            let mut held = std::mem::take(&mut run.held);
            for message in cutter.cut(run, kind) {
                let message = match message {
                    Ok(message) => message,
                    Err(error) => {
                        yield Err(entry.fail(error));
                        return;
                    }
                };
                let num_bytes = message.num_bytes;
                delivered += message.count;
                entry.set_items(delivered);
                yield Ok(response(message, kind, &content_type));
                // The transport asks for more, so it has taken this one.
                held.give_back(num_bytes);
                results.set_taken(delivered);
            }
            drop(held);
            next_run = self::next_run(&mut results).await;
        }
        entry.succeed();
    };
    Ok(Response::new(messages.boxed()))
}

/// Waits for more results; passes over what only changes the allowance.
async fn next_run(results: &mut ResultStream) -> Option<Result<ResultRun, CallError>> {
    loop {
        match results.next().await? {
            Ok(output) => {
                if let Some(run) = output.run {
                    return Some(Ok(run));
                }
            }
            Err(error) => return Some(Err(error)),
        }
    }
}

fn response(message: ResultMessage, kind: ItemKind, content_type: &str) -> v1::IMapResponse {
    let ResultMessage { first_index, indexes, results, errors, .. } = message;
    let content_type = content_type.to_owned();
    let (results, padding) = (Some(Encoded { kind, bytes: results }.into()), Bytes::new());
    let response = v1::IMapResponse { first_index, indexes, results, content_type, errors, padding };
    v1::IMapResponse { padding: padding_of(response.encoded_len()), ..response }
}
