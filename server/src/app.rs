//! The server as a whole: binds, serves, and ends in order.
//!
//! # The end
//!
//! 1. On a request to drain: health says `NOT_SERVING`, then the pools refuse new calls and every client is asked to
//!    reconnect. The listeners stay open, so that callers get an answer: UNAVAILABLE, and when to retry.
//! 2. When the last call has ended, the listeners close, and each connection as soon as everything is sent. A peer that
//!    does not answer has one second.
//! 3. At the drain limit, or on a request to stop at once: the pools fail the remaining calls, and after a moment for
//!    these errors to be sent, every connection is cut.
//! 4. The workers are stopped, and every task is joined.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::select_all;
use procpool_pool::{PoolTask, Readiness};
use tokio::signal::unix::Signal;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::byte_budget::ByteBudget;
use crate::config::{ConfigError, ListenAddress, ServerConfig};
use crate::http::Endpoints;
use crate::lifecycle::Lifecycle;
use crate::listener::{BoundListener, Connections, Eviction, Http2Server, accept_connections};
use crate::pools::{DuplicateFunction, NamedPool, Pools};
use crate::rpc::call_log::CallLog;
use crate::rpc::health::Health;
use crate::rpc::pool_rpc::PoolRpc;
use crate::rpc::stack::{GrpcService, stack};
use crate::shutdown::Shutdown;
use crate::telemetry::Telemetry;
use crate::{http, memory};

/// How long to wait until the errors of failed calls are sent.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);
/// How long tasks may take to end after every connection was cut.
const JOIN_TIMEOUT: Duration = Duration::from_secs(5);

/// A server that is bound, with pools that are starting. [`App::serve`] runs it.
#[derive(Debug)]
pub struct App {
    config: Arc<ServerConfig>,
    pools: Pools,
    pool_tasks: Vec<PoolTask>,
    listeners: Vec<BoundListener>,
    admin: Option<(BoundListener, Endpoints)>,
    connections: Connections,
    telemetry: Option<Telemetry>,
    health: Health,
    service: GrpcService,
    lifecycle: Lifecycle,
    calls: TaskTracker,
    call_log: Arc<CallLog>,
}

/// Why the server cannot start, or had to end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppError {
    /// A setting cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An address cannot be bound.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: ListenAddress,
        /// Why.
        source: io::Error,
    },
    /// Two pools register the same function.
    #[error(transparent)]
    DuplicateFunction(#[from] DuplicateFunction),
    /// A pool could not start any worker for [`ServerConfig::degraded_timeout`].
    #[error("the pool {name:?} could start no worker for {timeout:?}: {reason}")]
    PoolDegraded {
        /// The pool.
        name: String,
        /// How long.
        timeout: Duration,
        /// How the last worker ended.
        reason: String,
    },
    /// A pool ended without a request to, which is a bug.
    #[error("the pool {name:?} ended by itself")]
    PoolEnded {
        /// The pool.
        name: String,
    },
}

