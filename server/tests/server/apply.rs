//! Apply runs a function once, with positional and keyword arguments.

use procpool_proto::v1::ApplyRequest;
use procpool_proto::v1::apply_request::Args;
use procpool_proto::v1::apply_response::Result as ApplyResult;
use procpool_proto::worker::v1::ApplyArguments;
use prost::Message as _;

use crate::support::{TestServer, blobs};

#[tokio::test]
async fn the_worker_gets_the_arguments_as_one_item() {
    let server = TestServer::start().await;
    let args = blobs(["one", "two"]);
    let kwargs = prost_types::Struct {
        fields: [("key".to_owned(), prost_types::Value { kind: Some(prost_types::value::Kind::BoolValue(true)) })]
            .into(),
    };
    let request = ApplyRequest {
        function: "echo".to_owned(),
        args: Some(Args::Blobs(args.clone())),
        kwargs: kwargs.encode_to_vec().into(),
        ..ApplyRequest::default()
    };
    let response = server.client().await.apply(request).await.unwrap().into_inner();
    // The scripted worker returns what it got.
    let Some(ApplyResult::Blob(echoed)) = response.result else { panic!("no blob: {response:?}") };
    let arguments = ApplyArguments::decode(echoed).unwrap();
    assert_eq!(arguments.args, args);
    assert_eq!(arguments.kwargs, kwargs.encode_to_vec());
    server.stop().await;
}
