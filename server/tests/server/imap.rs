//! IMap streams results as they come, in order or as they finish, and no further ahead of the reader than its window.

use procpool_items::ItemKind;
use procpool_proto::v1::i_map_request::Items;
use procpool_proto::v1::i_map_response::Results;
use procpool_proto::v1::pool_service_client::PoolServiceClient;
use procpool_proto::v1::{CallOptions, IMapRequest, IMapResponse, OnError, ResultOrder};
use tonic::{Code, Streaming};

use crate::support::details::reason;
use crate::support::{TestServer, blobs, contents, within};

fn request(function: &str, items: usize) -> IMapRequest {
    let items = (0..items).map(|index| index.to_string());
    IMapRequest { function: function.to_owned(), items: Some(Items::Blobs(blobs(items))), ..IMapRequest::default() }
}

/// Reads all results with their indexes.
async fn collect(mut stream: Streaming<IMapResponse>) -> Vec<(u64, String)> {
    let mut received = Vec::new();
    while let Some(message) = within(stream.message()).await.unwrap() {
        let Some(Results::Blobs(results)) = message.results else { panic!("blobs were sent") };
        let results = contents(ItemKind::Blobs, &results);
        let indexes = if message.indexes.is_empty() {
            (message.first_index..).take(results.len()).collect()
        } else {
            message.indexes
        };
        assert_eq!(indexes.len(), results.len());
        let texts = results.iter().map(|result| String::from_utf8(result.to_vec()).unwrap());
        received.extend(indexes.into_iter().zip(texts));
    }
    received
}

fn expected(count: usize) -> Vec<(u64, String)> {
    (0..count).map(|index| (index as u64, index.to_string())).collect()
}

#[tokio::test]
async fn ordered_results_come_in_order() {
    let server = TestServer::start().await;
    let stream = server.client().await.i_map(request("echo", 50_000)).await.unwrap().into_inner();
    assert_eq!(collect(stream).await, expected(50_000));
    server.stop().await;
}

#[tokio::test]
async fn unordered_results_name_their_items() {
    let server = TestServer::start().await;
    let request = IMapRequest { order: ResultOrder::Unordered.into(), ..request("echo", 5_000) };
    let stream = server.client().await.i_map(request).await.unwrap().into_inner();
    let mut received = collect(stream).await;
    received.sort_unstable();
    assert_eq!(received, expected(5_000));
    server.stop().await;
}

#[tokio::test]
async fn a_slow_result_is_not_held_back() {
    let server = TestServer::start().await;
    server.script.release(1);
    let mut stream = within(server.client().await.i_map(request("gated", 3))).await.unwrap().into_inner();
    let first = within(stream.message()).await.unwrap().unwrap();
    assert_eq!(first.results, Some(Results::Blobs(blobs(["0"]))));
    server.script.release(2);
    assert_eq!(collect(stream).await, [(1, "1".to_owned()), (2, "2".to_owned())]);
    server.stop().await;
}

#[tokio::test]
async fn no_items_end_the_stream_at_once() {
    let server = TestServer::start().await;
    let stream = server.client().await.i_map(request("echo", 0)).await.unwrap().into_inner();
    assert_eq!(collect(stream).await, []);
    server.stop().await;
}

#[tokio::test]
async fn what_fails_before_the_first_result_has_no_headers_before_it() {
    let server = TestServer::start().await;
    // The error comes from the call itself, not from the stream: it is still safe to retry.
    let failed = server.client().await.i_map(request("nothing", 3)).await.unwrap_err();
    assert_eq!((failed.code(), reason(&failed).as_str()), (Code::NotFound, "FUNCTION_NOT_FOUND"));
    server.stop().await;
}

#[tokio::test]
async fn a_failed_item_does_not_end_the_stream_unless_asked_for() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let mut stream = client.i_map(request("raise", 3)).await.unwrap().into_inner();
    let mut failed = Vec::new();
    while let Some(message) = within(stream.message()).await.unwrap() {
        failed.extend(message.errors.iter().map(|error| error.index));
    }
    assert_eq!(failed, [0, 1, 2]);

    let options = Some(CallOptions { on_error: OnError::FailFast.into(), ..CallOptions::default() });
    let failed = client.i_map(IMapRequest { options, ..request("raise", 3) }).await.unwrap_err();
    assert_eq!(reason(&failed), "FUNCTION_RAISED");
    drop(client);
    server.stop().await;
}

/// The client's library allows frames of less than 256 bytes, unread, for 25,600 bytes that are missing from that size;
/// with the smallest window that is as many as 110.
#[tokio::test]
async fn a_reader_that_sleeps_before_many_single_results_keeps_its_connection() {
    let server = TestServer::start().await;
    let endpoint = tonic::transport::Channel::from_shared(format!("http://{}", server.address)).unwrap();
    let channel = endpoint.initial_connection_window_size(65_535).initial_stream_window_size(65_535).connect().await;
    let mut client = PoolServiceClient::new(channel.unwrap());
    server.script.release(1);
    let mut stream = within(client.i_map(request("gated", 600))).await.unwrap().into_inner();
    for begun in 3..600 {
        // One by one, so that each result goes out alone as long as the connection takes it.
        server.script.release(1);
        server.script.begun(begun).await;
    }
    server.script.release(600);
    let mut num_messages = 0;
    let mut received = 0;
    while let Some(message) = within(stream.message()).await.unwrap() {
        let Some(Results::Blobs(results)) = message.results else { panic!("blobs were sent") };
        received += contents(ItemKind::Blobs, &results).len();
        num_messages += 1;
    }
    assert_eq!(received, 600);
    assert!(num_messages > 150, "{num_messages} messages show nothing");
    drop(client);
    server.stop().await;
}
