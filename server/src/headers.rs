//! What is read from the headers of a request, within bounds: text, and the caller's trace.

use http::HeaderMap;
use procpool_pool::TraceContext;

/// Longer trace headers are ignored: W3C asks for 55 and 512 bytes.
const MAX_TRACEPARENT_BYTES: usize = 128;
const MAX_TRACESTATE_BYTES: usize = 512;

/// Returns the value of a header; empty if it is missing, too long or not text.
pub(crate) fn text(headers: &HeaderMap, name: &str, max_bytes: usize) -> String {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.filter(|value| value.len() <= max_bytes).unwrap_or_default().to_owned()
}

/// Returns the caller's trace.
pub(crate) fn trace_context(headers: &HeaderMap) -> TraceContext {
    TraceContext {
        traceparent: text(headers, "traceparent", MAX_TRACEPARENT_BYTES),
        tracestate: text(headers, "tracestate", MAX_TRACESTATE_BYTES),
    }
}
