//! Where traces and metrics go: OTLP collectors, and the registry that `/metrics` is rendered from.

use std::thread;
use std::time::Duration;

use opentelemetry::{Key, KeyValue};
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use prometheus::Registry;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::exporter_watch::WatchedExporter;
use crate::config::{ConfigError, TelemetryConfig};

const SERVICE_NAME: Key = Key::from_static_str("service.name");
const DEFAULT_SERVICE_NAME: &str = "procpool";
/// How long a collector may take for what is left at the end. `k8s/base` counts it in the grace period.
const LAST_EXPORT_TIMEOUT: Duration = Duration::from_secs(2);

/// The providers of meters and tracers, and the registry.
#[derive(Debug)]
pub(super) struct Exporters {
    pub(super) meters: SdkMeterProvider,
    /// `None`: no traces.
    pub(super) tracers: Option<SdkTracerProvider>,
    /// What the meters have counted, if it is to be read.
    pub(super) registry: Registry,
}

impl Exporters {
    /// Sets up what the settings ask for. `is_scraped`: the registry will be read.
    pub(super) fn new(config: &TelemetryConfig, is_scraped: bool) -> Result<Self, ConfigError> {
        let registry = Registry::new();
        let mut meters = SdkMeterProvider::builder().with_resource(resource());
        if is_scraped {
            let exporter = opentelemetry_prometheus::exporter().with_registry(registry.clone());
            let exporter = exporter.without_target_info().scope_info_enabled(false).build();
            meters = meters.with_reader(exporter.map_err(|error| wrong("admin_listen", &error))?);
        }
        if let Some(endpoint) = &config.metrics_endpoint {
            let exporter = MetricExporter::builder().with_tonic().with_endpoint(endpoint).build();
            let exporter = exporter.map_err(|error| wrong("metrics_endpoint", &error))?;
            meters = meters.with_periodic_exporter(WatchedExporter::new(exporter, "metrics", endpoint));
        }
        let tracers = config.traces_endpoint.as_ref().map(|endpoint| {
            let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build();
            let exporter = exporter.map_err(|error| wrong("traces_endpoint", &error))?;
            let exporter = WatchedExporter::new(exporter, "traces", endpoint);
            Ok(SdkTracerProvider::builder().with_resource(resource()).with_batch_exporter(exporter).build())
        });
        Ok(Self { meters: meters.build(), tracers: tracers.transpose()?, registry })
    }

    /// Sends what is left, all signals side by side, but for no longer than [`LAST_EXPORT_TIMEOUT`].
    pub(super) async fn shut_down(&self) {
        let meters = self.meters.clone();
        let mut signals = vec![("metrics", on_own_thread(move || meters.shutdown()))];
        if let Some(tracers) = self.tracers.clone() {
            signals.push(("traces", on_own_thread(move || tracers.shutdown_with_timeout(LAST_EXPORT_TIMEOUT))));
        }
        wait_for_last_exports(signals).await;
    }
}

/// Waits until every signal is sent, for [`LAST_EXPORT_TIMEOUT`] in all, and logs which were not.
async fn wait_for_last_exports(signals: Vec<(&'static str, oneshot::Receiver<OTelSdkResult>)>) {
    let limit = Instant::now() + LAST_EXPORT_TIMEOUT;
    for (signal, ended) in signals {
        let problem = match tokio::time::timeout_at(limit, ended).await {
            Ok(Ok(Ok(()))) => continue,
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(_)) => "its thread could not be started, or panicked".to_owned(),
            Err(_) => "the collector did not answer in time".to_owned(),
        };
        // An unreachable collector is no error of the server.
        tracing::warn!(problem, signal, "the last telemetry could not be sent");
    }
}

/// Runs blocking work on its own thread, and returns the receiver of its result. The receiver fails if the thread
/// cannot be started.
///
/// The library's last export of metrics takes five seconds whatever timeout it is given. Unlike a blocking task, this
/// thread does not delay the end of the runtime: it ends after its five seconds, or with the process.
fn on_own_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> oneshot::Receiver<T> {
    let (ended, result) = oneshot::channel();
    let thread = thread::Builder::new().name("last-telemetry".to_owned()).spawn(move || ended.send(work()));
    if let Err(error) = thread {
        tracing::debug!(%error, "no thread");
    }
    result
}

/// Returns the resource that the environment describes, with our name by default.
fn resource() -> Resource {
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let detected = Resource::builder().with_attribute(version.clone()).build();
    let is_named = detected.get(&SERVICE_NAME).is_some_and(|name| !name.as_str().starts_with("unknown_service"));
    if is_named {
        return detected;
    }
    Resource::builder().with_attribute(version).with_service_name(DEFAULT_SERVICE_NAME).build()
}

fn wrong(setting: &'static str, error: &dyn std::error::Error) -> ConfigError {
    ConfigError { setting, problem: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_collector_that_never_answers_holds_up_the_end_for_two_seconds() {
        let (metrics, metrics_ended) = oneshot::channel();
        let (traces, traces_ended) = oneshot::channel();
        let began = Instant::now();
        wait_for_last_exports(vec![("metrics", metrics_ended), ("traces", traces_ended)]).await;
        assert_eq!(began.elapsed(), LAST_EXPORT_TIMEOUT);
        drop((metrics, traces));
    }
}