impl App {
    /// Binds the addresses and starts the pools. From here on clients can connect; they are served once [`App::serve`]
    /// runs.
    ///
    /// # Errors
    ///
    /// If a setting cannot work or an address cannot be bound. No worker has been started then.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn bind(config: ServerConfig, pools: Vec<NamedPool>) -> Result<Self, AppError> {
        config.validate()?;
        check_names(&pools)?;
        let (health, health_service) = Health::new(pools.iter().map(|pool| pool.name.as_str())).await;
        let mut listeners = Vec::new();
        for address in &config.listen {
            let bound = BoundListener::bind(address).await;
            listeners.push(bound.map_err(|source| AppError::Bind { address: address.clone(), source })?);
        }
        let admin_listener = match config.admin_listen {
            Some(address) => {
                let address = ListenAddress::Tcp(address);
                let bound = BoundListener::bind(&address).await;
                Some(bound.map_err(|source| AppError::Bind { address, source })?)
            }
            None => None,
        };
        let names = pools.iter().map(|pool| pool.name.as_str());
        let telemetry = Telemetry::new(&config.telemetry, admin_listener.is_some(), names)?;
        let connections = Connections::new(config.max_connections as usize, Eviction::Idle(config.keepalive_interval));
        if let Some(telemetry) = &telemetry {
            telemetry.observe_connections(connections.clone());
        }
        let requests = ByteBudget::new(config.max_request_bytes_in_flight.into());
        let (pools, pool_tasks) = Pools::start(pools, Arc::clone(&requests), |name| {
            telemetry.as_ref().map(|telemetry| telemetry.observer(name))
        });
        let (lifecycle, calls) = (Lifecycle::default(), TaskTracker::new());
        let call_log = Arc::new(CallLog::default());
        let rpc = PoolRpc {
            pools: pools.clone(),
            max_message_bytes: config.max_message_bytes,
            calls: calls.clone(),
            call_log: Arc::clone(&call_log),
        };
        let admin = admin_listener.zip(telemetry.clone()).map(|(listener, telemetry)| {
            let (pools, health, health_service) = (pools.clone(), health.clone(), health_service.clone());
            let listen: Vec<String> = listeners.iter().map(|listener| listener.address().to_string()).collect();
            let listen = listen.join(" or ").into();
            (listener, Endpoints { pools, telemetry, health, health_service, listen })
        });
        let service = stack(rpc, health_service, &requests, &config, &lifecycle, telemetry.as_ref());
        let config = Arc::new(config);
        Ok(Self {
            config,
            pools,
            pool_tasks,
            listeners,
            admin,
            connections,
            telemetry,
            health,
            service,
            lifecycle,
            calls,
            call_log,
        })
    }

    /// Returns the bound addresses, in the order of the settings, with the ports that were chosen.
    pub fn local_addresses(&self) -> Vec<ListenAddress> {
        self.listeners.iter().map(|listener| listener.address().clone()).collect()
    }

    /// Returns the bound address of the admin port, if there is one, with the port that was chosen.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        match self.admin.as_ref()?.0.address() {
            ListenAddress::Tcp(address) => Some(*address),
            ListenAddress::Unix(_) => None,
        }
    }

    /// Returns a function that counts, in the metrics, each restart of the watchdog process.
    pub fn watchdog_counter(&self) -> impl Fn() + Send + 'static {
        let telemetry = self.telemetry.clone();
        move || telemetry.iter().for_each(Telemetry::count_watchdog_restart)
    }

    /// Serves until told to stop, and returns when every worker is gone.
    ///
    /// # Errors
    ///
    /// If two pools register the same function while the server starts, or a pool can start no worker for too long, or
    /// ended by itself.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves connections and workers behind; end it through `shutdown`.
    pub async fn serve(self, mut shutdown: Shutdown) -> Result<(), AppError> {
        let (connection_tasks, tasks, follow_health) =
            (TaskTracker::new(), TaskTracker::new(), CancellationToken::new());
        let following = self.health.clone().follow(self.pools.clone());
        let followed = follow_health.clone().run_until_cancelled_owned(following);
        let health_task = tasks.spawn(followed);
        tasks.spawn(self.call_log.report_dropped(self.lifecycle.killed.clone()));
        if let Some(hangups) = shutdown.take_hangups() {
            let restarting = restart_on_hangup(self.pools.clone(), hangups);
            tasks.spawn(self.lifecycle.draining.clone().run_until_cancelled_owned(restarting));
        }
        for listener in self.listeners {
            tracing::info!(address = %listener.address(), "listening");
            let server = Http2Server {
                config: Arc::clone(&self.config),
                service: self.service.clone(),
                lifecycle: self.lifecycle.clone(),
                tasks: connection_tasks.clone(),
            };
            let (connections, closing) = (self.connections.clone(), self.lifecycle.closing.clone());
            let serve = move |accepted, permit| server.clone().serve(accepted, permit);
            tasks.spawn(accept_connections(listener, connections, closing, connection_tasks.clone(), serve));
        }
        drop(self.service);
        let trimming = memory::give_back(self.calls.clone());
        tasks.spawn(self.lifecycle.killed.clone().run_until_cancelled_owned(trimming));
        if let Some((listener, endpoints)) = self.admin {
            tracing::info!(address = %listener.address(), "listening for admins");
            tasks.spawn(http::serve(listener, endpoints, tasks.clone(), self.lifecycle.killed.clone()));
        }
        if let Some(telemetry) = self.telemetry.clone() {
            let following = telemetry.follow_demand(self.pools.clone());
            tasks.spawn(self.lifecycle.killed.clone().run_until_cancelled_owned(following));
        }

        let outcome = tokio::select! {
            () = shutdown.wait_for_drain() => Ok(()),
            () = self.lifecycle.drain_requested.cancelled() => Ok(()),
            duplicate = self.pools.duplicate_at_start() => Err(AppError::from(duplicate)),
            name = pool_ended(&self.pools) => Err(AppError::PoolEnded { name }),
            degraded = pool_degraded(&self.pools, self.config.degraded_timeout) => Err(degraded),
        };
        if let Err(error) = &outcome {
            tracing::error!(%error, "cannot go on");
        }
        tracing::info!(num_calls = self.calls.len(), drain_timeout = ?self.config.drain_timeout, "draining");
        follow_health.cancel();
        // It must not report SERVING again after this.
        let _ = health_task.await;
        self.health.set_not_serving().await;
        self.pools.drain();
        self.lifecycle.draining.cancel();

        let limit = Instant::now() + self.config.drain_timeout;
        self.calls.close();
        let is_drained = tokio::select! {
            is_drained = all_sent(&self.calls, &connection_tasks, &self.pools, &self.lifecycle, limit) => is_drained,
            () = shutdown.wait_for_now() => false,
        };
        if is_drained {
            // The workers were asked to exit, and may have something to do first.
            tokio::select! {
                () = self.pools.all_reached(|readiness| readiness == Readiness::Stopped) => {}
                () = tokio::time::sleep_until(limit) => self.pools.stop_now(),
                () = shutdown.wait_for_now() => self.pools.stop_now(),
            }
        } else {
            let (num_calls, num_tasks) = (self.calls.len(), connection_tasks.len());
            if num_calls > 0 || num_tasks > 0 {
                tracing::warn!(num_calls, num_tasks, "giving up what is not finished");
            }
            self.pools.stop_now();
            let flush_limit = Instant::now() + FLUSH_TIMEOUT;
            all_sent(&self.calls, &connection_tasks, &self.pools, &self.lifecycle, flush_limit).await;
        }
        self.lifecycle.closing.cancel();
        self.lifecycle.killed.cancel();
        join_all([&self.calls, &connection_tasks, &tasks]).await;
        for task in self.pool_tasks {
            task.join().await;
        }
        if let Some(telemetry) = self.telemetry {
            telemetry.shut_down().await;
        }
        tracing::info!("stopped");
        outcome
    }
}

