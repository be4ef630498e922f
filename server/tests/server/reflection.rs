//! Reflection tells of both services and of the details of errors, so that a client needs no `.proto` file.

use prost::Message as _;
use prost_types::FileDescriptorProto;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1alpha;

use crate::support::TestServer;

async fn ask(server: &TestServer, question: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let mut client = ServerReflectionClient::new(server.channel().await);
    let mut answers = client.server_reflection_info(tokio_stream::iter([request])).await.unwrap().into_inner();
    answers.message().await.unwrap().unwrap().message_response.unwrap()
}

#[tokio::test]
async fn the_services_are_listed() {
    let server = TestServer::start().await;
    let answer = ask(&server, MessageRequest::ListServices(String::new())).await;
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    for name in ["procpool.v1.PoolService", "grpc.health.v1.Health"] {
        assert!(names.iter().any(|listed| listed == name), "{name} is not in {names:?}");
    }
    assert!(!names.iter().any(|name| name.contains("worker")), "{names:?}");
    server.stop().await;
}

#[tokio::test]
async fn the_details_of_errors_can_be_resolved() {
    let server = TestServer::start().await;
    for symbol in ["google.rpc.ErrorInfo", "google.rpc.BadRequest", "google.rpc.Status", "procpool.v1.MapRequest"] {
        let answer = ask(&server, MessageRequest::FileContainingSymbol(symbol.to_owned())).await;
        let MessageResponse::FileDescriptorResponse(files) = answer else { panic!("{symbol}: {answer:?}") };
        let file = FileDescriptorProto::decode(files.file_descriptor_proto[0].as_slice()).unwrap();
        let name = symbol.rsplit('.').next().unwrap();
        assert!(file.message_type.iter().any(|message| message.name() == name), "{symbol}");
    }
    server.stop().await;
}

#[tokio::test]
async fn items_are_shown_as_what_they_are() {
    let server = TestServer::start().await;
    let answer = ask(&server, MessageRequest::FileContainingSymbol("procpool.v1.MapRequest".to_owned())).await;
    let MessageResponse::FileDescriptorResponse(files) = answer else { panic!("{answer:?}") };
    let file = FileDescriptorProto::decode(files.file_descriptor_proto[0].as_slice()).unwrap();
    let request = file.message_type.iter().find(|message| message.name() == "MapRequest").unwrap();
    let values = request.field.iter().find(|field| field.name() == "values").unwrap();
    assert_eq!(values.type_name(), ".google.protobuf.ListValue");
    server.stop().await;
}

#[tokio::test]
async fn the_older_version_answers_too() {
    let server = TestServer::start().await;
    let question = v1alpha::server_reflection_request::MessageRequest::ListServices(String::new());
    let request = v1alpha::ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(server.channel().await);
    let mut answers = client.server_reflection_info(tokio_stream::iter([request])).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let v1alpha::server_reflection_response::MessageResponse::ListServicesResponse(list) = answer else {
        panic!("{answer:?}")
    };
    assert!(list.service.iter().any(|service| service.name == "procpool.v1.PoolService"));
    server.stop().await;
}
