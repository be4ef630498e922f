//! Delivers the results of IMap and IMapStream: cuts what the pool delivers into messages, and tells the pool how much
//! the reader has taken.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use async_stream::stream;
use futures_util::StreamExt as _;
use procpool_items::ItemKind;
use procpool_pool::{ResultStream, StreamOutput};
use tokio::sync::{oneshot, watch};
use tonic::{Response, Status};

use super::call_log::CallLogEntry;
use super::error_context::ErrorContext;
use super::pool_rpc::Messages;
use super::result_messages::{MessageCutter, ResultMessage};
use super::status;

/// The state that the two halves of a call share.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The kind of the items; set before the first reaches the pool.
    pub(super) kind: OnceLock<ItemKind>,
    /// How many results were passed to the transport.
    pub(super) delivered: AtomicU64,
    /// The last `items_allowed` that was passed to the transport.
    pub(super) allowed: AtomicU64,
    pub(super) credit: watch::Sender<Credit>,
}

/// What the client reported to have taken.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Credit {
    /// 0 if it never reported anything.
    pub(super) results_taken: u64,
    /// It sent more items than `items_allowed`, and they wait for the window.
    pub(super) is_overrun: bool,
}

/// Streams the results. `respond` makes a message of some results, or of none, and of the number of items that the client
/// may send. `guard` is dropped when the response ends.
///
/// # Errors
///
/// If the call fails before there is anything to stream.
pub(super) async fn deliver<T: Send + 'static>(
    mut outputs: Outputs,
    cutter: MessageCutter,
    mut entry: CallLogEntry,
    guard: impl Send + 'static,
    respond: impl Fn(Option<ResultMessage>, ItemKind, u64) -> T + Send + 'static,
) -> Result<Response<Messages<T>>, Status> {
    // The headers commit the call: until the pool has accepted it, a failure may still be one that is safe to retry.
    let mut next = match outputs.next(cutter.context()).await {
        Some(Err(error)) => return Err(entry.fail(error)),
        first => first,
    };
    let messages = stream! {
        let _guard = guard;
        while let Some(output) = next {
            let StreamOutput { run, items_allowed } = match output {
                Ok(output) => output,
                Err(error) => {
                    yield Err(entry.fail(error));
                    return;
                }
            };
            outputs.progress.allowed.store(items_allowed, Ordering::Release);
            let kind = outputs.progress.kind.get().copied().unwrap_or(ItemKind::Values);
            let Some(mut run) = run else {
                yield Ok(respond(None, kind, items_allowed));
                next = outputs.next(cutter.context()).await;
                continue;
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
                outputs.delivering(message.count);
                entry.set_items(outputs.delivered);
                yield Ok(respond(Some(message), kind, items_allowed));
                // The transport asks for more, so it has taken this one.
                held.give_back(num_bytes);
                outputs.update_taken();
            }
            drop(held);
            next = outputs.next(cutter.context()).await;
        }
        entry.succeed();
    };
    Ok(Response::new(messages.boxed()))
}

/// The half that delivers results.
pub(super) struct Outputs {
    progress: Arc<Progress>,
    credit: watch::Receiver<Credit>,
    /// The client has announced that it reports what it takes.
    reports_taken: bool,
    /// The client gets messages without results that only update the number of items that it may send.
    tells_allowance: bool,
    results: ResultStream,
    /// `None` if the items came in one message, and once the input has ended without an error.
    input_failed: Option<oneshot::Receiver<Status>>,
    /// How many results were passed to the transport.
    delivered: u64,
    /// How many of them were reported to the pool as taken.
    taken: u64,
}

impl Outputs {
    /// Takes what the pool delivers. `input_failed` tells why the input ended, if the items are a stream too.
    pub(super) fn new(
        results: ResultStream,
        progress: Arc<Progress>,
        reports_taken: bool,
        input_failed: Option<oneshot::Receiver<Status>>,
    ) -> Self {
        let (credit, tells_allowance) = (progress.credit.subscribe(), input_failed.is_some());
        Self { progress, credit, reports_taken, tells_allowance, results, input_failed, delivered: 0, taken: 0 }
    }

    /// Waits for the pool's next output, and passes on credit meanwhile. `None` after the last.
    async fn next(&mut self, context: &ErrorContext) -> Option<Result<StreamOutput, Status>> {
        loop {
            tokio::select! {
                // A job that was cancelled because its input failed must not hide why.
                biased;
                failed = wait_for_failure(&mut self.input_failed) => return Some(Err(failed)),
                output = self.results.next() => match output {
                    Some(Ok(StreamOutput { run: None, .. })) if !self.tells_allowance => {}
                    output => return output.map(|output| output.map_err(|error| status::call_failed(&error, context))),
                },
                Ok(()) = self.credit.changed() => self.update_taken(),
            }
        }
    }

    /// Records that a message with this many results is passed to the transport.
    fn delivering(&mut self, count: u64) {
        self.delivered += count;
        // Before the message goes out, so that no count of the client's can come too early.
        self.progress.delivered.store(self.delivered, Ordering::Release);
    }

    /// Reports to the pool what the reader has taken. Only called when the transport has asked for more than was
    /// delivered.
    fn update_taken(&mut self) {
        let Credit { results_taken, is_overrun } = *self.credit.borrow_and_update();
        let counts_itself = (self.reports_taken || results_taken > 0) && !is_overrun;
        self.taken = self.taken.max(if counts_itself { results_taken } else { self.delivered });
        self.results.set_taken(self.taken);
    }
}

/// Waits for the input to fail; for ever if it ended without an error.
async fn wait_for_failure(input_failed: &mut Option<oneshot::Receiver<Status>>) -> Status {
    if let Some(receiver) = input_failed {
        if let Ok(status) = receiver.await {
            return status;
        }
        *input_failed = None;
    }
    std::future::pending().await
}
