//! What every request passes, whichever service it is for: a bound on the calls in progress, limits on its body, its
//! deadline, and on the way back the details that every error has, and a body that is watched.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use procpool_proto::v1::pool_admin_service_server::PoolAdminServiceServer;
use procpool_proto::v1::pool_service_server::PoolServiceServer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Code, Status};
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt as _};

use super::admin::AdminRpc;
use super::body::{BodyLimits, LimitedBody};
use super::deadline::Deadline;
use super::{PoolRpc, health, not_grpc, reflection, response_body, status, telemetry_layer};
use crate::byte_budget::ByteBudget;
use crate::config::ServerConfig;
use crate::lifecycle::{CALL, Lifecycle};
use crate::listener::RequestStream;
use crate::operators::Operators;
use crate::peer::Peer;
use crate::telemetry::Telemetry;

/// The most calls of operators at a time. They have places of their own: when others have taken theirs, somebody should be
/// able to look, and to do something.
const MAX_ADMIN_CALLS: u32 = 256;
/// How long a request may take to come when the server drains. Its call would be refused when it is complete.
const DRAINING_REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
/// The library's own limits must be out of reach of ours.
const LIBRARY_LIMIT_BYTES: usize = u32::MAX as usize;

type RequestBody = LimitedBody<RequestStream>;

/// A service beside the pool, and its name.
pub(super) type SideService = (&'static str, BoxCloneSyncService<Request<RequestBody>, Response<Body>, Infallible>);

/// Returns a service under its name.
pub(super) fn side_service<S>(service: S) -> SideService
where
    S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible, Future: Send>
        + NamedService
        + Clone
        + Send
        + Sync
        + 'static,
{
    (S::NAME, BoxCloneSyncService::new(service))
}

/// All services of the server. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Router {
    pool: PoolServiceServer<PoolRpc>,
    side_services: Arc<[SideService]>,
    limits: BodyLimits,
    requests: Arc<ByteBudget>,
    calls: CallBound,
    admin_calls: CallBound,
    health_checks: CallBound,
    health_watches: CallBound,
    operators: Operators,
    draining: CancellationToken,
    closing: CancellationToken,
    telemetry: Option<Telemetry>,
}

impl Router {
    /// Puts the services together. When the server closes, the streams of all services but the pool end.
    pub(crate) fn new(
        rpc: PoolRpc,
        health: health::Service,
        requests: Arc<ByteBudget>,
        config: &ServerConfig,
        lifecycle: &Lifecycle,
    ) -> Self {
        let ServerConfig { max_message_bytes, stream_stall_timeout: stall_timeout, max_calls, max_connections, .. } =
            *config;
        let limits = BodyLimits { max_message_bytes, stall_timeout };
        let admin = AdminRpc { pools: rpc.pools.clone(), drain_requested: lifecycle.drain_requested.clone() };
        let pool = PoolServiceServer::new(rpc)
            .max_decoding_message_size(LIBRARY_LIMIT_BYTES)
            .max_encoding_message_size(LIBRARY_LIMIT_BYTES);
        let [reflection, reflection_alpha] = reflection::services();
        let side_services = Arc::new([
            side_service(health),
            side_service(PoolAdminServiceServer::new(admin)),
            reflection,
            reflection_alpha,
        ]);
        Self {
            pool,
            side_services,
            limits,
            requests,
            calls: CallBound::new(max_calls),
            admin_calls: CallBound::new(MAX_ADMIN_CALLS),
            health_checks: CallBound::new(max_calls),
            health_watches: CallBound::new(max_connections),
            operators: config.operators,
            draining: lifecycle.draining.clone(),
            closing: lifecycle.closing.clone(),
            telemetry: None,
        }
    }

    /// Has every call measured and traced.
    pub(crate) fn observed_by(self, telemetry: Option<Telemetry>) -> Self {
        Self { telemetry, ..self }
    }

    /// Answers a request.
    pub(crate) async fn handle(self, mut request: Request<RequestStream>) -> Result<Response<Body>, Infallible> {
        if let Some(refused) = not_grpc::refuse(&request) {
            not_grpc::read_if_small(request.into_body()).await;
            return Ok(refused);
        }
        let call = self.telemetry.as_ref().and_then(|telemetry| telemetry.start_call(&mut request));
        let (response, permit) = match self.admit(&request) {
            Ok(permit) => (self.answer(request).await?, Some(permit)),
            Err(refused) => (refused.into_http(), None),
        };
        let response = match call {
            Some(call) => telemetry_layer::follow(call, response),
            None => response,
        };
        Ok(response_body::watched(response, CALL.get(), permit))
    }

