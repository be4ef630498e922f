//! What is known of a call besides its items: who asks for what, until when, and how it ended.

use http::HeaderMap;
use procpool_items::ItemKind;
use procpool_pool::TraceContext;
use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Status};

use super::deadline::Deadline;
use crate::telemetry::CallSpan;

/// Longer trace headers are ignored: W3C asks for 55 and 512 bytes.
const MAX_TRACEPARENT_BYTES: usize = 128;
const MAX_TRACESTATE_BYTES: usize = 512;

/// A method of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Apply,
    Map,
    StarMap,
    IMap,
    IMapStream,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Map => "Map",
            Self::StarMap => "StarMap",
            Self::IMap => "IMap",
            Self::IMapStream => "IMapStream",
        }
    }
}

/// What errors say of the call that they belong to.
#[derive(Debug, Clone)]
pub(crate) struct CallContext {
    /// The method that was called.
    pub(crate) method: Method,
    /// The function that was asked for.
    pub(crate) function: String,
    /// The caller's name for the call; may be empty.
    pub(crate) request_id: String,
    /// What the items are.
    pub(crate) kind: ItemKind,
}

impl CallContext {
    /// Returns the path of an item in the request.
    pub(crate) fn item_field(&self, index: u64) -> String {
        let list = list_field(self.kind);
        // The arguments of Apply are one item.
        if self.method == Method::Apply { list.to_owned() } else { format!("{list}[{index}]") }
    }
}

/// Returns the name of the field that holds items of this kind.
pub(crate) fn list_field(kind: ItemKind) -> &'static str {
    match kind {
        ItemKind::Values => "values",
        ItemKind::Blobs => "blobs",
    }
}

/// What came beside the request message.
#[derive(Debug, Clone)]
pub(crate) struct Envelope {
    /// When the pool gives up the call.
    pub(crate) deadline: Option<Instant>,
    /// What the pool continues: the trace of this call, or else the caller's.
    pub(crate) trace: TraceContext,
    /// The span of the call, if it is traced.
    pub(crate) span: Option<CallSpan>,
}

impl Envelope {
    /// Reads what the router and the client left for the handler.
    pub(crate) fn of(metadata: &MetadataMap, extensions: &Extensions) -> Self {
        let span = extensions.get::<CallSpan>();
        Self {
            deadline: extensions.get::<Deadline>().and_then(|deadline| deadline.pool),
            trace: span.map_or_else(|| trace_context(metadata.as_ref()), CallSpan::trace_context),
            span: span.cloned(),
        }
    }
}

/// Reads the caller's trace.
pub(crate) fn trace_context(headers: &HeaderMap) -> TraceContext {
    let text = |name, max_bytes| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.filter(|value| value.len() <= max_bytes).unwrap_or_default().to_owned()
    };
    TraceContext {
        traceparent: text("traceparent", MAX_TRACEPARENT_BYTES),
        tracestate: text("tracestate", MAX_TRACESTATE_BYTES),
    }
}

/// One call in progress. The server does not end while one lives; dropping it writes the call's line to the log.
#[derive(Debug)]
pub(crate) struct CallRecord {
    method: Method,
    function: String,
    request_id: String,
    items: u64,
    started_at: Instant,
    outcome: Outcome,
    _token: TaskTrackerToken,
}

#[derive(Debug)]
enum Outcome {
    /// Nobody said how the call ended, so its client went away, or it was given up with its stream.
    Dropped,
    Succeeded,
    Failed(Status),
}

impl CallRecord {
    /// Starts the record of a call that has come in.
    pub(crate) fn new(method: Method, token: TaskTrackerToken) -> Self {
        Self {
            method,
            function: String::new(),
            request_id: String::new(),
            items: 0,
            started_at: Instant::now(),
            outcome: Outcome::Dropped,
            _token: token,
        }
    }

    /// Says what was asked for, and what the caller calls it.
    pub(crate) fn set_names(&mut self, function: &str, request_id: &str) {
        function.clone_into(&mut self.function);
        request_id.clone_into(&mut self.request_id);
    }

    /// Returns the function that was asked for.
    pub(crate) fn function(&self) -> &str {
        &self.function
    }

    /// Returns what the caller calls it.
    pub(crate) fn request_id(&self) -> &str {
        &self.request_id
    }

    /// Says how many items were taken, or how many results a stream delivered.
    pub(crate) fn set_items(&mut self, items: u64) {
        self.items = items;
    }

    /// Says that the call succeeded.
    pub(crate) fn succeed(&mut self) {
        self.outcome = Outcome::Succeeded;
    }

    /// Says that the call failed, and hands the error on.
    pub(crate) fn fail(&mut self, status: Status) -> Status {
        self.outcome = Outcome::Failed(status.clone());
        status
    }
}

impl Drop for CallRecord {
    fn drop(&mut self) {
        let Self { method, function, request_id, items, started_at, outcome, .. } = self;
        let (rpc, elapsed) = (method.name(), started_at.elapsed());
        match outcome {
            Outcome::Succeeded => {
                tracing::debug!(rpc, function, items, ?elapsed, outcome = "ok", request_id, "call finished");
            }
            Outcome::Failed(status) => {
                let (outcome, error) = (status.code(), status.message());
                tracing::info!(rpc, function, items, ?elapsed, ?outcome, error, request_id, "call failed");
            }
            Outcome::Dropped => {
                tracing::info!(rpc, function, items, ?elapsed, outcome = "cancelled", request_id, "call cancelled");
            }
        }
    }
}
