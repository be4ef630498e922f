//! A trace runs from the client's span over the call's to the chunks', and the worker can continue it.

use std::collections::BTreeSet;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{Span, status};
use procpool_proto::v1::map_request::Items;
use procpool_proto::v1::{CallOptions, IMapRequest, MapRequest, i_map_request};
use procpool_server::{ServerConfig, TelemetryConfig};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;
use tonic::{Code, IntoRequest as _, Request};

use crate::support::collector::{Collector, attributes};
use crate::support::scripted::Script;
use crate::support::{TestServer, blobs, config};

const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

fn traced_by(endpoint: String) -> ServerConfig {
    let telemetry = TelemetryConfig { traces_endpoint: Some(endpoint), ..TelemetryConfig::default() };
    ServerConfig { telemetry, ..config() }
}

/// Returns a request of the caller's span; `flags` tell whether it is sampled.
fn traced<T>(message: T, flags: &str) -> Request<T> {
    let mut request = message.into_request();
    let traceparent = format!("00-{TRACE_ID}-{CALLER}-{flags}");
    request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
    request.metadata_mut().insert("tracestate", "vendor=1".parse().unwrap());
    request
}

fn map(function: &str, chunk_size: u32) -> MapRequest {
    MapRequest {
        function: function.to_owned(),
        items: Some(Items::Blobs(blobs(["a", "b", "c", "d"]))),
        options: Some(CallOptions { chunk_size, request_id: "r-1".to_owned(), ..CallOptions::default() }),
        ..MapRequest::default()
    }
}

fn hex(id: &[u8]) -> String {
    let digits = id.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from_digit(digit.into(), 16).unwrap()).collect()
}

/// Returns the span of the call and those of its chunks, by first index.
fn sorted(spans: &[Span]) -> (&Span, Vec<&Span>) {
    let (calls, mut chunks): (Vec<_>, Vec<_>) = spans.iter().partition(|span| span.kind() == SpanKind::Server);
    let [call] = calls[..] else { panic!("one call was made: {spans:?}") };
    chunks.sort_by_key(|chunk| attributes(chunk)["procpool.chunk.first_index"].parse::<u64>().unwrap());
    (call, chunks)
}

#[tokio::test]
async fn a_map_is_a_span_below_the_callers_and_each_chunk_one_below_it() {
    let collector = Collector::start().await;
    let server = TestServer::start_with(traced_by(collector.endpoint()), Script::default()).await;
    let traceparents = server.script.traceparents.clone();
    server.client().await.map(traced(map("echo", 2), "01")).await.unwrap();
    // What has not been sent is sent at the end.
    server.stop().await;

    let received = collector.received();
    assert!(received.services.iter().all(|name| name == "procpool") && !received.services.is_empty());
    assert!(received.spans.iter().all(|span| hex(&span.trace_id) == TRACE_ID));
    let (call, chunks) = sorted(&received.spans);
    assert_eq!((call.name.as_str(), hex(&call.parent_span_id).as_str()), ("procpool.v1.PoolService/Map", CALLER));
    assert_eq!(call.trace_state, "vendor=1");
    let said = attributes(call);
    assert_eq!((said["procpool.function"].as_str(), said["procpool.request_id"].as_str()), ("echo", "r-1"));
    assert_eq!((said["rpc.method"].as_str(), said["rpc.grpc.status_code"].as_str()), ("Map", "0"));

    assert_eq!(chunks.len(), 2);
    for (position, chunk) in chunks.iter().enumerate() {
        assert_eq!((chunk.name.as_str(), hex(&chunk.parent_span_id)), ("run echo", hex(&call.span_id)));
        let said = attributes(chunk);
        assert_eq!(said["procpool.chunk.first_index"], (2 * position).to_string());
        for (name, expected) in [
            ("procpool.function", "echo"),
            ("procpool.chunk.count", "2"),
            ("procpool.chunk.finished", "2"),
            ("procpool.chunk.failed", "0"),
            ("procpool.worker.pid", "1"),
            ("procpool.attempt", "1"),
            ("procpool.outcome", "ok"),
        ] {
            assert_eq!(said[name], expected, "{name}");
        }
        assert!(["0", "1"].contains(&said["procpool.slot"].as_str()));
        assert!(chunk.start_time_unix_nano >= call.start_time_unix_nano);
        assert!(chunk.end_time_unix_nano <= call.end_time_unix_nano);
    }
    // The workers continue the chunks' spans.
    let handed: BTreeSet<String> = traceparents.lock().unwrap().iter().cloned().collect();
    let expected = chunks.iter().map(|chunk| format!("00-{TRACE_ID}-{}-01", hex(&chunk.span_id)));
    assert_eq!(handed, expected.collect());
}

