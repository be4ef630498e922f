//! `grpc.health.v1`: tells whether the pool takes calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use procpool_pool::Readiness;
use procpool_proto::v1::pool_service_server::PoolServiceServer;
use tokio::sync::watch;
use tonic::server::NamedService as _;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use super::PoolRpc;

/// The health service.
pub(crate) type Service = HealthServer<HealthService>;

/// Sets what the health service tells.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    reporter: HealthReporter,
    is_serving: Arc<AtomicBool>,
}

impl Health {
    /// Returns a health service that tells `NOT_SERVING`, and what sets it.
    pub(crate) async fn new() -> (Self, Service) {
        let reporter = HealthReporter::new();
        let health = Self { reporter: reporter.clone(), is_serving: Arc::default() };
        // The library says SERVING from the start.
        health.set(ServingStatus::NotServing).await;
        (health, HealthServer::new(HealthService::from_health_reporter(reporter)))
    }

    /// Returns what it tells.
    pub(crate) fn is_serving(&self) -> bool {
        self.is_serving.load(Ordering::Relaxed)
    }

    /// Tells `NOT_SERVING`.
    pub(crate) async fn set_not_serving(&self) {
        self.set(ServingStatus::NotServing).await;
    }

    /// Follows the readiness of the pool until the pool is gone.
    pub(crate) async fn follow(self, mut readiness: watch::Receiver<Readiness>) {
        loop {
            let now = *readiness.borrow_and_update();
            let serving = if now == Readiness::Ready { ServingStatus::Serving } else { ServingStatus::NotServing };
            self.set(serving).await;
            tracing::info!(readiness = ?now, "health is {serving}");
            if readiness.changed().await.is_err() {
                break;
            }
        }
        self.set_not_serving().await;
    }

    /// Sets the health of the whole server and of the pool service.
    async fn set(&self, serving: ServingStatus) {
        self.is_serving.store(serving == ServingStatus::Serving, Ordering::Relaxed);
        for service in ["", PoolServiceServer::<PoolRpc>::NAME] {
            self.reporter.set_service_status(service, serving).await;
        }
    }
}
