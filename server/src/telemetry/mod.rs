//! Traces and metrics: the only user of OpenTelemetry's types.
//!
//! | module | |
//! | --- | --- |
//! | `instruments` | every metric: name, unit, help |
//! | `labels` | the values of labels |
//! | `spans` | a span for each call and each chunk |
//! | `call` | what is measured of a call, from its layer |
//! | `pool` | what is measured of a pool |
//! | `exporters` | where it all goes |
//!
//! What happens in the pool comes by [`PoolObserver`]; what is there now is a [`Demand`](procpool_pool::Demand), asked for when metrics are
//! read and once a second. Without an exporter there is no [`Telemetry`] to call: no span, no lock, no allocation.
//!
//! # The environment
//!
//! *Whether* and *where to* is in [`TelemetryConfig`], which the application fills in. The rest of the standard
//! variables is read by the SDK itself, here and nowhere else: `OTEL_EXPORTER_OTLP_{HEADERS,TIMEOUT,COMPRESSION,
//! INSECURE}` and their forms for one signal, `OTEL_TRACES_SAMPLER{,_ARG}`, `OTEL_BSP_*`, `OTEL_SPAN_*_LIMIT`,
//! `OTEL_METRIC_EXPORT_INTERVAL`, `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`.

mod call;
mod exporter_watch;
mod exporters;
mod instruments;
mod labels;
mod pool;
mod spans;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use http::Request;
use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider as _;
use procpool_pool::PoolObserver;
use prometheus::TextEncoder;

pub(crate) use self::call::CallTelemetry;
use self::exporters::Exporters;
use self::instruments::{Demands, Instruments};
use self::pool::PoolTelemetry;
pub(crate) use self::spans::CallSpan;
use self::spans::Spans;
use crate::config::{ConfigError, TelemetryConfig};
use crate::headers;
use crate::listener::Connections;
use crate::pools::Pools;

/// The instrumentation scope of the metrics.
const SCOPE: &str = "procpool";
/// How old the demand may be that is sent to a collector.
const DEMAND_INTERVAL: Duration = Duration::from_secs(1);

/// Measures and traces. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Telemetry {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    exporters: Exporters,
    instruments: Arc<Instruments>,
    /// `None`: no traces.
    spans: Option<Arc<Spans>>,
    demands: Arc<Demands>,
    /// The methods that we serve, as `service/method`: what labels may say.
    methods: BTreeSet<Arc<str>>,
}

impl Telemetry {
    /// Sets up what the settings ask for, for pools of these names; `None` if that is nothing. `is_scraped`:
    /// [`Telemetry::render`] will be called.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub(crate) fn new<'a>(
        config: &TelemetryConfig,
        is_scraped: bool,
        pools: impl Iterator<Item = &'a str>,
    ) -> Result<Option<Self>, ConfigError> {
        if !is_scraped && config.traces_endpoint.is_none() && config.metrics_endpoint.is_none() {
            return Ok(None);
        }
        let exporters = Exporters::new(config, is_scraped)?;
        let meter = exporters.meters.meter(SCOPE);
        let demands: Arc<Demands> = Arc::new(pools.map(|pool| (pool.to_owned(), Mutex::default())).collect());
        instruments::observe_demand(&meter, &demands);
        let shared = Shared {
            instruments: Arc::new(Instruments::new(&meter)),
            spans: exporters.tracers.as_ref().map(|provider| Arc::new(Spans::new(provider))),
            exporters,
            demands,
            methods: call::served_methods(),
        };
        Ok(Some(Self { shared: Arc::new(shared) }))
    }

    /// Adds the metrics of the server's connections.
    pub(crate) fn observe_connections(&self, connections: Connections) {
        instruments::observe_connections(&self.shared.exporters.meters.meter(SCOPE), connections);
    }

    /// Counts a restart of the watchdog process.
    pub(crate) fn count_watchdog_restart(&self) {
        self.shared.instruments.watchdog_restarts.add(1, &[]);
    }

    /// Returns the observer of the pool with this name.
    pub(crate) fn observer(&self, pool: &str) -> Arc<dyn PoolObserver> {
        let pool = KeyValue::new("pool", pool.to_owned());
        let Shared { instruments, spans, .. } = &*self.shared;
        let (instruments, spans) = (Arc::clone(instruments), spans.clone());
        Arc::new(PoolTelemetry { instruments, spans, pool, chunks: Mutex::default() })
    }

    /// Starts to measure and trace a call to one of our methods, and leaves its span in the request.
    pub(crate) fn start_call<B>(&self, request: &mut Request<B>) -> Option<CallTelemetry> {
        let Shared { instruments, spans, methods, .. } = &*self.shared;
        let method = methods.get(request.uri().path().strip_prefix('/')?)?;
        let span = spans.as_ref().map(|spans| spans.start_call(method, &headers::trace_context(request.headers())));
        if let Some(span) = &span {
            request.extensions_mut().insert(span.clone());
        }
        Some(CallTelemetry::new(Arc::clone(instruments), Arc::clone(method), span))
    }

    /// Keeps the demand fresh for collectors until the pools are gone.
    pub(crate) async fn follow_demand(self, pools: Pools) {
        while self.read_demand(&pools).await {
            tokio::time::sleep(DEMAND_INTERVAL).await;
        }
    }

    /// Returns all metrics, as of now, as Prometheus text.
    ///
    /// # Errors
    ///
    /// If the library cannot write what it has collected: a bug.
    pub(crate) async fn render(&self, pools: &Pools) -> Result<String, String> {
        self.read_demand(pools).await;
        let families = self.shared.exporters.registry.gather();
        TextEncoder::new().encode_to_string(&families).map_err(|error| error.to_string())
    }

    /// Exports what has not been sent yet, for two seconds at most.
    pub(crate) async fn shut_down(self) {
        self.shared.exporters.shut_down().await;
    }

    /// Reads the demand of every pool. Returns whether any pool still answers.
    async fn read_demand(&self, pools: &Pools) -> bool {
        let answers = join_all(pools.iter().map(|pool| async { (&pool.name, pool.handle.demand().await) })).await;
        let is_any_there = answers.iter().any(|(_, demand)| demand.is_ok());
        for (pool, demand) in answers {
            if let Some(slot) = self.shared.demands.get(pool) {
                *instruments::lock(slot) = demand.unwrap_or_default();
            }
        }
        is_any_there
    }
}
