//! Map returns the results in the order of the items, in the kind that was sent.

use procpool_items::ItemKind;
use procpool_proto::v1::MapRequest;
use procpool_proto::v1::map_request::Items;
use procpool_proto::v1::map_response::Results;

use crate::support::{TestServer, blobs, contents, numbers};

#[tokio::test]
async fn values_come_back_as_values() {
    let server = TestServer::start().await;
    let items = numbers(0..10_000);
    let request =
        MapRequest { function: "echo".to_owned(), items: Some(Items::Values(items.clone())), ..MapRequest::default() };
    let response = server.client().await.map(request).await.unwrap().into_inner();
    assert_eq!(response.results, Some(Results::Values(items)));
    assert_eq!(response.errors, []);
    server.stop().await;
}

#[tokio::test]
async fn blobs_come_back_as_blobs_with_their_content_type() {
    let server = TestServer::start().await;
    let request = MapRequest {
        function: "echo".to_owned(),
        content_type: "application/json".to_owned(),
        items: Some(Items::Blobs(blobs(["1", "", "\"x\""]))),
        ..MapRequest::default()
    };
    let response = server.client().await.map(request).await.unwrap().into_inner();
    assert_eq!(response.content_type, "application/json");
    let Some(Results::Blobs(results)) = response.results else { panic!("no blobs: {response:?}") };
    assert_eq!(contents(ItemKind::Blobs, &results), ["1", "", "\"x\""]);
    server.stop().await;
}

#[tokio::test]
async fn no_items_give_no_results() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    for items in [None, Some(Items::Values(bytes::Bytes::new()))] {
        let request = MapRequest { function: "echo".to_owned(), items, ..MapRequest::default() };
        let response = client.map(request).await.unwrap().into_inner();
        assert_eq!(response.results, Some(Results::Values(bytes::Bytes::new())));
    }
    server.stop().await;
}
