//! The layer that measures and traces every call to one of our methods.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use tonic::Status;
use tonic::body::Body;
use tower::{ServiceExt as _, service_fn};

use super::status::refusal_reason;
use crate::listener::{HttpService, RequestStream};
use crate::telemetry::{CallTelemetry, Telemetry};

/// Measures and traces each call, if there is telemetry.
pub(super) fn layer<S: HttpService<RequestStream>>(
    inner: S,
    telemetry: Option<Telemetry>,
) -> impl HttpService<RequestStream> {
    service_fn(move |mut request: Request<RequestStream>| {
        let inner = inner.clone();
        let call = telemetry.as_ref().and_then(|telemetry| telemetry.start_call(&mut request));
        async move {
            let response = inner.oneshot(request).await?;
            Ok(match call {
                Some(call) => follow(call, response),
                None => response,
            })
        }
    })
}

/// Ends the call when its response ends.
fn follow(mut call: CallTelemetry, response: Response<Body>) -> Response<Body> {
    if let Some(status) = Status::from_header_map(response.headers()) {
        // It ended before it had said anything.
        call.end(status.code(), refusal_reason(&status));
        return response;
    }
    response.map(|inner| Body::new(MeasuredBody { inner, call }))
}

/// A response body that ends its call with the status in its trailers.
struct MeasuredBody {
    inner: Body,
    call: CallTelemetry,
}

impl http_body::Body for MeasuredBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(http_body::Body::poll_frame(Pin::new(&mut self.inner), context));
        let status = match &frame {
            Some(Ok(frame)) => frame.trailers_ref().and_then(Status::from_header_map),
            Some(Err(status)) => Some(status.clone()),
            None => None,
        };
        if let Some(status) = status {
            self.call.end(status.code(), refusal_reason(&status));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
}
