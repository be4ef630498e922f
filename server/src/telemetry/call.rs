//! What is measured and traced of a call: from the arrival of its headers to the end of its answer, whatever ends it.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use opentelemetry::KeyValue;
use procpool_proto::v1::pool_service_server::SERVICE_NAME;
use prost::Message as _;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};

use super::{CallSpan, Shared, Telemetry, labels};
use crate::rpc::context::trace_context;
use crate::rpc::status::refusal_reason;

/// A call in progress. Dropping it without an end says that it was cancelled.
#[derive(Debug)]
pub(crate) struct ObservedCall {
    shared: Arc<Shared>,
    method: Arc<str>,
    started_at: Instant,
    span: Option<CallSpan>,
    is_ended: bool,
}

impl Telemetry {
    /// Starts to observe a call to one of our methods, and leaves its span in the request.
    pub(crate) fn start_call<B>(&self, request: &mut Request<B>) -> Option<ObservedCall> {
        let method = self.shared.methods.get(request.uri().path().strip_prefix('/')?)?;
        let spans = self.shared.spans.as_ref();
        let span = spans.map(|spans| spans.start_call(method, &trace_context(request.headers())));
        if let Some(span) = &span {
            request.extensions_mut().insert(span.clone());
        }
        let (shared, method) = (Arc::clone(&self.shared), Arc::clone(method));
        Some(ObservedCall { shared, method, started_at: Instant::now(), span, is_ended: false })
    }
}

impl ObservedCall {
    /// Follows the answer to its end.
    pub(crate) fn follow(mut self, response: Response<Body>) -> Response<Body> {
        if let Some(status) = Status::from_header_map(response.headers()) {
            // It ended before it had said anything.
            self.end_with(&status);
            return response;
        }
        response.map(|inner| Body::new(ObservedBody { inner, call: self }))
    }

    fn end_with(&mut self, status: &Status) {
        // Of the other services nothing is a demand for slots.
        let is_for_slots = self.method.split_once('/').is_some_and(|(service, _)| service == SERVICE_NAME);
        if let Some(reason) = refusal_reason(status).filter(|_| is_for_slots) {
            self.shared.instruments.refused.add(1, &[KeyValue::new("reason", reason)]);
        }
        self.end(status.code());
    }

    fn end(&mut self, code: Code) {
        if std::mem::replace(&mut self.is_ended, true) {
            return;
        }
        let labels = [KeyValue::new("method", Arc::clone(&self.method)), KeyValue::new("code", labels::code(code))];
        let instruments = &self.shared.instruments;
        instruments.calls.add(1, &labels);
        instruments.call_duration.record(self.started_at.elapsed().as_secs_f64(), &labels);
        if let Some(span) = &self.span {
            span.end(code);
        }
    }
}

impl Drop for ObservedCall {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

/// A response body that looks for the trailers that end it.
struct ObservedBody {
    inner: Body,
    call: ObservedCall,
}

impl http_body::Body for ObservedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(http_body::Body::poll_frame(Pin::new(&mut self.inner), context));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(status) = frame.trailers_ref().and_then(Status::from_header_map) {
                    self.call.end_with(&status);
                }
            }
            Some(Err(status)) => self.call.end_with(status),
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}

/// Returns the methods of our services, as `service/method`.
pub(super) fn served_methods() -> BTreeSet<Arc<str>> {
    let files = prost_types::FileDescriptorSet::decode(procpool_proto::FILE_DESCRIPTOR_SET);
    let files = files.expect("the descriptors were made by the build").file;
    let mut methods = BTreeSet::new();
    for file in &files {
        for service in &file.service {
            let names =
                service.method.iter().map(|method| format!("{}.{}/{}", file.package(), service.name(), method.name()));
            methods.extend(names.map(Arc::from));
        }
    }
    methods
}

#[cfg(test)]
mod tests {
    use super::served_methods;

    #[test]
    fn every_method_of_the_service_is_observed() {
        let methods = served_methods();
        for method in ["Apply", "Map", "StarMap", "IMap", "IMapStream", "ListFunctions"] {
            let method = format!("procpool.v1.PoolService/{method}");
            assert!(methods.contains(method.as_str()), "{method}");
        }
    }
}
