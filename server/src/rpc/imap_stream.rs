//! IMapStream: like IMap, but the items are a stream too.
//!
//! Two halves run side by side: a task forwards the client's items to the pool and waits while the pool's window is
//! full, and the response stream delivers results. They share [`Progress`].
//!
//! # Credit
//!
//! The pool runs a window ahead of the results *taken*. A client that sends `results_taken`, or has announced that it
//! will, says itself what it took; for any other, what the transport accepted counts. A client that counts results but
//! sends items beyond `items_allowed` would lock itself up: the items wait for room, and its counts wait behind the
//! items. While that is so, what the transport accepted counts for it too.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use procpool_items::{Encoded, ItemKind, ItemSlab};
use procpool_pool::{CallError, CallStyle, ItemSink};
use procpool_proto::v1;
use procpool_proto::v1::i_map_stream_request::Items;
use prost::Message as _;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::delivery::{Outputs, Progress, deliver};
use super::error_context::{ErrorContext, Method, list_field};
use super::pool_rpc::{Messages, PoolRpc};
use super::request_metadata::RequestMetadata;
use super::result_messages::{MessageCutter, ResultMessage, padding};
use super::status;
use super::validate::{UncheckedCall, check_call, check_items, content_type_problem, separate};

pub(super) async fn imap_stream(
    rpc: &PoolRpc,
    request: Request<Streaming<v1::IMapStreamRequest>>,
) -> Result<Response<Messages<v1::IMapStreamResponse>>, Status> {
    let (metadata, mut requests) = RequestMetadata::split(request);
    let mut entry = rpc.log_entry(Method::IMapStream, &metadata);
    let first = requests.message().await.map_err(|error| entry.fail(error))?;
    let (config, first) = first.and_then(|mut message| Some((message.config.take()?, message))).ok_or_else(|| {
        let missing = status::violation("config", "is required in the first message");
        entry.fail(status::invalid_argument(vec![missing], ""))
    })?;
    let v1::IMapStreamConfig { function, content_type, options, order, window, star, common, reports_taken } = config;
    let style = if star { CallStyle::Star } else { CallStyle::Map };
    // A copy: it may be needed for long, and should not keep the items in memory that came with it.
    let common = common
        .map(Encoded::from)
        .map(|Encoded { kind, bytes }| Encoded { kind, bytes: Bytes::copy_from_slice(&bytes) });
    let mut unchecked = UncheckedCall::new(Method::IMapStream, style, function, content_type, options, common);
    unchecked.stream = Some((order, window));
    let checked = check_call(rpc, unchecked, None, metadata, &mut entry)?;
    let context = checked.context;

    let content_type = checked.call.content_type.clone();
    let cutter = MessageCutter::new(context.clone(), checked.call.options.on_error, rpc.max_message_bytes);
    let started = rpc.pools.imap_stream(checked.call, checked.stream).await;
    let (sink, results) = started.map_err(|error| entry.fail(status::call_failed(&error, cutter.context())))?;

    let progress = Arc::new(Progress::default());
    let (fail_input, input_failed) = oneshot::channel();
    let ended = CancellationToken::new();
    let input = Input { context, style, content_type: content_type.clone(), progress: Arc::clone(&progress), sink };
    rpc.calls.spawn(input.forward(first, requests, fail_input, ended.clone()));

    let outputs = Outputs::new(results, progress, reports_taken, Some(input_failed));
    let respond = move |message, kind, allowed| response(message, kind, &content_type, allowed);
    deliver(outputs, cutter, entry, ended.drop_guard(), respond).await
}

/// The half that takes items.
struct Input {
    context: ErrorContext,
    style: CallStyle,
    content_type: String,
    progress: Arc<Progress>,
    sink: ItemSink,
}

impl Input {
    /// Forwards items to the pool until there are no more, or the response has ended.
    async fn forward(
        mut self,
        first: v1::IMapStreamRequest,
        mut requests: Streaming<v1::IMapStreamRequest>,
        failed: oneshot::Sender<Status>,
        ended: CancellationToken,
    ) {
        let forwarded = tokio::select! {
            () = ended.cancelled() => return,
            forwarded = self.forward_all(first, &mut requests) => forwarded,
        };
        match forwarded {
            Ok(Forwarded::All) => {
                tokio::select! {
                    () = ended.cancelled() => {}
                    () = self.sink.finish() => {}
                }
            }
            // The response stream reports why, and ends.
            Ok(Forwarded::JobEnded) => {}
            Err(status) => {
                // Dropping the sink cancels the job, and this error must come before the cancellation. If nobody takes
                // it, the response has ended already.
                let _ = failed.send(status);
                ended.cancelled().await;
            }
        }
    }

