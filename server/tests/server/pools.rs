//! Several pools in one server: who runs what, and what is said of them.

use std::sync::atomic::Ordering;

use futures_util::future::select_all;
use procpool_items::ItemKind;
use procpool_pool::PoolConfig;
use procpool_proto::v1::pool_admin_service_client::PoolAdminServiceClient;
use procpool_proto::v1::pool_service_client::PoolServiceClient;
use procpool_proto::v1::{
    GetPoolRequest, IMapRequest, ListFunctionsRequest, MapRequest, ResizePoolRequest, RestartWorkersRequest,
    i_map_request, map_request, map_response,
};
use procpool_server::{App, AppError, NamedPool, ServerConfig};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::deadline::{patient_client, with_timeout};
use crate::support::details::reason;
use crate::support::scripted::{Script, ScriptedSpawner};
use crate::support::{TestServer, blobs, config, contents, within};

fn scripts() -> (Script, Script) {
    (Script::of_functions(&["resize", "rotate"]), Script::of_functions(&["tokenize"]))
}

async fn start(images: &Script, text: &Script) -> TestServer {
    TestServer::start_pools(config(), &[("images", images.clone()), ("text", text.clone())]).await
}

fn request(function: &str) -> MapRequest {
    let items = Some(map_request::Items::Blobs(blobs([b"a", b"b"])));
    MapRequest { function: function.to_owned(), items, ..MapRequest::default() }
}

async fn map(client: &mut PoolServiceClient<Channel>, function: &str) -> Result<usize, Status> {
    let response = within(client.map(request(function))).await?.into_inner();
    let Some(map_response::Results::Blobs(results)) = response.results else { panic!("blobs were sent") };
    Ok(contents(ItemKind::Blobs, &results).len())
}

async fn is_serving(server: &TestServer, service: &str, wanted: ServingStatus) {
    let mut health = HealthClient::new(server.channel().await);
    let request = HealthCheckRequest { service: service.to_owned() };
    let mut watch = health.watch(request).await.unwrap().into_inner();
    while within(watch.message()).await.unwrap().unwrap().status() != wanted {}
}

