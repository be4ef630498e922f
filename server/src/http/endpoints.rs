//! What the admin port answers.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use procpool_pool::Readiness;
use tonic::body::Body;
use tower::ServiceExt as _;

use crate::pools::{Pool, Pools};
use crate::rpc::not_grpc::{text, without_body};
use crate::rpc::stack::with_details;
use crate::rpc::{health, not_grpc, status};
use crate::telemetry::Telemetry;

/// How long to wait for the reason why a pool is not ready. A prober waits for a second by default.
const WHY_TIMEOUT: Duration = Duration::from_millis(500);
const HEALTH_PATH: &str = "/grpc.health.v1.Health/";
const PROMETHEUS_TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// What the admin port serves. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Endpoints {
    pub(crate) pools: Pools,
    pub(crate) telemetry: Telemetry,
    pub(crate) health: health::Health,
    pub(crate) health_service: health::Service,
    /// The addresses of the public port, for error messages.
    pub(crate) listen: Arc<str>,
}

impl Endpoints {
    /// Answers a request.
    pub(super) async fn handle(self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        if request.uri().path().starts_with(HEALTH_PATH) {
            return self.health_service.oneshot(request).await.map(with_details);
        }
        if not_grpc::is_grpc(request.headers()) {
            return Ok(status::not_for_admin_port(&self.listen).into_http());
        }
        let is_head = *request.method() == Method::HEAD;
        let is_get = is_head || *request.method() == Method::GET;
        let response = match request.uri().path() {
            "/metrics" | "/healthz" | "/readyz" if !is_get => {
                let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n");
                refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
                refused
            }
            "/metrics" => self.metrics().await,
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" => self.readiness().await,
            _ => text(StatusCode::NOT_FOUND, "there are /metrics, /healthz, /readyz and grpc.health.v1.Health\n"),
        };
        Ok(if is_head { without_body(response) } else { response })
    }

    async fn metrics(&self) -> Response<Body> {
        match self.telemetry.render(&self.pools).await {
            Ok(metrics) => {
                let mut response = text(StatusCode::OK, metrics);
                response.headers_mut().insert(header::CONTENT_TYPE, PROMETHEUS_TEXT);
                response
            }
            Err(error) => {
                tracing::error!(error, "the metrics cannot be rendered");
                text(StatusCode::INTERNAL_SERVER_ERROR, format!("the metrics cannot be rendered: {error}\n"))
            }
        }
    }

    async fn readiness(&self) -> Response<Body> {
        if self.health.is_serving() {
            return text(StatusCode::OK, "ready\n");
        }
        let is_named = self.pools.are_several();
        let why = join_all(self.pools.iter().map(|pool| why_not(pool, is_named))).await;
        let why: Vec<String> = why.into_iter().flatten().collect();
        // Health is set before the pools drain.
        let why = if why.is_empty() { "draining".to_owned() } else { why.join("; ") };
        text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n"))
    }
}

/// Returns why a pool takes no calls; `None` if it does.
async fn why_not(pool: &Pool, is_named: bool) -> Option<String> {
    let readiness = *pool.handle.readiness().borrow();
    let why = match readiness {
        Readiness::Ready => return None,
        Readiness::Starting | Readiness::Degraded => {
            let snapshot = tokio::time::timeout(WHY_TIMEOUT, pool.handle.snapshot()).await;
            let failure = snapshot.ok().and_then(Result::ok).map_or_else(String::new, |pool| pool.last_start_failure);
            let because = if failure.is_empty() { failure } else { format!(": {failure}") };
            format!("no worker is ready{because}")
        }
        Readiness::Draining => "draining".to_owned(),
        Readiness::Stopped => "stopped".to_owned(),
    };
    Some(if is_named { format!("pool {}: {why}", pool.name) } else { why })
}