    /// Takes a place among the calls in progress, or refuses at once. Those that ask for the health have places of their own,
    /// and those who watch it, for as long as they like, others again: whether the server lives can be asked when all else is
    /// taken.
    fn admit<B>(&self, request: &Request<B>) -> Result<OwnedSemaphorePermit, Status> {
        let path = request.uri().path();
        let calls = match service_of(path) {
            health::Service::NAME if path.ends_with("/Check") => &self.health_checks,
            health::Service::NAME => &self.health_watches,
            PoolAdminServiceServer::<AdminRpc>::NAME => {
                let peer = request.extensions().get::<Peer>().copied();
                if !peer.is_some_and(|peer| self.operators.include(peer)) {
                    return Err(status::not_an_operator(peer, self.operators));
                }
                &self.admin_calls
            }
            _ => &self.calls,
        };
        calls.try_enter()
    }

    /// Answers a request in time.
    async fn answer(self, mut request: Request<RequestStream>) -> Result<Response<Body>, Infallible> {
        let Some(deadline) = Deadline::from_headers(request.headers(), Instant::now()) else {
            let problem = "must be at most 8 digits and one of H, M, S, m, u, n";
            return Ok(status::invalid_argument(vec![status::violation("grpc-timeout", problem)], "").into_http());
        };
        request.extensions_mut().insert(deadline);
        let budget = Arc::clone(&self.requests);
        let request = request.map(|body| LimitedBody::new(body, self.limits, budget));
        let first_message = request.body().first_message();
        let watch = CALL.get();
        watch.set_request(request.body().intake());
        // What came with the headers is there at once.
        poll_fn(|context| {
            watch.receive(context);
            Poll::Ready(())
        })
        .await;
        let is_receiving = || !first_message.load(Ordering::Relaxed);
        let draining = self.draining.clone();
        let mut answer = pin!(self.dispatch(request, deadline));
        let in_time = async {
            match deadline.router {
                Some(instant) => tokio::time::sleep_until(instant).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            response = answer.as_mut() => return response.map(with_details),
            () = in_time => if is_receiving() {
                return Ok(status::deadline_exceeded("receiving").into_http());
            },
            // One whose request may never come does not delay the end.
            () = after(draining, DRAINING_REQUEST_TIMEOUT) => if is_receiving() {
                return Ok(status::shutting_down().into_http());
            },
        }
        // The pool has given up by now, and its answer says more. It may be late on a busy machine.
        answer.await.map(with_details)
    }

    /// Has the service that a request is for answer it.
    async fn dispatch(
        mut self,
        request: Request<RequestBody>,
        deadline: Deadline,
    ) -> Result<Response<Body>, Infallible> {
        let service_name = service_of(request.uri().path());
        if service_name == PoolServiceServer::<PoolRpc>::NAME {
            return self.pool.call(request).await;
        }
        let Some((_, service)) = self.side_services.iter().find(|(name, _)| *name == service_name) else {
            return Ok(status::no_such_method().into_http());
        };
        let response = service.clone().oneshot(request).await?;
        let closing = self.closing.cancelled_owned();
        let end = Box::pin(async move {
            match deadline.router {
                None => closing.await,
                Some(instant) => tokio::select! {
                    () = closing => {}
                    () = tokio::time::sleep_until(instant) => return status::deadline_exceeded("running"),
                },
            }
            status::shutting_down()
        });
        Ok(response.map(|inner| Body::new(BoundedBody { inner, end, is_ended: false })))
    }
}

/// Returns so long after a phase has begun.
async fn after(phase: CancellationToken, time: Duration) {
    phase.cancelled().await;
    tokio::time::sleep(time).await;
}

/// Returns the service of a method, whose path is `/service/method`.
fn service_of(path: &str) -> &str {
    path.strip_prefix('/').and_then(|path| path.split_once('/')).map_or("", |(name, _)| name)
}

/// How many calls there may be at a time, over all connections.
#[derive(Debug, Clone)]
struct CallBound {
    limit: u32,
    permits: Arc<Semaphore>,
}

impl CallBound {
    fn new(limit: u32) -> Self {
        Self { limit, permits: Arc::new(Semaphore::new(limit as usize)) }
    }

    fn try_enter(&self) -> Result<OwnedSemaphorePermit, Status> {
        Arc::clone(&self.permits).try_acquire_owned().map_err(|_| status::too_many_calls(self.limit))
    }
}

/// Gives an error that the library made the details that ours have.
pub(crate) fn with_details(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    if !headers.contains_key(Status::GRPC_STATUS_DETAILS)
        && let Some(status) = Status::from_header_map(headers)
        && status.code() != Code::Ok
        && let Err(unsendable) = status::with_details(&status).add_header(headers)
    {
        tracing::debug!(%unsendable, "an error stays without details");
    }
    response
}

/// The response body of a side service, which ends with the server or at the call's deadline at the latest: an open
/// watch holds nobody up.
struct BoundedBody<E> {
    inner: Body,
    /// Tells with what error the body ends if it has not by then.
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

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}
