//! Messages over the limit are refused with `MESSAGE_TOO_LARGE`, requests before they are buffered.

use std::num::NonZeroU32;
use std::sync::Arc;

use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use procpool_pool::PoolConfig;
use procpool_proto::google::rpc::{ErrorInfo, RetryInfo};
use procpool_proto::v1::i_map_response::Results as StreamResults;
use procpool_proto::v1::map_request::Items;
use procpool_proto::v1::pool_admin_service_client::PoolAdminServiceClient;
use procpool_proto::v1::{GetPoolRequest, IMapRequest, MapRequest, WatchPoolRequest, i_map_request};
use procpool_server::{NamedPool, ServerConfig};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::support::details::{detail, detail_of, reason};
use crate::support::scripted::{Script, ScriptedSpawner};
use crate::support::{TestServer, blobs, config, within};

const LIMIT: u32 = 256 << 10;

fn small() -> ServerConfig {
    ServerConfig { max_message_bytes: LIMIT, max_request_bytes_in_flight: LIMIT, ..config() }
}

fn map(function: &str, item: &[u8]) -> MapRequest {
    let items = Some(Items::Blobs(blobs([item])));
    MapRequest { function: function.to_owned(), items, ..MapRequest::default() }
}

#[tokio::test]
async fn a_request_over_the_limit_is_refused() {
    let server = TestServer::start_with(small(), Script::default()).await;
    let mut client = server.client().await;
    let refused = client.map(map("echo", &vec![7; 2 * LIMIT as usize])).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"));
    assert_eq!(refused.metadata().get("grpc-retry-pushback-ms").unwrap(), "-1");
    // The connection lives on.
    client.map(map("echo", &vec![7; LIMIT as usize - 100])).await.unwrap();
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn a_response_over_the_limit_is_refused() {
    let server = TestServer::start_with(small(), Script::default()).await;
    let refused = server.client().await.map(map("big", b"1000000")).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"));
    assert!(refused.message().contains("use IMap"), "{}", refused.message());
    server.stop().await;
}

#[tokio::test]
async fn in_a_stream_only_the_result_that_is_too_large_fails() {
    let server = TestServer::start_with(small(), Script::default()).await;
    let request = IMapRequest {
        function: "big".to_owned(),
        items: Some(i_map_request::Items::Blobs(blobs(["10", "1000000", "200000", "200000", "10"]))),
        ..IMapRequest::default()
    };
    let mut stream = server.client().await.i_map(request).await.unwrap().into_inner();
    let mut sizes = Vec::new();
    let mut errors = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        let Some(StreamResults::Blobs(results)) = message.results else { panic!("blobs were sent") };
        assert!(results.len() <= LIMIT as usize);
        sizes.extend(crate::support::contents(procpool_items::ItemKind::Blobs, &results).iter().map(bytes::Bytes::len));
        errors.extend(message.errors);
    }
    assert_eq!(sizes, [10, 0, 200_000, 200_000, 10]);
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].index, 1);
    let info: procpool_proto::google::rpc::ErrorInfo =
        detail_of(errors[0].status.as_ref().unwrap(), "ErrorInfo").unwrap();
    assert_eq!(info.reason, "MESSAGE_TOO_LARGE");
    drop(stream);
    server.stop().await;
}

/// Sends one message as it is, with this flag and encoding; returns the status of the answer.
async fn send_raw(server: &TestServer, flag: u8, encoding: Option<&str>, message: &[u8]) -> Status {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let body = http_body_util::Full::new(bytes::Bytes::from([&[flag], &length[..], message].concat()));
    let mut request = http::Request::post(format!("http://{}/procpool.v1.PoolService/Map", server.address))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(encoding) = encoding {
        request = request.header("grpc-encoding", encoding);
    }
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let response = within(client.request(request.body(body).unwrap())).await.unwrap();
    Status::from_header_map(response.headers()).unwrap()
}

#[tokio::test]
async fn a_compressed_request_is_not_understood_and_not_unpacked() {
    let server = TestServer::start().await;
    // A bomb would be unpacked before anybody knew how large it is; nothing is.
    for (flag, encoding) in [(1, Some("gzip")), (1, Some("zstd")), (0, Some("gzip")), (1, Some("identity"))] {
        let refused = send_raw(&server, flag, encoding, &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0]).await;
        let expected = if encoding == Some("identity") { Code::Internal } else { Code::Unimplemented };
        assert_eq!(refused.code(), expected, "{encoding:?}: {refused:?}");
        assert!(!reason(&refused).is_empty());
    }
    server.client().await.map(map("echo", b"and life goes on")).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn the_queue_is_one_for_all_connections() {
    let script = Script::default();
    let mut pool = PoolConfig::new(NonZeroU32::MIN);
    pool.max_queued_items = 3;
    let spawner = Arc::new(ScriptedSpawner::new(script.clone()));
    let server = TestServer::start_named(config(), vec![NamedPool::new("default", pool, spawner)]).await;
    let request = MapRequest { items: Some(Items::Blobs(blobs(["a", "b", "c"]))), ..map("gated", b"") };
    let mut first = server.client().await;
    let full = tokio_util::task::TaskTracker::new().spawn(async move { first.map(request).await });
    script.begun(1).await;
    let mut second = server.client().await;
    let refused = within(second.map(map("echo", b"a"))).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "QUEUE_FULL"));
    script.release(3);
    within(full).await.unwrap().unwrap();
    within(second.map(map("echo", b"a"))).await.unwrap();
    drop(second);
    server.stop().await;
}

