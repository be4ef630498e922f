//! Exporters that say in the log when their collector cannot be reached, and when it can again. The library keeps that to
//! itself.

use std::sync::Mutex;
use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

use super::instruments::lock;

/// An exporter whose failures are logged: the first of a row, and the end of the row.
#[derive(Debug)]
pub(super) struct WatchedExporter<E> {
    exporter: E,
    signal: &'static str,
    endpoint: String,
    /// How many exports in a row have failed.
    num_failed: Mutex<u64>,
}

impl<E> WatchedExporter<E> {
    /// Wraps an exporter of a signal ("traces" or "metrics") to an endpoint.
    pub(super) fn new(exporter: E, signal: &'static str, endpoint: &str) -> Self {
        Self { exporter, signal, endpoint: endpoint.to_owned(), num_failed: Mutex::new(0) }
    }

    fn watch(&self, outcome: OTelSdkResult) -> OTelSdkResult {
        let Self { signal, endpoint, .. } = self;
        let mut num_failed = lock(&self.num_failed);
        match &outcome {
            Ok(()) if *num_failed > 0 => {
                tracing::info!(
                    signal,
                    endpoint,
                    num_failed = *num_failed,
                    "telemetry is sent again; what failed is lost"
                );
                *num_failed = 0;
            }
            Ok(()) => {}
            Err(error) => {
                if *num_failed == 0 {
                    tracing::warn!(signal, endpoint, %error, "telemetry cannot be sent: is the collector running? it is tried again");
                }
                *num_failed += 1;
            }
        }
        outcome
    }
}

impl<E: SpanExporter> SpanExporter for WatchedExporter<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.watch(self.exporter.export(batch).await)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: PushMetricExporter> PushMetricExporter for WatchedExporter<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.watch(self.exporter.export(metrics).await)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}
