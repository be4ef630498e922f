//! Where traces and metrics go: OTLP collectors, and the registry that `/metrics` is rendered from.

use opentelemetry::{Key, KeyValue};
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use prometheus::Registry;

use crate::config::{ConfigError, TelemetryConfig};

const SERVICE_NAME: Key = Key::from_static_str("service.name");
const DEFAULT_SERVICE_NAME: &str = "procpool";

/// What collects and sends.
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
            meters = meters.with_periodic_exporter(exporter.map_err(|error| wrong("metrics_endpoint", &error))?);
        }
        let tracers = config.traces_endpoint.as_ref().map(|endpoint| {
            let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build();
            let exporter = exporter.map_err(|error| wrong("traces_endpoint", &error))?;
            Ok(SdkTracerProvider::builder().with_resource(resource()).with_batch_exporter(exporter).build())
        });
        Ok(Self { meters: meters.build(), tracers: tracers.transpose()?, registry })
    }

    /// Sends what is left. Blocks, but for no longer than an export may take.
    pub(super) fn shut_down(&self) {
        let traces = self.tracers.as_ref().map_or(Ok(()), SdkTracerProvider::shutdown);
        for (signal, result) in [("traces", traces), ("metrics", self.meters.shutdown())] {
            // A collector that is not there is no reason to end badly.
            if let Err(error) = result {
                tracing::warn!(%error, signal, "the last telemetry could not be sent");
            }
        }
    }
}

/// Returns what the environment says that we are, or else our name.
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
