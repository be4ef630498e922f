//! An OTLP collector that keeps what it is sent.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};

/// What was received so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Received {
    pub(crate) spans: Vec<Span>,
    /// The names of the services that sent spans.
    pub(crate) services: Vec<String>,
    /// The names of the metrics.
    pub(crate) metrics: Vec<String>,
}

/// A running collector; it ends with the test's runtime.
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    received: watch::Sender<Received>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = watch::Sender::default();
        let keeper = Keeper(received.clone());
        let server = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(keeper.clone()))
            .add_service(MetricsServiceServer::new(keeper))
            .serve_with_incoming(TcpListenerStream::new(listener));
        TaskTracker::new().spawn(server);
        Self { address, received }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns what has been received.
    pub(crate) fn received(&self) -> Received {
        self.received.borrow().clone()
    }
}

/// Returns the attributes of a span, as text.
pub(crate) fn attributes(span: &Span) -> BTreeMap<&str, String> {
    span.attributes.iter().map(|KeyValue { key, value, .. }| (key.as_str(), text(value.as_ref()))).collect()
}

fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        other => panic!("no such attribute is sent: {other:?}"),
    }
}

#[derive(Clone)]
struct Keeper(watch::Sender<Received>);

#[tonic::async_trait]
impl TraceService for Keeper {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.send_modify(|received| {
            for sent in request.into_inner().resource_spans {
                let attributes = sent.resource.unwrap_or_default().attributes;
                let name = attributes.iter().find(|attribute| attribute.key == "service.name");
                received.services.push(text(name.and_then(|name| name.value.as_ref())));
                received.spans.extend(sent.scope_spans.into_iter().flat_map(|scope| scope.spans));
            }
        });
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Keeper {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.0.send_modify(|received| {
            let scopes = request.into_inner().resource_metrics.into_iter().flat_map(|sent| sent.scope_metrics);
            received.metrics.extend(scopes.flat_map(|scope| scope.metrics).map(|metric| metric.name));
        });
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}
