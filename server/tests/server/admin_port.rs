//! The admin port: metrics that agree with what the client counted, and health, whatever the public port does.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use procpool_pool::PoolConfig;
use procpool_proto::v1::i_map_stream_config::Common;
use procpool_proto::v1::map_request::Items;
use procpool_proto::v1::pool_service_client::PoolServiceClient;
use procpool_proto::v1::{CallOptions, IMapStreamConfig, IMapStreamRequest, MapRequest, OnError, i_map_stream_request};
use procpool_server::{MAX_ADMIN_CONNECTIONS, NamedPool, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::support::scripted::{Script, ScriptedSpawner};
use crate::support::{TestServer, blobs, config, within};

fn with_admin_port() -> ServerConfig {
    ServerConfig { admin_listen: Some(([127, 0, 0, 1], 0).into()), ..config() }
}

fn map(function: &str, num_items: usize) -> MapRequest {
    MapRequest {
        function: function.to_owned(),
        items: Some(Items::Blobs(blobs(vec!["a"; num_items]))),
        options: Some(CallOptions { on_error: OnError::Collect.into(), ..CallOptions::default() }),
        ..MapRequest::default()
    }
}

/// Samples by their names and labels.
#[derive(Debug)]
struct Metrics(BTreeMap<String, String>);

impl Metrics {
    fn count(&self, name: &str) -> u64 {
        self.find(name).unwrap_or_else(|| panic!("no {name} among {self:#?}")).parse().unwrap()
    }

    fn seconds(&self, name: &str) -> f64 {
        self.find(name).unwrap_or_else(|| panic!("no {name} among {self:#?}")).parse().unwrap()
    }

    fn find(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl TestServer {
    async fn metrics(&self) -> Metrics {
        let (status, answer) = self.get("/metrics").await;
        assert_eq!(status, "HTTP/1.1 200 OK");
        let samples = answer.lines().filter(|line| line.starts_with("procpool_"));
        let samples = samples.map(|line| line.rsplit_once(' ').unwrap());
        Metrics(samples.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    async fn admin_health(&self) -> ServingStatus {
        let endpoint = Channel::from_shared(format!("http://{}", self.admin_address.unwrap())).unwrap();
        let mut client = HealthClient::new(endpoint.connect().await.unwrap());
        client.check(HealthCheckRequest::default()).await.unwrap().into_inner().status()
    }
}

#[tokio::test]
async fn the_counters_say_what_the_client_counted() {
    let server = TestServer::start_with(with_admin_port(), Script::default()).await;
    let mut client = server.client().await;
    client.map(map("echo", 1000)).await.unwrap();
    client.map(map("echo", 34)).await.unwrap();
    let errors = client.map(map("raise", 7)).await.unwrap().into_inner().errors;
    client.map(map("absent", 1)).await.unwrap_err();

    let metrics = server.metrics().await;
    assert_eq!(metrics.count(r#"procpool_items_total{function="echo",outcome="ok",pool="default"}"#), 1034);
    assert_eq!(
        metrics.count(r#"procpool_items_total{function="raise",outcome="raised",pool="default"}"#),
        errors.len() as u64
    );
    assert_eq!(metrics.count(r#"procpool_calls_total{code="OK",method="procpool.v1.PoolService/Map"}"#), 3);
    assert_eq!(metrics.count(r#"procpool_calls_total{code="NOT_FOUND",method="procpool.v1.PoolService/Map"}"#), 1);
    assert_eq!(metrics.count(r#"procpool_queue_wait_seconds_count{function="echo",pool="default"}"#), 2);
    // The scripted workers say that an item takes a microsecond.
    assert!(
        (metrics.seconds(r#"procpool_chunk_run_seconds_sum{function="echo",pool="default"}"#) - 0.001_034).abs() < 1e-9
    );
    assert_eq!(metrics.count(r#"procpool_slots{pool="default",state="ready"}"#), 2);
    assert_eq!(metrics.count(r#"procpool_worker_starts_total{pool="default"}"#), 2);
    for nothing in [
        r#"procpool_jobs{pool="default"}"#,
        r#"procpool_queued_items{pool="default"}"#,
        r#"procpool_running_items{pool="default"}"#,
        r#"procpool_slots_demanded{pool="default"}"#,
    ] {
        assert_eq!(metrics.count(nothing), 0, "{nothing}");
    }
    assert!(metrics.seconds(r#"procpool_idle_seconds{pool="default"}"#) > 0.0);
    server.stop().await;
}

#[tokio::test]
async fn demand_is_there_while_work_waits() {
    let server = TestServer::start_with(with_admin_port(), Script::default()).await;
    let mut client = server.client().await;
    let running = TaskTracker::new().spawn(async move { client.map(map("gated", 50)).await });
    server.script.begun(2).await;
    let metrics = server.metrics().await;
    assert_eq!(metrics.count(r#"procpool_slots{pool="default",state="busy"}"#), 2);
    assert_eq!(
        (
            metrics.count(r#"procpool_running_items{pool="default"}"#),
            metrics.count(r#"procpool_queued_items{pool="default"}"#)
        ),
        (2, 48)
    );
    assert!(metrics.count(r#"procpool_slots_demanded{pool="default"}"#) >= 3);
    assert!(metrics.seconds(r#"procpool_oldest_queued_seconds{pool="default"}"#) > 0.0);
    assert_eq!(
        (metrics.count(r#"procpool_jobs{pool="default"}"#), metrics.count(r#"procpool_idle_seconds{pool="default"}"#)),
        (1, 0)
    );
    server.script.release(50);
    within(running).await.unwrap().unwrap();
    server.stop().await;
}

#[tokio::test]
async fn while_it_drains_it_lives_is_not_ready_and_counts_what_is_refused() {
    let server = TestServer::start_with(with_admin_port(), Script::default()).await;
    assert_eq!(server.metrics().await.count(r#"procpool_refused_total{reason="DRAINING"}"#), 0);
    let mut client = server.client().await;
    let running = TaskTracker::new().spawn(async move { client.map(map("gated", 3)).await });
    server.script.begun(2).await;
    server.shutdown.drain();
    let refused = within(async {
        loop {
            let is_refused = server.client().await.map(map("echo", 1)).await.is_err();
            if is_refused && server.metrics().await.count(r#"procpool_refused_total{reason="DRAINING"}"#) > 0 {
                return;
            }
        }
    });
    refused.await;
    assert_eq!(server.get("/healthz").await.0, "HTTP/1.1 200 OK");
    let (status, answer) = server.get("/readyz").await;
    assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
    assert!(answer.ends_with("not ready: draining\n"), "{answer}");
    assert_eq!(server.admin_health().await, ServingStatus::NotServing);
    server.script.release(3);
    within(running).await.unwrap().unwrap();
    server.ended().await;
}

#[tokio::test]
async fn what_is_refused_after_a_stream_has_begun_is_counted_too() {
    let mut pool = PoolConfig::new(NonZeroU32::MIN);
    pool.max_queued_bytes = 10_000;
    let spawner = Arc::new(ScriptedSpawner::new(Script::default()));
    let server = TestServer::start_named(with_admin_port(), vec![NamedPool::new("default", pool, spawner)]).await;
    let refused = |reason: &str| format!(r#"procpool_refused_total{{reason="{reason}"}}"#);
    let before = server.metrics().await;
    for reason in ["QUEUE_FULL", "DEADLINE_UNREACHABLE", "POOL_DEGRADED", "DRAINING"] {
        assert_eq!(before.count(&refused(reason)), 0, "a counter that is not there cannot be seen to rise");
    }

    // Beside the common argument there is no room for the item, and the first answer has come by then.
    let common = Some(Common::CommonBlob(vec![7; 4000].into()));
    let stream = IMapStreamConfig { function: "echo".to_owned(), common, ..IMapStreamConfig::default() };
    let (requests, input) = mpsc::channel(2);
    requests.send(IMapStreamRequest { config: Some(stream), ..IMapStreamRequest::default() }).await.unwrap();
    let mut client = server.client().await;
    let mut answers = within(client.i_map_stream(ReceiverStream::new(input))).await.unwrap().into_inner();
    within(answers.message()).await.unwrap().unwrap();
    let items = Some(i_map_stream_request::Items::Blobs(blobs([[7; 7000]])));
    requests.send(IMapStreamRequest { items, ..IMapStreamRequest::default() }).await.unwrap();
    within(async { while answers.message().await.is_ok_and(|answer| answer.is_some()) {} }).await;
    assert_eq!(server.metrics().await.count(&refused("QUEUE_FULL")), 1);
    drop((client, answers));
    server.stop().await;
}

#[tokio::test]
async fn items_of_a_call_that_is_given_up_are_counted_as_dropped() {
    let server = TestServer::start_with(with_admin_port(), Script::default()).await;
    let mut client = server.client().await;
    let running = TaskTracker::new().spawn(async move { client.map(map("gated", 10)).await });
    server.script.begun(2).await;
    running.abort();
    let dropped = r#"procpool_items_total{function="gated",outcome="dropped",pool="default"}"#;
    let cancelled = r#"procpool_calls_total{code="CANCELLED",method="procpool.v1.PoolService/Map"}"#;
    let counted = within(async {
        loop {
            let metrics = server.metrics().await;
            if metrics.find(dropped).is_some() && metrics.find(cancelled).is_some() {
                return metrics;
            }
        }
    });
    let counted = counted.await;
    assert_eq!((counted.count(dropped), counted.count(cancelled)), (10, 1));
    server.script.release(2);
    server.stop().await;
}

#[tokio::test]
async fn it_answers_when_the_public_port_is_full() {
    let full = ServerConfig { max_connections: 1, ..with_admin_port() };
    let server = TestServer::start_with(full, Script::default()).await;
    let only = server.client().await;
    within(async { while server.get("/readyz").await.0 != "HTTP/1.1 200 OK" {} }).await;
    assert_eq!(server.admin_health().await, ServingStatus::Serving);
    assert!(server.get("/nothing").await.0.ends_with("404 Not Found"));
    drop(only);
    server.stop().await;
}

/// Fills the admin port with connections that each say this and read nothing; it answers all the same.
async fn fill_with(start: &[u8]) {
    let server = TestServer::start_with(with_admin_port(), Script::default()).await;
    let mut silent = Vec::new();
    for _ in 0..2 * MAX_ADMIN_CONNECTIONS {
        let mut stream = within(TcpStream::connect(server.admin_address.unwrap())).await.unwrap();
        // It may have been hung up on by now.
        let _ = stream.write_all(start).await;
        silent.push(stream);
        if silent.len() % 16 == 0 {
            assert_eq!(server.get("/healthz").await.0, "HTTP/1.1 200 OK");
        }
    }
    drop(silent);
    server.stop().await;
}

#[tokio::test]
async fn it_answers_beside_connections_that_say_nothing() {
    fill_with(b"").await;
}

#[tokio::test]
async fn it_answers_beside_connections_with_one_byte() {
    fill_with(b"G").await;
    // This may become HTTP/2.
    fill_with(b"P").await;
}

#[tokio::test]
async fn it_answers_beside_connections_without_a_request() {
    fill_with(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
}

#[tokio::test]
async fn it_answers_beside_readers_that_take_no_answer() {
    fill_with(&b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n".repeat(50)).await;
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed() {
    let server = TestServer::start_with(with_admin_port(), Script::default()).await;
    let starts: [&[u8]; 4] = [b"", b"GET /he", b"PRI * HT", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"];
    let mut silent = Vec::new();
    for start in starts {
        let mut stream = TcpStream::connect(server.admin_address.unwrap()).await.unwrap();
        stream.write_all(start).await.unwrap();
        silent.push(stream);
    }
    for mut stream in silent {
        let _ = within(stream.read_to_end(&mut Vec::new())).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_call_is_told_where_calls_go() {
    let server = TestServer::start_with(with_admin_port(), Script::default()).await;
    let endpoint = Channel::from_shared(format!("http://{}", server.admin_address.unwrap())).unwrap();
    let mut client = PoolServiceClient::new(endpoint.connect().await.unwrap());
    let refused = within(client.map(map("echo", 1))).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    let place = format!("make calls to http://{}", server.address);
    assert!(
        refused.message().starts_with("this is the admin port") && refused.message().ends_with(&place),
        "{refused}"
    );
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn connections_are_counted_and_those_that_had_to_wait() {
    let server =
        TestServer::start_with(ServerConfig { max_connections: 1, ..with_admin_port() }, Script::default()).await;
    let mut first = server.client().await;
    first.map(map("echo", 1)).await.unwrap();
    let (open, delayed) = ("procpool_connections", "procpool_connections_delayed_total");
    let metrics = server.metrics().await;
    assert_eq!((metrics.count(open), metrics.count(delayed)), (1, 0));
    let mut second = server.client().await;
    let waiting = TaskTracker::new().spawn(async move { second.map(map("echo", 1)).await });
    within(async { while server.metrics().await.count(delayed) == 0 {} }).await;
    assert_eq!(server.metrics().await.count(open), 1);
    drop(first);
    within(waiting).await.unwrap().unwrap();
    server.stop().await;
}

#[tokio::test]
async fn without_a_worker_it_lives_and_is_not_ready() {
    let server = TestServer::start_with(with_admin_port(), Script::never_ready()).await;
    assert_eq!(server.get("/healthz").await.0, "HTTP/1.1 200 OK");
    let (status, answer) = server.get("/readyz").await;
    assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
    assert!(answer.ends_with("not ready: no worker is ready\n"), "{answer}");
    assert_eq!(server.metrics().await.count(r#"procpool_slots{pool="default",state="starting"}"#), 2);
    server.stop().await;
}
