//! Health is `NOT_SERVING` until the first worker is ready, under both names.

use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::support::details::reason;
use crate::support::scripted::Script;
use crate::support::{TestServer, config, within};

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[tokio::test]
async fn without_a_ready_worker_it_is_not_serving() {
    let server = TestServer::start_with(config(), Script::never_ready()).await;
    let mut health = HealthClient::new(server.channel().await);
    for service in ["", "procpool.v1.PoolService"] {
        let status = health.check(of(service)).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::NotServing, "{service:?}");
    }
    let unknown = health.check(of("unknown")).await.unwrap_err();
    assert_eq!((unknown.code(), reason(&unknown).as_str()), (Code::NotFound, "NOT_FOUND"));
    drop(health);
    server.stop().await;
}

#[tokio::test]
async fn with_a_ready_worker_it_is_serving() {
    let server = TestServer::start().await;
    for service in ["", "procpool.v1.PoolService"] {
        let mut health = HealthClient::new(server.channel().await);
        let mut watch = health.watch(of(service)).await.unwrap().into_inner();
        while within(watch.message()).await.unwrap().unwrap().status() != ServingStatus::Serving {}
    }
    server.stop().await;
}

#[tokio::test]
async fn a_watch_of_an_unknown_name_says_so_and_stays_open() {
    let server = TestServer::start().await;
    let mut health = HealthClient::new(server.channel().await);
    let mut watch = health.watch(of("unknown")).await.unwrap().into_inner();
    assert_eq!(within(watch.message()).await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
    let next = tokio_util::task::TaskTracker::new().spawn(async move { watch.message().await });
    within(health.check(of(""))).await.unwrap();
    assert!(!next.is_finished());
    server.stop().await;
    assert_eq!(
        within(next).await.unwrap().unwrap_err().code(),
        Code::Unavailable,
        "the server ends, and with it the watch"
    );
}
