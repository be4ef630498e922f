//! What comes beside a request message: the caller, its deadline, its trace.

use procpool_pool::TraceContext;
use tokio::time::Instant;
use tonic::Request;

use super::deadline::Deadline;
use crate::headers;
use crate::peer::Peer;
use crate::telemetry::CallSpan;

/// Longer than any that a server gives out.
const MAX_CALLER_POOL_BYTES: usize = 512;
/// The longest name that a caller may give to a call.
pub(super) const MAX_REQUEST_ID_BYTES: usize = 128;

/// What came beside the request message.
#[derive(Debug, Clone)]
pub(crate) struct RequestMetadata {
    /// When the pool gives up the call.
    pub(crate) deadline: Option<Instant>,
    /// The trace that the pool continues: that of this call, or else the caller's.
    pub(crate) trace: TraceContext,
    /// The span of the call, if it is traced.
    pub(crate) span: Option<CallSpan>,
    /// The other end of the connection.
    pub(crate) peer: Option<Peer>,
    /// The header `x-request-id`, for calls that have no name in their options; may be empty.
    pub(crate) request_id: String,
    /// The [`crate::NamedPool::caller_id`] of the pool that the caller is an item of; empty if it is none.
    pub(crate) caller_pool: String,
}

impl RequestMetadata {
    /// Splits a request into its message, and what the layers and the client left beside it for the handler.
    pub(crate) fn split<M>(request: Request<M>) -> (Self, M) {
        let (metadata, extensions, message) = request.into_parts();
        let span = extensions.get::<CallSpan>();
        let metadata = Self {
            deadline: extensions.get::<Deadline>().and_then(|deadline| deadline.pool),
            trace: span.map_or_else(|| headers::trace_context(metadata.as_ref()), CallSpan::trace_context),
            span: span.cloned(),
            peer: extensions.get::<Peer>().copied(),
            request_id: headers::text(metadata.as_ref(), "x-request-id", MAX_REQUEST_ID_BYTES),
            caller_pool: headers::text(metadata.as_ref(), "procpool-caller-pool", MAX_CALLER_POOL_BYTES),
        };
        (metadata, message)
    }
}

/// Returns the number of a W3C trace in hex digits; empty if there is none.
pub(crate) fn trace_id(trace: &TraceContext) -> &str {
    trace.traceparent.split('-').nth(1).unwrap_or_default()
}
