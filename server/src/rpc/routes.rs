//! The services of the public port, by name.
//!
//! The streams of all services but the pool's end with the server, or at the call's deadline: a watch that is open delays
//! nothing. The pool ends its own.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use procpool_proto::v1::pool_admin_service_server::PoolAdminServiceServer;
use procpool_proto::v1::pool_service_server::{PoolServiceServer, SERVICE_NAME};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::util::BoxCloneSyncService;
use tower::{ServiceExt as _, service_fn};

use super::admin::AdminRpc;
use super::body::RequestBody;
use super::deadline::{Deadline, reached};
use super::pool_rpc::PoolRpc;
use super::{health, reflection, status};
use crate::lifecycle::Lifecycle;
use crate::listener::HttpService;

/// The library's own limits must be out of reach of ours.
const LIBRARY_LIMIT_BYTES: usize = u32::MAX as usize;

/// A service beside the pool, and its name.
type SideService = (&'static str, BoxCloneSyncService<Request<RequestBody>, Response<Body>, Infallible>);

/// Returns the service that hands each request to the one that it names.
pub(super) fn routes(rpc: PoolRpc, health: health::Service, lifecycle: &Lifecycle) -> impl HttpService<RequestBody> {
    let admin = AdminRpc { pools: rpc.pools.clone(), drain_requested: lifecycle.drain_requested.clone() };
    let pool = PoolServiceServer::new(rpc)
        .max_decoding_message_size(LIBRARY_LIMIT_BYTES)
        .max_encoding_message_size(LIBRARY_LIMIT_BYTES);
    let side_services: Arc<[SideService]> = Arc::new([
        side_service(health),
        side_service(PoolAdminServiceServer::new(admin)),
        side_service(reflection::v1()),
        side_service(reflection::v1alpha()),
    ]);
    let closing = lifecycle.closing.clone();
    service_fn(move |request: Request<RequestBody>| {
        let (pool, side_services, closing) = (pool.clone(), Arc::clone(&side_services), closing.clone());
        async move {
            let service_name = service_of(request.uri().path());
            if service_name == SERVICE_NAME {
                return pool.oneshot(request).await;
            }
            let Some((_, service)) = side_services.iter().find(|(name, _)| *name == service_name) else {
                return Ok(status::no_such_method().into_http());
            };
            let deadline = request.extensions().get::<Deadline>().and_then(|deadline| deadline.server);
            let response = service.clone().oneshot(request).await?;
            let end = Box::pin(end_of_stream(deadline, closing));
            Ok(response.map(|inner| Body::new(BoundedBody { inner, end, is_ended: false })))
        }
    })
}

/// Waits until a stream must end, and returns the error that says why.
async fn end_of_stream(deadline: Option<Instant>, closing: CancellationToken) -> Status {
    tokio::select! {
        () = closing.cancelled() => status::shutting_down(),
        () = reached(deadline) => status::deadline_exceeded("running"),
    }
}

fn side_service<S: HttpService<RequestBody> + NamedService>(service: S) -> SideService {
    (S::NAME, BoxCloneSyncService::new(service))
}

/// Returns the service of a method, whose path is `/service/method`.
pub(super) fn service_of(path: &str) -> &str {
    path.strip_prefix('/').and_then(|path| path.split_once('/')).map_or("", |(name, _)| name)
}

/// A response body that ends with an error when `end` says so, if it has not ended by then.
struct BoundedBody<E> {
    inner: Body,
    end: Pin<Box<E>>,
    is_ended: bool,
}

impl<E: Future<Output = Status>> http_body::Body for BoundedBody<E> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.is_ended {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = http_body::Body::poll_frame(Pin::new(&mut self.inner), context) {
            return Poll::Ready(frame);
        }
        let error = ready!(self.end.as_mut().poll(context));
        self.is_ended = true;
        let mut trailers = http::HeaderMap::new();
        Poll::Ready(Some(error.add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_ended || self.inner.is_end_stream()
    }
}