    async fn forward_all(
        &mut self,
        first: v1::IMapStreamRequest,
        requests: &mut Streaming<v1::IMapStreamRequest>,
    ) -> Result<Forwarded, Status> {
        let mut received = 0;
        let mut next = Some(first);
        while let Some(message) = next {
            self.check_message(&message)?;
            let items = self.check_items(message.items, received)?;
            let is_first = received == 0;
            received += items.len() as u64;
            match self.send(items, received).await {
                Ok(()) => {}
                Err(CallError::JobEnded | CallError::PoolGone) => return Ok(Forwarded::JobEnded),
                Err(refused) => return Err(status::items_refused(&refused, is_first, &self.context)),
            }
            next = requests.message().await.map_err(|error| status::with_details(&error))?;
        }
        Ok(Forwarded::All)
    }

    /// Checks everything but the items, and records what the client has taken.
    fn check_message(&self, message: &v1::IMapStreamRequest) -> Result<(), Status> {
        let invalid = |field, problem: String| {
            Err(status::invalid_argument(vec![status::violation(field, problem)], &self.context.request_id))
        };
        if message.config.is_some() {
            return invalid("config", "is allowed in the first message only".to_owned());
        }
        let taken = message.results_taken;
        let before = self.progress.credit.borrow().results_taken;
        let delivered = self.progress.delivered.load(Ordering::Acquire);
        if taken == 0 {
            return Ok(());
        }
        if taken < before {
            return invalid("results_taken", format!("{taken} is less than the {before} said before"));
        }
        if taken > delivered {
            return invalid("results_taken", format!("{taken} is more than the {delivered} results that were sent"));
        }
        self.progress.credit.send_modify(|credit| credit.results_taken = taken);
        Ok(())
    }

    fn check_items(&mut self, items: Option<Items>, received: u64) -> Result<ItemSlab, Status> {
        let mut items = items.map(Encoded::from);
        separate(&mut items, &mut None);
        if let Some(Encoded { kind, .. }) = items {
            let invalid = |field: &str, problem: String| {
                Err(status::invalid_argument(vec![status::violation(field, problem)], &self.context.request_id))
            };
            let before = *self.progress.kind.get_or_init(|| kind);
            if before != kind {
                let before = list_field(before);
                return invalid(
                    list_field(kind),
                    format!("all messages of a call must send {before}, as the first did"),
                );
            }
            if let Some(problem) = content_type_problem(kind, self.style, &self.content_type) {
                return invalid("config.content_type", problem.to_owned());
            }
            self.context.kind = kind;
        }
        check_items(items, self.style, received, &self.context)
    }

    /// Sends items to the pool; `received` is the number of items received so far.
    async fn send(&mut self, items: ItemSlab, received: u64) -> Result<(), CallError> {
        if items.is_empty() {
            return Ok(());
        }
        let is_overrun = received > self.progress.allowed.load(Ordering::Acquire);
        if !is_overrun {
            return self.sink.send(items).await;
        }
        self.progress.credit.send_modify(|credit| credit.is_overrun = true);
        let sent = self.sink.send(items).await;
        self.progress.credit.send_modify(|credit| credit.is_overrun = false);
        sent
    }
}

/// How the input of a call ended.
enum Forwarded {
    All,
    JobEnded,
}

/// Returns the response for a message, or one that only has `items_allowed`.
fn response(
    message: Option<ResultMessage>,
    kind: ItemKind,
    content_type: &str,
    items_allowed: u64,
) -> v1::IMapStreamResponse {
    let empty = v1::IMapStreamResponse { items_allowed, ..v1::IMapStreamResponse::default() };
    let response = match message {
        None => empty,
        Some(ResultMessage { first_index, indexes, results, errors, .. }) => {
            let results = Some(Encoded { kind, bytes: results }.into());
            let content_type = content_type.to_owned();
            v1::IMapStreamResponse { first_index, indexes, results, content_type, errors, ..empty }
        }
    };
    v1::IMapStreamResponse { padding: padding(response.encoded_len()), ..response }
}