/// Pools are told apart by their names.
fn check_names(pools: &[NamedPool]) -> Result<(), ConfigError> {
    let wrong = |problem: String| Err(ConfigError { setting: "pools", problem });
    let mut names = BTreeSet::new();
    match pools.iter().find(|pool| pool.name.is_empty() || !names.insert(&pool.name)) {
        Some(pool) if pool.name.is_empty() => wrong("a pool needs a name".to_owned()),
        Some(pool) => wrong(format!("two pools have the name {:?}", pool.name)),
        None if pools.is_empty() => wrong("at least one pool is needed".to_owned()),
        None => Ok(()),
    }
}

/// Replaces the workers whenever the process gets SIGHUP, so that they pick up new code. Does not wait for the
/// restarts: a pool that cannot start its new workers must not delay the others.
async fn restart_on_hangup(pools: Pools, mut hangups: Signal) {
    while hangups.recv().await.is_some() {
        for pool in pools.iter() {
            if let Err(error) = pool.handle.begin_restart().await {
                tracing::warn!(pool = pool.name, %error, "workers are not replaced");
            }
        }
    }
}

/// Waits until the last call has ended and everything is sent. Returns whether that was before the limit.
async fn all_sent(
    calls: &TaskTracker,
    connections: &TaskTracker,
    pools: &Pools,
    lifecycle: &Lifecycle,
    limit: Instant,
) -> bool {
    let sent = async {
        calls.wait().await;
        // Watches of a pool report that it drains before they end.
        pools.all_reached(|readiness| matches!(readiness, Readiness::Draining | Readiness::Stopped)).await;
        lifecycle.closing.cancel();
        connections.close();
        connections.wait().await;
    };
    tokio::time::timeout_at(limit, sent).await.is_ok()
}

/// Joins the tasks that are left. A task that does not end is a bug; it must not keep the process.
async fn join_all<const N: usize>(trackers: [&TaskTracker; N]) {
    for tracker in trackers {
        tracker.close();
        if tokio::time::timeout(JOIN_TIMEOUT, tracker.wait()).await.is_err() {
            tracing::error!(num_tasks = tracker.len(), "tasks did not end");
        }
    }
}

/// Waits until a pool has been degraded for as long as it may be; returns the error that says so.
async fn pool_degraded(pools: &Pools, timeout: Option<Duration>) -> AppError {
    let Some(timeout) = timeout else { return std::future::pending().await };
    let waits = pools.iter().map(|pool| {
        let mut readiness = pool.handle.readiness();
        let degraded = async move {
            let is_degraded = |readiness: &Readiness| *readiness == Readiness::Degraded;
            while readiness.wait_for(is_degraded).await.is_ok() {
                let mended = readiness.wait_for(|readiness| !is_degraded(readiness));
                if tokio::time::timeout(timeout, mended).await.is_err() {
                    return pool;
                }
            }
            // The pool has ended, which `pool_ended` reports.
            std::future::pending().await
        };
        degraded.boxed()
    });
    let pool = select_all(waits).await.0;
    let snapshot = pool.handle.snapshot().await;
    let reason = snapshot.map(|snapshot| snapshot.last_start_failure).unwrap_or_default();
    AppError::PoolDegraded { name: pool.name.clone(), timeout, reason }
}

/// Waits until a pool is gone; returns its name.
async fn pool_ended(pools: &Pools) -> String {
    let endings = pools.iter().map(|pool| {
        let mut readiness = pool.handle.readiness();
        let ended = async move {
            // An error means that the pool's task is gone.
            let _ = readiness.wait_for(|readiness| *readiness == Readiness::Stopped).await;
            pool.name.clone()
        };
        ended.boxed()
    });
    select_all(endings).await.0
}
