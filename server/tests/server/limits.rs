//! Messages over the limit are refused with `MESSAGE_TOO_LARGE`, requests before they are buffered.

use std::num::NonZeroU32;
use std::sync::Arc;

use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use procpool_pool::PoolConfig;
use procpool_proto::v1::i_map_response::Results as StreamResults;
use procpool_proto::v1::map_request::Items;
use procpool_proto::v1::{IMapRequest, MapRequest, i_map_request};
use procpool_server::{NamedPool, ServerConfig};
use tonic::{Code, Status};

use crate::support::details::{detail_of, reason};
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
