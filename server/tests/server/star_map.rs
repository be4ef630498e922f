//! StarMap takes lists of arguments, and refuses anything else before it starts.

use procpool_items::SlabBuilder;
use procpool_proto::v1::StarMapRequest;
use procpool_proto::v1::star_map_request::Items;
use procpool_proto::v1::star_map_response::Results;
use prost::Message as _;
use prost_types::value::Kind;
use prost_types::{ListValue, Value};
use tonic::Code;

use crate::support::details::{fields, reason};
use crate::support::{TestServer, blobs};

fn number(number: f64) -> Value {
    Value { kind: Some(Kind::NumberValue(number)) }
}

fn list(values: Vec<Value>) -> Value {
    Value { kind: Some(Kind::ListValue(ListValue { values })) }
}

fn request(items: &[Value]) -> StarMapRequest {
    let mut builder = SlabBuilder::new();
    for item in items {
        builder.push(&item.encode_to_vec());
    }
    let items = Some(Items::Values(builder.take()));
    StarMapRequest { function: "echo".to_owned(), items, ..StarMapRequest::default() }
}

#[tokio::test]
async fn lists_come_back_in_order() {
    let server = TestServer::start().await;
    let request = request(&[list(vec![number(2.0), number(10.0)]), list(vec![]), list(vec![number(3.0)])]);
    let response = server.client().await.star_map(request.clone()).await.unwrap().into_inner();
    let Some(Items::Values(items)) = request.items else { unreachable!("values were sent") };
    assert_eq!(response.results, Some(Results::Values(items)));
    server.stop().await;
}

#[tokio::test]
async fn an_item_that_is_no_list_is_named() {
    let server = TestServer::start().await;
    let items = [list(vec![]), list(vec![]), number(5.0)];
    let refused = server.client().await.star_map(request(&items)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(reason(&refused), "INVALID_ITEM");
    assert_eq!(fields(&refused), ["values[2]"]);
    server.stop().await;
}

#[tokio::test]
async fn blobs_must_be_json() {
    let server = TestServer::start().await;
    let items = Some(Items::Blobs(blobs(["[1]"])));
    let mut request = StarMapRequest { function: "echo".to_owned(), items, ..StarMapRequest::default() };
    let refused = server.client().await.star_map(request.clone()).await.unwrap_err();
    assert_eq!(fields(&refused), ["content_type"]);
    request.content_type = "application/json".to_owned();
    server.client().await.star_map(request).await.unwrap();
    server.stop().await;
}