#[tokio::test]
async fn a_function_runs_in_the_pool_whose_workers_registered_it() {
    let (images, text) = scripts();
    let server = start(&images, &text).await;
    let mut client = server.client().await;
    for function in ["resize", "tokenize", "rotate"] {
        assert_eq!(map(&mut client, function).await.unwrap(), 2, "{function}");
    }
    let items = Some(i_map_request::Items::Blobs(blobs([b"a"])));
    let request = IMapRequest { function: "tokenize".to_owned(), items, ..IMapRequest::default() };
    let mut stream = within(client.i_map(request)).await.unwrap().into_inner();
    assert!(within(stream.message()).await.unwrap().is_some());
    drop(stream);

    let listed = within(client.list_functions(ListFunctionsRequest {})).await.unwrap().into_inner();
    let functions: Vec<_> =
        listed.functions.iter().map(|function| (function.name.as_str(), function.pool.as_str())).collect();
    assert_eq!(functions, [("resize", "images"), ("rotate", "images"), ("tokenize", "text")]);
    assert_eq!(listed.limits.unwrap().num_slots, 4);

    let unknown = map(&mut client, "tokenise").await.unwrap_err();
    assert_eq!((unknown.code(), reason(&unknown).as_str()), (Code::NotFound, "FUNCTION_NOT_FOUND"));
    let unknown = map(&mut client, "resise").await.unwrap_err();
    assert!(unknown.message().contains("resise"), "{unknown}");
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn each_pool_has_metrics_of_its_own() {
    let config = ServerConfig { admin_listen: Some(([127, 0, 0, 1], 0).into()), ..config() };
    let (images, text) = scripts();
    let server = TestServer::start_pools(config, &[("images", images), ("text", text)]).await;
    let mut client = server.client().await;
    map(&mut client, "resize").await.unwrap();
    map(&mut client, "tokenize").await.unwrap();
    let (_, metrics) = server.get("/metrics").await;
    for (function, pool) in [("resize", "images"), ("tokenize", "text")] {
        let items = format!("procpool_items_total{{function=\"{function}\",outcome=\"ok\",pool=\"{pool}\"}} 2\n");
        let slots = format!("procpool_slots{{pool=\"{pool}\",state=\"ready\"}} 2\n");
        assert!(metrics.contains(&items) && metrics.contains(&slots), "{metrics}");
    }
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn not_ready_names_the_pool_that_is_not() {
    let config = ServerConfig { admin_listen: Some(([127, 0, 0, 1], 0).into()), ..config() };
    let (images, text) = scripts();
    text.may_start.send_replace(false);
    let server = TestServer::start_pools(config, &[("images", images), ("text", text.clone())]).await;
    is_serving(&server, "procpool.v1.PoolService/images", ServingStatus::Serving).await;
    let (status, body) = server.get("/readyz").await;
    assert!(status.contains("503") && body.ends_with("not ready: pool text: no worker is ready\n"), "{status} {body}");
    text.may_start.send_replace(true);
    is_serving(&server, "", ServingStatus::Serving).await;
    assert!(server.get("/readyz").await.0.contains("200"));
    server.stop().await;
}

#[tokio::test]
async fn a_pool_that_starts_slowly_holds_up_only_what_may_be_its_own() {
    let (images, text) = scripts();
    text.may_start.send_replace(false);
    let server = start(&images, &text).await;
    let mut client = server.client().await;
    assert_eq!(map(&mut client, "resize").await.unwrap(), 2, "its own pool has started");
    assert_eq!(
        within(client.map(MapRequest { function: "x".to_owned(), ..MapRequest::default() }))
            .await
            .unwrap()
            .into_inner()
            .errors,
        []
    );

    let hurried = with_timeout(request("tokenize"), "300m");
    let late = within(patient_client(&server).map(hurried)).await.unwrap_err();
    assert_eq!((late.code(), reason(&late).as_str()), (Code::DeadlineExceeded, "DEADLINE"));

    let mut other = client.clone();
    let waiting = async { map(&mut other, "tokenize").await };
    let start = async {
        // Answered after the other call has come in: they share a connection.
        map(&mut client, "resize").await.unwrap();
        text.may_start.send_replace(true);
    };
    let (waited, ()) = tokio::join!(waiting, start);
    assert_eq!(waited.unwrap(), 2);
    drop((client, other));
    server.stop().await;
}

#[tokio::test]
async fn health_waits_for_every_pool_and_names_each() {
    let (images, text) = scripts();
    text.may_start.send_replace(false);
    let server = start(&images, &text).await;
    is_serving(&server, "procpool.v1.PoolService/images", ServingStatus::Serving).await;
    for service in ["", "procpool.v1.PoolService", "procpool.v1.PoolService/text"] {
        is_serving(&server, service, ServingStatus::NotServing).await;
    }
    text.may_start.send_replace(true);
    for service in ["", "procpool.v1.PoolService", "procpool.v1.PoolService/text"] {
        is_serving(&server, service, ServingStatus::Serving).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_function_of_two_pools_ends_the_server_while_it_starts() {
    let (images, text) = scripts();
    text.set_functions(&["tokenize", "rotate"]);
    text.may_start.send_replace(false);
    let server = start(&images, &text).await;
    assert_eq!(map(&mut server.client().await, "rotate").await.unwrap(), 2);
    text.may_start.send_replace(true);
    let error = within(server.served).await.unwrap().unwrap_err();
    assert!(matches!(error, AppError::DuplicateFunction(_)), "{error:?}");
    let expected = r#"the pools "images" and "text" both register the function "rotate": rename it in one of them, or leave it out"#;
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn a_function_that_another_pool_takes_up_later_stays_where_it_is() {
    let (images, text) = scripts();
    let server = start(&images, &text).await;
    is_serving(&server, "", ServingStatus::Serving).await;
    let mut admin = PoolAdminServiceClient::new(server.channel().await);
    text.set_functions(&["rotate", "stem"]);
    let restart = RestartWorkersRequest { pool: "text".to_owned() };
    assert_eq!(within(admin.restart_workers(restart)).await.unwrap().into_inner().num_restarted, 2);

    let mut client = server.client().await;
    let listed = within(client.list_functions(ListFunctionsRequest {})).await.unwrap().into_inner();
    let functions: Vec<_> =
        listed.functions.iter().map(|function| (function.name.as_str(), function.pool.as_str())).collect();
    assert_eq!(functions, [("resize", "images"), ("rotate", "images"), ("stem", "text")]);
    assert_eq!(map(&mut client, "rotate").await.unwrap(), 2);
    assert_eq!(map(&mut client, "tokenize").await.unwrap_err().code(), Code::NotFound);
    drop((client, admin));
    server.stop().await;
}

#[tokio::test]
async fn new_code_that_does_not_start_takes_no_function_from_anybody() {
    let (images, text) = scripts();
    let server = start(&images, &text).await;
    is_serving(&server, "", ServingStatus::Serving).await;
    let mut client = server.client().await;
    let owners = async |client: &mut PoolServiceClient<Channel>| {
        let listed = within(client.list_functions(ListFunctionsRequest {})).await.unwrap().into_inner();
        listed.functions.into_iter().map(|function| (function.name, function.pool)).collect::<Vec<_>>()
    };
    let before = owners(&mut client).await;
    // Renamed, and one that another pool has: but the new workers do not become ready.
    images.set_functions(&["resized", "tokenize"]);
    images.fails_to_start.store(true, Ordering::SeqCst);
    let mut admin = PoolAdminServiceClient::new(server.channel().await);
    let restart = with_timeout(RestartWorkersRequest { pool: "images".to_owned() }, "1S");
    assert_eq!(within(admin.restart_workers(restart)).await.unwrap_err().code(), Code::DeadlineExceeded);
    assert_eq!(owners(&mut client).await, before);
    for function in ["resize", "rotate", "tokenize"] {
        assert_eq!(map(&mut client, function).await.unwrap(), 2, "{function}");
    }
    drop((client, admin));
    server.stop().await;
}

#[tokio::test]
async fn operators_name_the_pool() {
    let (images, text) = scripts();
    let server = start(&images, &text).await;
    is_serving(&server, "", ServingStatus::Serving).await;
    let mut admin = PoolAdminServiceClient::new(server.channel().await);
    for pool in ["", "txt"] {
        let refused = within(admin.get_pool(GetPoolRequest { pool: pool.to_owned() })).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains("images, text"), "{refused}");
    }
    let resize = ResizePoolRequest { num_slots: 3, pool: "text".to_owned() };
    assert_eq!(within(admin.resize_pool(resize)).await.unwrap().into_inner().previous_num_slots, 2);
    for (pool, slots) in [("images", 2), ("text", 3)] {
        let response = within(admin.get_pool(GetPoolRequest { pool: pool.to_owned() })).await.unwrap();
        let snapshot = response.into_inner().pool.unwrap();
        assert_eq!((snapshot.name.as_str(), snapshot.num_slots), (pool, slots));
    }
    let all = within(admin.restart_workers(RestartWorkersRequest::default())).await.unwrap().into_inner();
    assert!(all.num_restarted >= 4, "{all:?}");
    drop(admin);
    server.stop().await;
}

#[tokio::test]
async fn pools_need_names_of_their_own() {
    let pool = |name: &str| {
        let spawner = std::sync::Arc::new(ScriptedSpawner::new(Script::default()));
        NamedPool::new(name, PoolConfig::new(std::num::NonZeroU32::MIN), spawner)
    };
    for (pools, problem) in [
        (vec![pool("a"), pool("a")], r#"pools: two pools have the name "a""#),
        (vec![pool("")], "pools: a pool needs a name"),
        (vec![], "pools: at least one pool is needed"),
    ] {
        assert_eq!(App::bind(config(), pools).await.unwrap_err().to_string(), problem);
    }
}

#[tokio::test]
async fn calls_that_wait_for_a_pool_to_start_are_bounded_by_their_bytes() {
    let (images, text) = scripts();
    text.may_start.send_replace(false);
    let config = ServerConfig { max_message_bytes: 100_000, max_request_bytes_in_flight: 100_000, ..config() };
    let server = TestServer::start_pools(config, &[("images", images), ("text", text.clone())]).await;
    let large = || {
        let items = Some(map_request::Items::Blobs(blobs([vec![7; 60_000]])));
        MapRequest { items, ..request("tokenize") }
    };
    let tasks = tokio_util::task::TaskTracker::new();
    let mut calls = Vec::new();
    for _ in 0..2 {
        let mut client = server.client().await;
        calls.push(tasks.spawn(async move { client.map(large()).await }));
    }
    // One of them waits, and there is no room for the other to do so.
    let (refused, _, mut waiting) = within(select_all(calls)).await;
    let refused = refused.unwrap().unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "QUEUE_FULL"));
    let mut client = server.client().await;
    // What is known needs no waiting.
    map(&mut client, "resize").await.unwrap();
    text.may_start.send_replace(true);
    within(waiting.remove(0)).await.unwrap().unwrap();
    within(client.map(large())).await.unwrap();
    drop(client);
    server.stop().await;
}
