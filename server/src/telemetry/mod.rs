//! Traces and metrics: the only user of OpenTelemetry's types.
//!
//! | module | |
//! | --- | --- |
//! | `instruments` | every metric: name, unit, help |
//! | `labels` | what happened, in the words of labels |
//! | `spans` | a span for each call and each chunk |
//! | `call` | what is measured of a call, from the router |
//! | `exporters` | where it all goes |
//!
//! What happens in the pool comes by [`PoolObserver`]; what is there now is a [`Demand`], asked for when metrics are
//! read and once a second. Without an exporter there is no [`Telemetry`] to call: no span, no lock, no allocation.
//!
//! # The environment
//!
//! *Whether* and *where to* is in [`TelemetryConfig`], which the application fills in. The rest of the standard
//! variables is read by the SDK itself, here and nowhere else: `OTEL_EXPORTER_OTLP_{HEADERS,TIMEOUT,COMPRESSION,
//! INSECURE}` and their forms for one signal, `OTEL_TRACES_SAMPLER{,_ARG}`, `OTEL_BSP_*`, `OTEL_SPAN_*_LIMIT`,
//! `OTEL_METRIC_EXPORT_INTERVAL`, `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`.

mod call;
mod exporters;
mod instruments;
mod labels;
mod spans;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider as _;
use procpool_pool::{ChunkStart, Demand, ObserverEvent, PoolHandle, PoolObserver, TraceContext};
use prometheus::TextEncoder;

use self::exporters::Exporters;
use self::instruments::Instruments;
pub(crate) use self::spans::CallSpan;
use self::spans::Spans;
use crate::config::{ConfigError, TelemetryConfig};

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
    instruments: Instruments,
    /// `None`: no traces.
    spans: Option<Spans>,
    /// The last that was read.
    demand: Arc<Mutex<Demand>>,
    /// The methods that we serve, as `service/method`: what labels may say.
    methods: BTreeSet<Arc<str>>,
}

impl Telemetry {
    /// Sets up what the settings ask for; `None` if that is nothing. `is_scraped`: [`Telemetry::render`] will be called.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub(crate) fn new(config: &TelemetryConfig, is_scraped: bool) -> Result<Option<Self>, ConfigError> {
        if !is_scraped && config.traces_endpoint.is_none() && config.metrics_endpoint.is_none() {
            return Ok(None);
        }
        let exporters = Exporters::new(config, is_scraped)?;
        let meter = exporters.meters.meter("procpool");
        let demand = Arc::default();
        instruments::observe_demand(&meter, &demand);
        let shared = Shared {
            instruments: Instruments::new(&meter),
            spans: exporters.tracers.as_ref().map(Spans::new),
            exporters,
            demand,
            methods: call::served_methods(),
        };
        Ok(Some(Self { shared: Arc::new(shared) }))
    }

    /// Returns what the pool is to tell what happens in it.
    pub(crate) fn observer(&self) -> Arc<dyn PoolObserver> {
        Arc::clone(&self.shared) as Arc<dyn PoolObserver>
    }

    /// Keeps the demand fresh for collectors until the pool is gone.
    pub(crate) async fn follow_demand(self, pool: PoolHandle) {
        while self.read_demand(&pool).await {
            tokio::time::sleep(DEMAND_INTERVAL).await;
        }
    }

    /// Returns all metrics, as of now, as Prometheus text.
    ///
    /// # Errors
    ///
    /// If the library cannot write what it has collected: a bug.
    pub(crate) async fn render(&self, pool: &PoolHandle) -> Result<String, String> {
        self.read_demand(pool).await;
        let families = self.shared.exporters.registry.gather();
        TextEncoder::new().encode_to_string(&families).map_err(|error| error.to_string())
    }

    /// Sends what is left.
    pub(crate) async fn shut_down(self) {
        let shut_down = tokio::task::spawn_blocking(move || self.shared.exporters.shut_down());
        if let Err(error) = shut_down.await {
            tracing::error!(%error, "telemetry did not end well");
        }
    }

    /// Tells whether the pool still answers.
    async fn read_demand(&self, pool: &PoolHandle) -> bool {
        let demand = pool.demand().await;
        let is_there = demand.is_ok();
        *instruments::lock(&self.shared.demand) = demand.unwrap_or_default();
        is_there
    }
}

impl PoolObserver for Shared {
    fn observe(&self, event: &ObserverEvent<'_>) {
        let instruments = &self.instruments;
        let count_items = |function: &str, outcome: &'static str, count: u64| {
            instruments.items.add(count, &[by_function(function), KeyValue::new("outcome", outcome)]);
        };
        match event {
            ObserverEvent::JobStarted { function, waited } => {
                instruments.queue_wait.record(waited.as_secs_f64(), &[by_function(function)]);
            }
            ObserverEvent::ItemsSucceeded { function, count } => count_items(function, labels::SUCCEEDED, *count),
            ObserverEvent::ItemFailed { function, failure } => count_items(function, labels::item_outcome(failure), 1),
            ObserverEvent::ItemsDropped { function, count } => count_items(function, labels::DROPPED, *count),
            ObserverEvent::ChunkEnded(end) => {
                instruments.chunk_run.record(end.busy.as_secs_f64(), &[by_function(end.function)]);
                if let Some(spans) = &self.spans {
                    spans.end_chunk(end);
                }
            }
            ObserverEvent::WorkerStarted => instruments.worker_starts.add(1, &[]),
            ObserverEvent::WorkerExited { exit, stop_reason } => {
                let reason = labels::exit_reason(exit, *stop_reason);
                instruments.worker_exits.add(1, &[KeyValue::new("reason", reason)]);
            }
        }
    }

    fn chunk_started(&self, chunk: &ChunkStart<'_>) -> Option<TraceContext> {
        self.spans.as_ref().map(|spans| spans.start_chunk(chunk))
    }
}

/// Bounded by the functions that workers registered: no other gets as far as a worker.
fn by_function(function: &str) -> KeyValue {
    KeyValue::new("function", function.to_owned())
}
