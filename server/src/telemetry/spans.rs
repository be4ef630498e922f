//! Spans: one for each call, continued from the caller's trace, and below it one for each chunk, which the worker can
//! continue.

use std::collections::HashMap;

use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{
    Span as _, SpanContext, SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span};
use procpool_pool::{ChunkEnd, ChunkStart, TraceContext};
use tonic::Code;

use super::labels;

/// Starts spans.
#[derive(Debug)]
pub(super) struct Spans {
    tracer: SdkTracer,
    propagator: TraceContextPropagator,
}

/// The span of a call, to which handlers add attributes.
#[derive(Debug, Clone)]
pub(crate) struct CallSpan(Context);

impl Spans {
    pub(super) fn new(provider: &SdkTracerProvider) -> Self {
        let tracer = provider.tracer("procpool");
        Self { tracer, propagator: TraceContextPropagator::new() }
    }

    /// Starts the span of a call to `service/method`.
    pub(super) fn start_call(&self, method: &str, caller: &TraceContext) -> CallSpan {
        let (service, name) = method.split_once('/').unwrap_or(("", method));
        let attributes = [
            KeyValue::new("rpc.system", "grpc"),
            KeyValue::new("rpc.service", service.to_owned()),
            KeyValue::new("rpc.method", name.to_owned()),
        ];
        let builder = self.tracer.span_builder(method.to_owned()).with_kind(SpanKind::Server);
        let span = builder.with_attributes(attributes).start_with_context(&self.tracer, &self.parent(caller));
        CallSpan(Context::new().with_span(span))
    }

    /// Starts the span of a chunk, below the one of its call; returns it and what continues the trace from there.
    pub(super) fn start_chunk(&self, chunk: &ChunkStart<'_>, pool: &Value) -> (Span, TraceContext) {
        let attributes = [
            KeyValue::new("procpool.pool", pool.clone()),
            KeyValue::new("procpool.function", chunk.function.to_owned()),
            KeyValue::new("procpool.chunk.first_index", signed(chunk.first_index)),
            KeyValue::new("procpool.chunk.count", i64::from(chunk.count)),
            KeyValue::new("procpool.slot", i64::from(chunk.slot)),
            KeyValue::new("procpool.worker.pid", i64::from(chunk.pid)),
            KeyValue::new("procpool.attempt", i64::from(chunk.attempt)),
        ];
        let builder = self.tracer.span_builder(format!("run {}", chunk.function)).with_kind(SpanKind::Internal);
        let span = builder.with_attributes(attributes).start_with_context(&self.tracer, &self.parent(chunk.trace));
        let context = trace_context(span.span_context());
        (span, context)
    }

    fn parent(&self, trace: &TraceContext) -> Context {
        let TraceContext { traceparent, tracestate } = trace;
        let headers = [("traceparent", traceparent), ("tracestate", tracestate)];
        let headers: HashMap<_, _> = headers.map(|(name, value)| (name.to_owned(), value.clone())).into();
        self.propagator.extract_with_context(&Context::new(), &headers)
    }
}

/// Ends the span of a chunk.
pub(super) fn end_chunk(mut span: Span, end: &ChunkEnd<'_>) {
    let outcome = labels::chunk_outcome(end.outcome, end.num_failed);
    span.set_attribute(KeyValue::new("procpool.outcome", outcome));
    span.set_attribute(KeyValue::new("procpool.chunk.finished", i64::from(end.num_finished)));
    span.set_attribute(KeyValue::new("procpool.chunk.failed", i64::from(end.num_failed)));
    span.set_attribute(KeyValue::new("procpool.chunk.busy_seconds", end.busy.as_secs_f64()));
    if end.num_failed > 0 || end.outcome == procpool_pool::ChunkOutcome::WorkerLost {
        span.set_status(Status::error(outcome));
    }
    span.end();
}

impl CallSpan {
    /// Returns what continues the trace from here.
    pub(crate) fn trace_context(&self) -> TraceContext {
        trace_context(self.0.span().span_context())
    }

    /// Adds the function and the caller's name for the call.
    pub(crate) fn describe(&self, function: &str, request_id: &str) {
        let span = self.0.span();
        if span.is_recording() {
            span.set_attribute(KeyValue::new("procpool.function", function.to_owned()));
            if !request_id.is_empty() {
                span.set_attribute(KeyValue::new("procpool.request_id", request_id.to_owned()));
            }
        }
    }

    /// Ends the span.
    pub(super) fn end(&self, code: Code) {
        let span = self.0.span();
        span.set_attribute(KeyValue::new("rpc.grpc.status_code", i64::from(code as i32)));
        // The other codes report what the caller did wrong.
        let is_servers = matches!(
            code,
            Code::Unknown
                | Code::DeadlineExceeded
                | Code::Unimplemented
                | Code::Internal
                | Code::Unavailable
                | Code::DataLoss
        );
        if is_servers {
            span.set_status(Status::error(procpool_proto::code_name(code)));
        }
        span.end();
    }
}

/// Returns a span's context in the form of the W3C headers.
fn trace_context(span: &SpanContext) -> TraceContext {
    if !span.is_valid() {
        return TraceContext::default();
    }
    TraceContext {
        traceparent: format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), span.trace_flags()),
        tracestate: span.trace_state().header(),
    }
}

/// Attributes have no unsigned numbers.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
