//! A client that goes away frees its slots: what was queued never runs.

use std::time::Duration;

use procpool_proto::v1::map_request::Items;
use procpool_proto::v1::{IMapRequest, MapRequest, i_map_request};

use crate::support::{TestServer, blobs, within};

fn gated(items: usize) -> MapRequest {
    let items = Some(Items::Blobs(blobs((0..items).map(|index| index.to_string()))));
    MapRequest { function: "gated".to_owned(), items, ..MapRequest::default() }
}

#[tokio::test]
async fn a_map_whose_client_hangs_up_is_cancelled() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let tasks = tokio_util::task::TaskTracker::new();
    let call = tasks.spawn(async move { client.map(gated(100)).await });
    server.script.begun(1).await;
    let mut cancelled = server.script.cancelled.subscribe();
    call.abort();
    within(cancelled.wait_for(|cancelled| *cancelled > 0)).await.unwrap();
    let begun = server.script.num_begun();
    server.script.release(1000);
    // The slots are free for another: it would not come to an end otherwise.
    let response = within(server.client().await.map(gated(20))).await;
    response.unwrap();
    assert_eq!(server.script.num_begun(), begun + 20);
    server.stop().await;
}

#[tokio::test]
async fn a_stream_whose_reader_hangs_up_is_cancelled() {
    let server = TestServer::start().await;
    server.script.release(1);
    let request = IMapRequest {
        function: "gated".to_owned(),
        items: Some(i_map_request::Items::Blobs(blobs((0..100).map(|index| index.to_string())))),
        ..IMapRequest::default()
    };
    let mut stream = server.client().await.i_map(request).await.unwrap().into_inner();
    within(stream.message()).await.unwrap().unwrap();
    let mut cancelled = server.script.cancelled.subscribe();
    drop(stream);
    within(cancelled.wait_for(|cancelled| *cancelled > 0)).await.unwrap();
    server.script.release(1000);
    server.stop().await;
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_given_up() {
    let mut config = crate::support::config();
    config.stream_stall_timeout = Duration::from_millis(300);
    let server = TestServer::start_with(config, crate::support::scripted::Script::default()).await;
    // More than any window of HTTP/2 holds.
    let request = IMapRequest {
        function: "big".to_owned(),
        items: Some(i_map_request::Items::Blobs(blobs((0..200).map(|_| "1000000")))),
        ..IMapRequest::default()
    };
    let mut stream = server.client().await.i_map(request).await.unwrap().into_inner();
    // The call ends although nobody has read anything: the server has nothing left to wait for.
    server.shutdown.drain();
    within(server.served).await.unwrap().unwrap();
    let mut received = 0;
    while let Ok(Some(_)) = within(stream.message()).await {
        received += 1;
    }
    assert!(received < 200, "{received}");
}
