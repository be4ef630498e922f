//! `grpc.health.v1`: whether the server accepts calls, and each pool.
//!
//! The server as a whole, `""` and the name of the service, is not serving until every pool has had a ready worker, so
//! that a rollout of a broken pool stops at its first replica; from then on it is serving as long as any pool is ready,
//! so that a pool that breaks later does not take the others out of service. A pool is the service's name, a slash, and
//! its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::Either;
use futures_util::stream::{self, Chain, Once, Pending, StreamExt as _};
use procpool_pool::Readiness;
use procpool_proto::v1::pool_service_server::SERVICE_NAME;
use tonic::{Code, Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::health_check_response::ServingStatus as WireStatus;
use tonic_health::pb::health_server::{Health as HealthApi, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_health::server::{HealthReporter, HealthService};

use crate::pools::{Pools, any_changed};

/// The health service.
pub(crate) type Service = HealthServer<HealthRpc>;

/// Sets the statuses of the health service.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    reporter: HealthReporter,
    is_serving: Arc<AtomicBool>,
    /// The service of each pool.
    pool_services: Vec<String>,
}

impl Health {
    /// Returns a health service that reports `NOT_SERVING` for pools of these names, and the handle that sets it.
    pub(crate) async fn new(pools: impl IntoIterator<Item = &str>) -> (Self, Service) {
        let reporter = HealthReporter::new();
        let pool_services = pools.into_iter().map(|pool| format!("{SERVICE_NAME}/{pool}")).collect();
        let health = Self { reporter: reporter.clone(), is_serving: Arc::default(), pool_services };
        // The library reports SERVING from the start.
        health.set_not_serving().await;
        (health, HealthServer::new(HealthRpc(HealthService::from_health_reporter(reporter))))
    }

    /// Returns the status of the server as a whole.
    pub(crate) fn is_serving(&self) -> bool {
        self.is_serving.load(Ordering::Relaxed)
    }

    /// Sets every status to `NOT_SERVING`.
    pub(crate) async fn set_not_serving(&self) {
        self.set_server(false).await;
        for service in &self.pool_services {
            self.set(service, false).await;
        }
    }

    /// Follows the readiness of the pools; ends only when it is dropped.
    pub(crate) async fn follow(self, pools: Pools) {
        let mut readiness: Vec<_> = pools.iter().map(|pool| pool.handle.readiness()).collect();
        let mut were_ready = vec![false; readiness.len()];
        let mut is_serving = None;
        loop {
            let mut any_ready = false;
            for (index, (service, readiness)) in self.pool_services.iter().zip(&mut readiness).enumerate() {
                let is_ready = *readiness.borrow_and_update() == Readiness::Ready;
                were_ready[index] |= is_ready;
                any_ready |= is_ready;
                self.set(service, is_ready).await;
            }
            let now = any_ready && were_ready.iter().all(|was_ready| *was_ready);
            if is_serving != Some(now) {
                self.set_server(now).await;
                tracing::info!("health is {}", status(now));
                is_serving = Some(now);
            }
            any_changed(&mut readiness).await;
        }
    }

    /// Sets the health of the server as a whole.
    async fn set_server(&self, is_serving: bool) {
        self.is_serving.store(is_serving, Ordering::Relaxed);
        for service in ["", SERVICE_NAME] {
            self.set(service, is_serving).await;
        }
    }

    async fn set(&self, service: &str, is_serving: bool) {
        self.reporter.set_service_status(service, status(is_serving)).await;
    }
}

/// The library's service, except that watching an unknown name is no error, as the protocol demands. All names are
/// known from the start, so such a watch never changes.
#[derive(Debug)]
pub(crate) struct HealthRpc(HealthService);

type WatchItem = Result<HealthCheckResponse, Status>;

#[tonic::async_trait]
impl HealthApi for HealthRpc {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        self.0.check(request).await
    }

    type WatchStream = Either<
        <HealthService as HealthApi>::WatchStream,
        Chain<Once<std::future::Ready<WatchItem>>, Pending<WatchItem>>,
    >;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        match self.0.watch(request).await {
            Ok(watch) => Ok(watch.map(Either::Left)),
            Err(status) if status.code() == Code::NotFound => {
                let unknown = HealthCheckResponse { status: WireStatus::ServiceUnknown.into() };
                let news = stream::once(std::future::ready(Ok(unknown)));
                Ok(Response::new(Either::Right(news.chain(stream::pending()))))
            }
            Err(status) => Err(status),
        }
    }
}

fn status(is_serving: bool) -> ServingStatus {
    if is_serving { ServingStatus::Serving } else { ServingStatus::NotServing }
}
