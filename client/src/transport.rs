//! The channel that all requests go through: tonic's, and two things that tonic does not do.
//!
//! A response whose `grpc-status-details-bin` is not base64 makes tonic panic; here the header is taken out first.
//! And when the reader of a bidirectional call goes away, hyper resets the stream only once the request body ends too;
//! here the body ends in an error as soon as the call is stopped, so that the server learns of it at once.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use http_body_util::combinators::MapFrame;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::body::Body;
use tonic::transport::Channel;
use tower::Service;

const DETAILS_HEADER: &str = "grpc-status-details-bin";

/// What tonic accepts.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_encode_padding(false).with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// An extension of a request: its body ends in an error when the token is cancelled.
#[derive(Debug, Clone)]
pub(crate) struct StopBody(pub(crate) CancellationToken);

/// A channel that does not panic on malformed details, and resets the stream of a stopped call at once.
#[derive(Debug, Clone)]
pub(crate) struct Transport(pub(crate) Channel);

type ResponseBody = MapFrame<Body, fn(Frame<Bytes>) -> Frame<Bytes>>;

impl Service<http::Request<Body>> for Transport {
    type Response = http::Response<ResponseBody>;
    type Error = tonic::transport::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        if let Some(StopBody(token)) = request.extensions_mut().remove() {
            request = request.map(|body| Body::new(StoppableBody { body, stopped: Box::pin(token.cancelled_owned()) }));
        }
        let response = self.0.call(request);
        Box::pin(async move {
            let mut response = response.await?;
            remove_malformed_details(response.headers_mut());
            Ok(response.map(|body| body.map_frame(check_trailers as fn(Frame<Bytes>) -> Frame<Bytes>)))
        })
    }
}

fn check_trailers(mut frame: Frame<Bytes>) -> Frame<Bytes> {
    if let Some(trailers) = frame.trailers_mut() {
        remove_malformed_details(trailers);
    }
    frame
}

fn remove_malformed_details(headers: &mut HeaderMap) {
    if headers.get(DETAILS_HEADER).is_some_and(|details| BASE64.decode(details.as_bytes()).is_err()) {
        headers.remove(DETAILS_HEADER);
    }
}

/// A request body that can be stopped.
struct StoppableBody {
    body: Body,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl http_body::Body for StoppableBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.stopped.as_mut().poll(context).is_ready() {
            // hyper finds the reason in the error and resets the stream with it.
            return Poll::Ready(Some(Err(h2::Error::from(h2::Reason::CANCEL).into())));
        }
        Pin::new(&mut self.body).poll_frame(context).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_malformed_details_are_removed() {
        for (details, stays) in
            [("CAUSBG5vcGU", true), ("CAUSBG5vcGU=", true), ("", true), ("not base64!", false), ("A", false)]
        {
            let mut headers = HeaderMap::new();
            headers.insert(DETAILS_HEADER, HeaderValue::from_static(details));
            remove_malformed_details(&mut headers);
            assert_eq!(headers.contains_key(DETAILS_HEADER), stays, "{details:?}");
        }
    }
}
