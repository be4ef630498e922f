//! The caller's deadline ends every kind of call with `DEADLINE_EXCEEDED`, in time.

use std::time::Duration;

use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use procpool_proto::google::rpc::ErrorInfo;
use procpool_proto::v1::map_request::Items;
use procpool_proto::v1::pool_service_client::PoolServiceClient;
use procpool_proto::v1::{IMapRequest, IMapStreamConfig, IMapStreamRequest, MapRequest, i_map_request};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Request, Status};

use crate::support::details::{detail, fields, reason};
use crate::support::scripted::Script;
use crate::support::{TestServer, blobs, config, within};

const TIMEOUT: Duration = Duration::from_millis(500);

/// Returns a client without a clock of its own: tonic's would cut the call by itself, and hide what the server says.
pub(crate) fn patient_client(server: &TestServer) -> PoolServiceClient<Client<HttpConnector, Body>> {
    let transport = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    PoolServiceClient::with_origin(transport, format!("http://{}", server.address).parse().unwrap())
}

pub(crate) fn with_timeout<T>(message: T, timeout: &'static str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("grpc-timeout", timeout.parse().unwrap());
    request
}

fn gated() -> MapRequest {
    let items = Some(Items::Blobs(blobs(["a"])));
    MapRequest { function: "gated".to_owned(), items, ..MapRequest::default() }
}

fn assert_deadline(status: &Status, phase: &str, started_at: Instant) {
    let elapsed = started_at.elapsed();
    assert_eq!((status.code(), reason(status).as_str()), (Code::DeadlineExceeded, "DEADLINE"), "{status:?}");
    assert_eq!(detail::<ErrorInfo>(status, "ErrorInfo").unwrap().metadata["phase"], phase);
    assert!(elapsed >= TIMEOUT.saturating_sub(Duration::from_millis(50)), "{elapsed:?}");
}

#[tokio::test]
async fn of_a_map_that_runs() {
    let server = TestServer::start().await;
    let mut client = patient_client(&server);
    let started_at = Instant::now();
    let failed = within(client.map(with_timeout(gated(), "500m"))).await.unwrap_err();
    assert_deadline(&failed, "running", started_at);
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn of_a_map_that_waits_for_a_worker() {
    let server = TestServer::start_with(config(), Script::never_ready()).await;
    let mut client = patient_client(&server);
    let started_at = Instant::now();
    let failed = within(client.map(with_timeout(gated(), "500m"))).await.unwrap_err();
    assert_deadline(&failed, "queued", started_at);
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn of_a_stream_after_its_first_result() {
    let server = TestServer::start().await;
    server.script.release(1);
    let items = Some(i_map_request::Items::Blobs(blobs(["a", "b"])));
    let request = IMapRequest { function: "gated".to_owned(), items, ..IMapRequest::default() };
    let mut client = patient_client(&server);
    let started_at = Instant::now();
    let mut stream = within(client.i_map(with_timeout(request, "500m"))).await.unwrap().into_inner();
    within(stream.message()).await.unwrap().unwrap();
    let failed = within(stream.message()).await.unwrap_err();
    assert_deadline(&failed, "running", started_at);
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn of_a_stream_whose_input_stays_open() {
    let server = TestServer::start().await;
    let config = Some(IMapStreamConfig { function: "echo".to_owned(), ..IMapStreamConfig::default() });
    let (requests, input) = tokio::sync::mpsc::channel(1);
    requests.send(IMapStreamRequest { config, ..IMapStreamRequest::default() }).await.unwrap();
    let input = tokio_stream::wrappers::ReceiverStream::new(input);
    let mut client = patient_client(&server);
    let started_at = Instant::now();
    let mut stream = within(client.i_map_stream(with_timeout(input, "500m"))).await.unwrap().into_inner();
    let failed = loop {
        if let Err(failed) = within(stream.message()).await {
            break failed;
        }
    };
    assert_deadline(&failed, "queued", started_at);
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn of_a_request_that_does_not_arrive() {
    let server = TestServer::start().await;
    let (requests, input) = tokio::sync::mpsc::channel::<IMapStreamRequest>(1);
    let input = tokio_stream::wrappers::ReceiverStream::new(input);
    let mut client = patient_client(&server);
    let started_at = Instant::now();
    let failed = within(client.i_map_stream(with_timeout(input, "500m"))).await.unwrap_err();
    assert_deadline(&failed, "receiving", started_at);
    drop((client, requests));
    server.stop().await;
}

#[tokio::test]
async fn a_malformed_one_is_refused() {
    let server = TestServer::start().await;
    let refused = patient_client(&server).map(with_timeout(gated(), "soon")).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(fields(&refused), ["grpc-timeout"]);
    server.stop().await;
}
