//! What fails has a code, a reason and details; one failed item does not spoil the others unless the caller wants so.

use procpool_items::ItemKind;
use procpool_proto::google::rpc::{DebugInfo, ErrorInfo, RequestInfo};
use procpool_proto::v1::map_request::Items;
use procpool_proto::v1::map_response::Results;
use procpool_proto::v1::{CallOptions, ErrorData, MapRequest, OnError};
use tonic::codegen::http;
use tonic::{Code, Request};

use crate::support::details::{detail, detail_of, reason};
use crate::support::{TestServer, blobs, contents, numbers};

fn raise(on_error: OnError) -> MapRequest {
    let request_id = "request-7".to_owned();
    MapRequest {
        function: "raise".to_owned(),
        items: Some(Items::Blobs(blobs(["a", "b"]))),
        options: Some(CallOptions { on_error: on_error.into(), request_id, ..CallOptions::default() }),
        ..MapRequest::default()
    }
}

#[tokio::test]
async fn a_function_that_raises_fails_a_map() {
    let server = TestServer::start().await;
    let failed = server.client().await.map(raise(OnError::Unspecified)).await.unwrap_err();
    assert_eq!((failed.code(), reason(&failed).as_str()), (Code::Unknown, "FUNCTION_RAISED"));
    let info: ErrorInfo = detail(&failed, "ErrorInfo").unwrap();
    assert_eq!((info.metadata["index"].as_str(), info.metadata["type"].as_str()), ("0", "ValueError"));
    let debug: DebugInfo = detail(&failed, "DebugInfo").unwrap();
    assert_eq!(debug.stack_entries.last().unwrap(), "ValueError: no such luck");
    let data: ErrorData = detail(&failed, "ErrorData").unwrap();
    assert_eq!(data.data, "no such luck, in its own form");
    assert_eq!(detail::<RequestInfo>(&failed, "RequestInfo").unwrap().request_id, "request-7");
    assert_eq!(failed.metadata().get("grpc-retry-pushback-ms").unwrap(), "-1");
    server.stop().await;
}

#[tokio::test]
async fn collected_errors_come_beside_the_results() {
    let server = TestServer::start().await;
    let response = server.client().await.map(raise(OnError::Collect)).await.unwrap().into_inner();
    let Some(Results::Blobs(results)) = response.results else { panic!("no blobs: {response:?}") };
    assert_eq!(contents(ItemKind::Blobs, &results), ["", ""]);
    assert_eq!(response.errors.iter().map(|error| error.index).collect::<Vec<_>>(), [0, 1]);
    let status = response.errors[1].status.as_ref().unwrap();
    assert_eq!(status.code, Code::Unknown as i32);
    assert_eq!(detail_of::<ErrorInfo>(status, "ErrorInfo").unwrap().reason, "FUNCTION_RAISED");
    assert_eq!(detail_of::<DebugInfo>(status, "DebugInfo").unwrap().stack_entries.len(), 3);
    server.stop().await;
}

#[tokio::test]
async fn an_unknown_function_is_answered_with_the_nearest_names() {
    let server = TestServer::start().await;
    let items = Some(Items::Values(numbers(0..1)));
    let request = MapRequest { function: "ecko".to_owned(), items, ..MapRequest::default() };
    let failed = server.client().await.map(request).await.unwrap_err();
    assert_eq!((failed.code(), reason(&failed).as_str()), (Code::NotFound, "FUNCTION_NOT_FOUND"));
    assert!(failed.message().contains("did you mean echo?"), "{}", failed.message());
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_protobuf_or_no_method_has_details_too() {
    let server = TestServer::start().await;
    for (path, code) in [
        ("/procpool.v1.PoolService/Map", Code::Internal),
        ("/procpool.v1.PoolService/Fold", Code::Unimplemented),
        ("/procpool.v2.PoolService/Map", Code::Unimplemented),
        ("/", Code::Unimplemented),
    ] {
        let mut client = tonic::client::Grpc::new(server.channel().await);
        client.ready().await.unwrap();
        // In a MapRequest, field 1 is a string.
        let garbage = Request::new(prost_types::Duration { seconds: 7, nanos: 7 });
        let codec = tonic_prost::ProstCodec::<prost_types::Duration, prost_types::Duration>::default();
        let failed = client.unary(garbage, http::uri::PathAndQuery::from_static(path), codec).await.unwrap_err();
        assert_eq!(failed.code(), code, "{path}: {failed:?}");
        assert!(!reason(&failed).is_empty());
    }
    server.stop().await;
}
