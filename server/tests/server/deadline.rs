//! The caller's deadline ends every kind of call with `DEADLINE_EXCEEDED`. How late is printed, and not asserted.

use std::time::Duration;

use futures_util::future::join_all;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use procpool_proto::google::rpc::ErrorInfo;
use procpool_proto::v1::map_request::Items;
use procpool_proto::v1::pool_admin_service_client::PoolAdminServiceClient;
use procpool_proto::v1::pool_service_client::PoolServiceClient;
use procpool_proto::v1::{
    IMapRequest, IMapStreamConfig, IMapStreamRequest, ListFunctionsRequest, MapRequest, WatchPoolRequest, i_map_request,
};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::codegen::http::Uri;
use tonic::{Code, Request, Status, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::support::details::{detail, fields, reason};
use crate::support::scripted::Script;
use crate::support::{TestServer, blobs, config, within};

const TIMEOUT: Duration = Duration::from_millis(500);

/// Returns a client without a clock of its own: tonic's would cut the call by itself, and hide what the server says.
pub(crate) fn patient_client(server: &TestServer) -> PoolServiceClient<Client<HttpConnector, Body>> {
    PoolServiceClient::with_origin(transport(), origin(server))
}

fn transport() -> Client<HttpConnector, Body> {
    Client::builder(TokioExecutor::new()).http2_only(true).build_http()
}

fn origin(server: &TestServer) -> Uri {
    format!("http://{}", server.address).parse().unwrap()
}

/// Reads a stream until it fails.
async fn failure_of<T>(stream: &mut Streaming<T>) -> Status {
    loop {
        match within(stream.message()).await {
            Ok(message) => assert!(message.is_some(), "the stream ended well"),
            Err(failed) => return failed,
        }
    }
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
    let failed = failure_of(&mut stream).await;
    assert_deadline(&failed, "queued", started_at);
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn of_a_watch() {
    let server = TestServer::start().await;
    let started_at = Instant::now();
    let mut health = HealthClient::with_origin(transport(), origin(&server));
    let request = with_timeout(HealthCheckRequest::default(), "500m");
    let mut watch = within(health.watch(request)).await.unwrap().into_inner();
    let failed = failure_of(&mut watch).await;
    assert_deadline(&failed, "running", started_at);

    let started_at = Instant::now();
    let mut admin = PoolAdminServiceClient::with_origin(transport(), origin(&server));
    let request = with_timeout(WatchPoolRequest::default(), "500m");
    let mut watch = within(admin.watch_pool(request)).await.unwrap().into_inner();
    let failed = failure_of(&mut watch).await;
    assert_deadline(&failed, "running", started_at);
    drop((health, admin));
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

/// How often each kind of call is made, all at the same time.
const CALLS_OF_A_KIND: usize = 9;
/// How much sooner than its deadline a call may end: the pool's own deadline fires first.
const EARLIEST_MS: f64 = 50.0;

/// Returns how much later than its deadline a call ended, in milliseconds, negative if sooner; and how much later this
/// machine ends a mere sleep of that length with a call behind it.
async fn lateness(server: &TestServer, call: impl Future<Output = Status>) -> (f64, f64) {
    let started_at = Instant::now();
    let late = || (started_at.elapsed().as_secs_f64() - TIMEOUT.as_secs_f64()) * 1e3;
    let ended = async {
        assert_eq!(call.await.code(), Code::DeadlineExceeded);
        late()
    };
    let control = async {
        tokio::time::sleep(TIMEOUT).await;
        patient_client(server).list_functions(ListFunctionsRequest {}).await.unwrap();
        late()
    };
    tokio::join!(ended, control)
}

#[tokio::test(flavor = "multi_thread")]
async fn how_long_after_its_deadline_a_call_ends() {
    let server = TestServer::start().await;
    let server = &server;
    let map = || async { patient_client(server).map(with_timeout(gated(), "500m")).await.unwrap_err() };
    let imap = || async {
        let items = Some(i_map_request::Items::Blobs(blobs(["a"])));
        let request = IMapRequest { function: "gated".to_owned(), items, ..IMapRequest::default() };
        match patient_client(server).i_map(with_timeout(request, "500m")).await {
            Ok(stream) => failure_of(&mut stream.into_inner()).await,
            Err(failed) => failed,
        }
    };
    let receiving = || async {
        let (requests, input) = tokio::sync::mpsc::channel::<IMapStreamRequest>(1);
        let input = tokio_stream::wrappers::ReceiverStream::new(input);
        let failed = patient_client(server).i_map_stream(with_timeout(input, "500m")).await.unwrap_err();
        drop(requests);
        failed
    };
    let watch = || async {
        let mut health = HealthClient::with_origin(transport(), origin(server));
        let watching = health.watch(with_timeout(HealthCheckRequest::default(), "500m")).await;
        failure_of(&mut watching.unwrap().into_inner()).await
    };
    let measured = [
        ("Map", medians(join_all((0..CALLS_OF_A_KIND).map(|_| lateness(server, map()))).await)),
        ("IMap", medians(join_all((0..CALLS_OF_A_KIND).map(|_| lateness(server, imap()))).await)),
        ("IMapStream", medians(join_all((0..CALLS_OF_A_KIND).map(|_| lateness(server, receiving()))).await)),
        ("Watch", medians(join_all((0..CALLS_OF_A_KIND).map(|_| lateness(server, watch()))).await)),
    ];
    for (kind, (late, noise)) in measured {
        println!("{kind}: {late:.1} ms after the deadline, a sleep {noise:.1} ms; medians of {CALLS_OF_A_KIND}");
        assert!(late >= -EARLIEST_MS, "{kind}: {late} ms");
    }
}

/// Returns the median of each.
fn medians(pairs: Vec<(f64, f64)>) -> (f64, f64) {
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let (left, right) = pairs.into_iter().unzip();
    (median(left), median(right))
}