/// Checks that a call was refused because there are too many at this moment.
fn assert_too_many(refused: &Status, limit: &str) {
    assert_eq!((refused.code(), reason(refused).as_str()), (Code::ResourceExhausted, "QUEUE_FULL"));
    let info: ErrorInfo = detail(refused, "ErrorInfo").unwrap();
    assert_eq!((info.metadata["resource"].as_str(), info.metadata["limit"].as_str()), ("calls", limit));
    assert!(detail::<RetryInfo>(refused, "RetryInfo").is_some());
}

#[tokio::test]
async fn calls_are_bounded_over_all_connections_but_for_health_and_operators() {
    let server = TestServer::start_with(ServerConfig { max_calls: 2, ..config() }, Script::default()).await;
    let tasks = tokio_util::task::TaskTracker::new();
    let mut running = Vec::new();
    for _ in 0..2 {
        let mut client = server.client().await;
        running.push(tasks.spawn(async move { client.map(map("gated", b"a")).await }));
    }
    server.script.begun(2).await;
    let mut client = server.client().await;
    assert_too_many(&within(client.map(map("echo", b"a"))).await.unwrap_err(), "2");
    let items = Some(i_map_request::Items::Blobs(blobs(["a"])));
    let request = IMapRequest { function: "echo".to_owned(), items, ..IMapRequest::default() };
    assert_too_many(&within(client.i_map(request.clone())).await.unwrap_err(), "2");
    within(HealthClient::new(server.channel().await).check(HealthCheckRequest::default())).await.unwrap();
    within(PoolAdminServiceClient::new(server.channel().await).get_pool(GetPoolRequest::default())).await.unwrap();
    server.script.release(2);
    for call in running {
        within(call).await.unwrap().unwrap();
    }
    // A stream is in progress until its end, and no longer.
    let mut streams = Vec::new();
    for _ in 0..2 {
        streams.push(within(client.i_map(request.clone())).await.unwrap().into_inner());
    }
    for stream in &mut streams {
        while within(stream.message()).await.unwrap().is_some() {}
    }
    within(client.map(map("echo", b"a"))).await.unwrap();
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn watchers_of_the_health_are_bounded_too_and_others_can_still_ask() {
    let server = TestServer::start_with(ServerConfig { max_connections: 3, ..config() }, Script::default()).await;
    let mut clients = [HealthClient::new(server.channel().await), HealthClient::new(server.channel().await)];
    let mut watches = Vec::new();
    for nth in 0..3 {
        watches.push(within(clients[nth % 2].watch(HealthCheckRequest::default())).await.unwrap().into_inner());
    }
    assert_too_many(&within(clients[0].watch(HealthCheckRequest::default())).await.unwrap_err(), "3");
    within(clients[0].check(HealthCheckRequest::default())).await.unwrap();
    drop(watches.pop());
    // The server learns of it in a moment.
    within(async { while clients[0].watch(HealthCheckRequest::default()).await.is_err() {} }).await;
    drop((watches, clients));
    server.stop().await;
}

#[tokio::test]
async fn watchers_of_a_pool_are_bounded_too() {
    let server = TestServer::start().await;
    // More than fit on one connection.
    let mut clients =
        [PoolAdminServiceClient::new(server.channel().await), PoolAdminServiceClient::new(server.channel().await)];
    let mut watches = Vec::new();
    for nth in 0..256 {
        let watch = within(clients[nth % 2].watch_pool(WatchPoolRequest::default())).await.unwrap();
        watches.push(watch.into_inner());
    }
    assert_too_many(&within(clients[0].watch_pool(WatchPoolRequest::default())).await.unwrap_err(), "256");
    drop(watches.pop());
    // The server learns of it in a moment.
    within(async { while clients[0].watch_pool(WatchPoolRequest::default()).await.is_err() {} }).await;
    within(server.client().await.map(map("echo", b"a"))).await.unwrap();
    drop((watches, clients));
    server.stop().await;
}
