//! Messages over the limit are refused with `MESSAGE_TOO_LARGE`, requests before they are buffered.

use procpool_proto::v1::i_map_response::Results as StreamResults;
use procpool_proto::v1::map_request::Items;
use procpool_proto::v1::{IMapRequest, MapRequest, i_map_request};
use procpool_server::ServerConfig;
use tonic::Code;

use crate::support::details::{detail_of, reason};
use crate::support::scripted::Script;
use crate::support::{TestServer, blobs, config};

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
