//! A server that is told to stop finishes what it has, refuses what is new, and is gone by the drain limit.

use std::time::Duration;

use procpool_proto::google::rpc::RetryInfo;
use procpool_proto::v1::map_request::Items;
use procpool_proto::v1::{IMapStreamConfig, IMapStreamRequest, MapRequest};
use procpool_server::ServerConfig;
use tokio_util::task::TaskTracker;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::support::details::{detail, reason};
use crate::support::scripted::Script;
use crate::support::{TestServer, blobs, config, within};

fn map(function: &str) -> MapRequest {
    let items = Some(Items::Blobs(blobs(["a", "b"])));
    MapRequest { function: function.to_owned(), items, ..MapRequest::default() }
}

fn impatient() -> ServerConfig {
    ServerConfig { drain_timeout: Duration::from_secs(1), ..config() }
}

#[tokio::test]
async fn a_map_in_progress_finishes_and_a_new_one_is_refused() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let running = TaskTracker::new().spawn(async move { client.map(map("gated")).await });
    server.script.begun(1).await;
    server.shutdown.drain();
    // Health says so before anything else happens.
    let mut health = HealthClient::new(server.channel().await).watch(HealthCheckRequest::default()).await.unwrap();
    while within(health.get_mut().message()).await.unwrap().unwrap().status() != ServingStatus::NotServing {}

    // Between the first word of health and the last old connection there is a moment, and the library's client reports
    // a call that it puts on a connection just then as CANCELLED.
    let refused = within(async {
        loop {
            match server.client().await.map(map("echo")).await {
                Err(refused) if refused.code() == Code::Unavailable => break refused,
                _ => {}
            }
        }
    });
    let refused = refused.await;
    assert_eq!(reason(&refused), "DRAINING");
    assert!(detail::<RetryInfo>(&refused, "RetryInfo").unwrap().retry_delay.is_some());
    server.script.release(2);
    within(running).await.unwrap().unwrap();
    // The open watch of the health and the idle connections do not delay the end to the drain limit.
    server.ended().await;
    drop(health);
}

#[tokio::test]
async fn a_call_that_does_not_end_is_given_up_at_the_drain_limit() {
    let server = TestServer::start_with(impatient(), Script::default()).await;
    let mut client = server.client().await;
    let running = TaskTracker::new().spawn(async move { client.map(map("gated")).await });
    server.script.begun(1).await;
    server.shutdown.drain();
    let failed = within(running).await.unwrap().unwrap_err();
    assert_eq!((failed.code(), reason(&failed).as_str()), (Code::Unavailable, "DRAINING"));
    assert!(detail::<RetryInfo>(&failed, "RetryInfo").is_none(), "it had started");
    server.ended().await;
}

#[tokio::test]
async fn a_stream_whose_input_stays_open_ends_at_the_drain_limit() {
    let server = TestServer::start_with(impatient(), Script::default()).await;
    let stream_config = Some(IMapStreamConfig { function: "echo".to_owned(), ..IMapStreamConfig::default() });
    let (requests, input) = tokio::sync::mpsc::channel(1);
    requests.send(IMapStreamRequest { config: stream_config, ..IMapStreamRequest::default() }).await.unwrap();
    let input = tokio_stream::wrappers::ReceiverStream::new(input);
    let mut stream = server.client().await.i_map_stream(input).await.unwrap().into_inner();
    server.shutdown.drain();
    let failed = loop {
        if let Err(failed) = within(stream.message()).await {
            break failed;
        }
    };
    assert_eq!(reason(&failed), "DRAINING");
    server.ended().await;
}

#[tokio::test]
async fn told_twice_it_stops_at_once() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let running = TaskTracker::new().spawn(async move { client.map(map("gated")).await });
    server.script.begun(1).await;
    server.shutdown.drain();
    server.shutdown.now();
    within(running).await.unwrap().unwrap_err();
    // The drain limit is further away than a test's patience.
    server.ended().await;
}