#[tokio::test]
async fn a_failure_shows_in_both_spans() {
    let collector = Collector::start().await;
    let server = TestServer::start_with(traced_by(collector.endpoint()), Script::default()).await;
    let failed = server.client().await.map(map("raise", 4)).await.unwrap_err();
    assert_eq!(failed.code(), Code::Unknown);
    server.stop().await;
    let received = collector.received();
    let (call, chunks) = sorted(&received.spans);
    assert_eq!(call.parent_span_id, Vec::<u8>::new(), "the caller had no trace: one begins here");
    let is_error = |span: &Span| span.status.as_ref().unwrap().code() == status::StatusCode::Error;
    assert!(is_error(call) && is_error(chunks[0]));
    let said = attributes(chunks[0]);
    assert_eq!((said["procpool.outcome"].as_str(), said["procpool.chunk.failed"].as_str()), ("items_failed", "4"));
}

#[tokio::test]
async fn a_stream_that_its_reader_leaves_ends_its_spans() {
    let collector = Collector::start().await;
    let server = TestServer::start_with(traced_by(collector.endpoint()), Script::default()).await;
    let items = Some(i_map_request::Items::Blobs(blobs(["a", "b", "c"])));
    let request = IMapRequest { function: "gated".to_owned(), items, ..IMapRequest::default() };
    let mut client = server.client().await;
    server.script.release(1);
    let mut stream = client.i_map(request).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    drop(stream);
    drop(client);
    // The item that runs is told to end, and does.
    let mut cancelled = server.script.cancelled.subscribe();
    crate::support::within(cancelled.wait_for(|cancelled| *cancelled > 0)).await.unwrap();
    server.script.release(2);
    server.stop().await;
    let received = collector.received();
    let (call, chunks) = sorted(&received.spans);
    let cancelled = (Code::Cancelled as i32).to_string();
    assert_eq!(attributes(call)["rpc.grpc.status_code"], cancelled);
    assert_eq!(attributes(chunks[0])["procpool.outcome"], "ok");
}

#[tokio::test]
async fn a_trace_that_is_not_sampled_is_handed_on_and_not_sent() {
    let collector = Collector::start().await;
    let server = TestServer::start_with(traced_by(collector.endpoint()), Script::default()).await;
    let traceparents = server.script.traceparents.clone();
    server.client().await.map(traced(map("echo", 4), "00")).await.unwrap();
    server.stop().await;
    assert!(collector.received().spans.is_empty());
    let [handed] = &traceparents.lock().unwrap()[..] else { panic!("one chunk was sent") };
    assert!(handed.starts_with(&format!("00-{TRACE_ID}-")) && handed.ends_with("-00"), "{handed}");
}

#[tokio::test]
async fn without_an_exporter_the_worker_gets_the_callers_own_context() {
    let server = TestServer::start().await;
    let traceparents = server.script.traceparents.clone();
    server.client().await.map(traced(map("echo", 4), "01")).await.unwrap();
    server.stop().await;
    assert_eq!(traceparents.lock().unwrap()[..], [format!("00-{TRACE_ID}-{CALLER}-01")]);
}

#[tokio::test]
async fn metrics_are_sent_too_and_once_more_at_the_end() {
    let collector = Collector::start().await;
    let telemetry = TelemetryConfig { metrics_endpoint: Some(collector.endpoint()), ..TelemetryConfig::default() };
    let server = TestServer::start_with(ServerConfig { telemetry, ..config() }, Script::default()).await;
    server.client().await.map(map("echo", 4)).await.unwrap();
    server.stop().await;
    let names = collector.received().metrics;
    for name in ["procpool.items", "procpool.slots_demanded", "procpool.call.duration"] {
        assert!(names.iter().any(|sent| sent == name), "{name} is not among {names:?}");
    }
}

#[tokio::test]
async fn a_collector_that_is_not_there_harms_nobody() {
    let gone = Collector::start().await.endpoint().replace("127.0.0.1", "127.0.0.2");
    let telemetry = TelemetryConfig { traces_endpoint: Some(gone.clone()), metrics_endpoint: Some(gone) };
    let server = TestServer::start_with(ServerConfig { telemetry, ..config() }, Script::default()).await;
    server.client().await.map(map("echo", 4)).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_collector_that_never_answers_does_not_keep_the_server_from_its_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("http://{}", listener.local_addr().unwrap());
    let mut connections = Vec::new();
    TaskTracker::new().spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            connections.push(connection);
        }
    });
    let telemetry = TelemetryConfig { traces_endpoint: Some(silent.clone()), metrics_endpoint: Some(silent) };
    let server = TestServer::start_with(ServerConfig { telemetry, ..config() }, Script::default()).await;
    server.client().await.map(map("echo", 4)).await.unwrap();
    server.stop().await;
}
