//! The layer for requests that are not gRPC: they are answered with an HTTP status, and not counted as calls.

use std::future::poll_fn;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body as _;
use tonic::body::Body;
use tower::{ServiceExt as _, service_fn};

use crate::listener::{HttpService, RequestStream, Source};

/// How much of a refused request is read, and for how long.
const SMALL_BYTES: usize = 64 << 10;
const READ_TIMEOUT: Duration = Duration::from_secs(1);
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const GRPC: &str = "application/grpc";

/// Answers requests that are not gRPC.
pub(super) fn layer<S: HttpService<RequestStream>>(inner: S) -> impl HttpService<RequestStream> {
    service_fn(move |request: Request<RequestStream>| {
        let inner = inner.clone();
        async move {
            let Some(refused) = refuse(&request) else { return inner.oneshot(request).await };
            let is_head = *request.method() == Method::HEAD;
            read_if_small(request.into_body()).await;
            Ok(if is_head { without_body(refused) } else { refused })
        }
    })
}

/// Returns the answer to a request that is not gRPC; `None` if it is.
fn refuse<B>(request: &Request<B>) -> Option<Response<Body>> {
    if *request.method() != Method::POST {
        let mut refused = text(
            StatusCode::METHOD_NOT_ALLOWED,
            "this port speaks gRPC, whose calls are POST requests; pages for people and probes are at the address of \
             admin_listen\n",
        );
        refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return Some(refused);
    }
    if !is_grpc(request.headers()) {
        let what = "this port speaks gRPC: the content type of a request must be application/grpc\n";
        return Some(text(StatusCode::UNSUPPORTED_MEDIA_TYPE, what));
    }
    None
}

/// Reads a request that is refused, if it is small: some clients (curl) take an answer that comes before they have sent
/// all for an error of the connection.
async fn read_if_small(mut body: impl Source) {
    let mut left = SMALL_BYTES;
    let read = async {
        while left > 0 {
            let Some(Ok(data)) = poll_fn(|context| body.poll_data(context)).await else { return };
            left = left.saturating_sub(data.len());
        }
    };
    // After the timeout the rest is dropped.
    let _ = tokio::time::timeout(READ_TIMEOUT, read).await;
}

/// Tells whether the content type is `application/grpc`, perhaps with a codec or parameters. `application/grpc-web` is
/// another protocol.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    content_type.split_at_checked(GRPC.len()).is_some_and(|(start, rest)| {
        start.eq_ignore_ascii_case(GRPC.as_bytes()) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
    })
}

/// Returns an answer in plain text.
pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(Body::new(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, TEXT);
    response
}

/// Returns the answer to HEAD: what GET gets, without its body. No library leaves that out in HTTP/2.
pub(crate) fn without_body(mut response: Response<Body>) -> Response<Body> {
    if let Some(length) = response.body().size_hint().exact() {
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    response.map(|_| Body::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status_of(method: Method, content_type: Option<&str>) -> Option<StatusCode> {
        let mut request = Request::builder().method(method);
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        refuse(&request.body(()).unwrap()).map(|refused| refused.status())
    }

    #[test]
    fn what_is_no_grpc_is_told_so() {
        let post = |content_type| status_of(Method::POST, content_type);
        let grpc =
            ["application/grpc", "application/grpc+proto", "Application/GRPC", "application/grpc; charset=utf-8"];
        for content_type in grpc {
            assert_eq!(post(Some(content_type)), None, "{content_type}");
        }
        for content_type in ["text/html", "", "application/json", "application/grpc-web", "application/grp"] {
            assert_eq!(post(Some(content_type)), Some(StatusCode::UNSUPPORTED_MEDIA_TYPE), "{content_type}");
        }
        assert_eq!(post(None), Some(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        for method in [Method::GET, Method::HEAD, Method::PUT] {
            assert_eq!(status_of(method, Some("application/grpc")), Some(StatusCode::METHOD_NOT_ALLOWED));
        }
    }
}
