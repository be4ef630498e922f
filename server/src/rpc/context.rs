//! What is known of a call besides its items: who asks for what, and until when.

use procpool_items::ItemKind;
use procpool_pool::TraceContext;
use tokio::time::Instant;
use tonic::Extensions;
use tonic::metadata::MetadataMap;

use super::deadline::Deadline;
use crate::headers;
use crate::peer::Peer;
use crate::telemetry::CallSpan;

/// Longer than any that a server gives out.
const MAX_CALLER_POOL_BYTES: usize = 512;
/// The longest name that a caller may give to a call.
pub(crate) const MAX_REQUEST_ID_BYTES: usize = 128;

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
    /// Returns its name in the API.
    pub(crate) fn name(self) -> &'static str {
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
pub(crate) struct ErrorContext {
    /// The method that was called.
    pub(crate) method: Method,
    /// The function that was asked for.
    pub(crate) function: String,
    /// The caller's name for the call; may be empty.
    pub(crate) request_id: String,
    /// What the items are.
    pub(crate) kind: ItemKind,
    /// The path of the common argument in the request, if there is one.
    pub(crate) common_field: Option<String>,
}

impl ErrorContext {
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

/// Returns the name of the field that holds a common argument of this kind.
pub(crate) fn common_field(kind: ItemKind) -> &'static str {
    match kind {
        ItemKind::Values => "common_value",
        ItemKind::Blobs => "common_blob",
    }
}

/// What came beside the request message.
#[derive(Debug, Clone)]
pub(crate) struct RequestMetadata {
    /// When the pool gives up the call.
    pub(crate) deadline: Option<Instant>,
    /// What the pool continues: the trace of this call, or else the caller's.
    pub(crate) trace: TraceContext,
    /// The span of the call, if it is traced.
    pub(crate) span: Option<CallSpan>,
    /// Who calls.
    pub(crate) peer: Option<Peer>,
    /// The header `x-request-id`, for calls that have no name in their options; may be empty.
    pub(crate) request_id: String,
    /// The pool that the caller is an item of, as [`crate::NamedPool::caller_id`]; empty if it is none.
    pub(crate) caller_pool: String,
}

impl RequestMetadata {
    /// Reads what the router and the client left for the handler.
    pub(crate) fn of(metadata: &MetadataMap, extensions: &Extensions) -> Self {
        let span = extensions.get::<CallSpan>();
        Self {
            deadline: extensions.get::<Deadline>().and_then(|deadline| deadline.pool),
            trace: span.map_or_else(|| headers::trace_context(metadata.as_ref()), CallSpan::trace_context),
            span: span.cloned(),
            peer: extensions.get::<Peer>().copied(),
            request_id: headers::text(metadata.as_ref(), "x-request-id", MAX_REQUEST_ID_BYTES),
            caller_pool: headers::text(metadata.as_ref(), "procpool-caller-pool", MAX_CALLER_POOL_BYTES),
        }
    }
}

/// Returns the number of a W3C trace in hex digits; empty if there is none.
pub(crate) fn trace_id(trace: &TraceContext) -> &str {
    trace.traceparent.split('-').nth(1).unwrap_or_default()
}
