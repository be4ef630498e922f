//! The whole way: client, server, pool, worker processes.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use procpool_items::value::{NonFinite, list_from_bytes, list_to_bytes, struct_to_bytes};
use procpool_pool::PoolConfig;
use procpool_pool::supervisor::{ProcessSpawner, SpawnConfig};
use procpool_proto::google::rpc::{DebugInfo, ErrorInfo};
use procpool_proto::v1::pool_service_client::PoolServiceClient;
use procpool_proto::v1::{
    ApplyRequest, CallOptions, IMapRequest, ListFunctionsRequest, MapRequest, OnError, ResultOrder, StarMapRequest,
    apply_request, apply_response, i_map_request, i_map_response, map_request, map_response, star_map_request,
    star_map_response,
};
use procpool_server::{App, ListenAddress, NamedPool, ServerConfig, Shutdown, ShutdownHandle};
use procpool_test_workers::{Marker, wait_until};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tonic::Code;
use tonic::transport::Channel;

use crate::support::details::{detail, detail_of, fields, reason};
use crate::support::{config, within};

/// A server with two real workers.
struct Server {
    client: PoolServiceClient<Channel>,
    shutdown: ShutdownHandle,
    served: JoinHandle<Result<(), procpool_server::AppError>>,
    spawner: Arc<ProcessSpawner>,
}

impl Server {
    async fn start(config: ServerConfig) -> Self {
        let program = procpool_test_workers::path("well_behaved");
        let spawner = Arc::new(ProcessSpawner::new(SpawnConfig::new(program, Vec::new())).unwrap());
        let mut pool_config = PoolConfig::new(NonZeroU32::new(2).unwrap());
        pool_config.cancel_grace_period = Duration::from_millis(200);
        pool_config.kill_grace_period = Duration::from_millis(200);
        let app = App::bind(config, vec![NamedPool::new("default", pool_config, spawner.clone())]).await.unwrap();
        let ListenAddress::Tcp(address) = app.local_addresses()[0].clone() else { panic!("TCP was asked for") };
        let (shutdown_handle, shutdown) = Shutdown::with_handle();
        let served = TaskTracker::new().spawn(app.serve(shutdown));
        let client = PoolServiceClient::connect(format!("http://{address}")).await.unwrap();
        Self { client, shutdown: shutdown_handle, served, spawner }
    }

    async fn stop(self) {
        self.shutdown.drain();
        drop(self.client);
        within(self.served).await.unwrap().unwrap();
        within(self.spawner.closed()).await;
    }

    async fn map(&mut self, function: &str, items: &Value) -> Value {
        let response = within(self.client.map(map(function, items))).await.unwrap().into_inner();
        let Some(map_response::Results::Values(results)) = response.results else { panic!("values were sent") };
        Value::Array(list_from_bytes(&results).unwrap())
    }
}

fn list(items: &Value) -> bytes::Bytes {
    list_to_bytes(items.as_array().unwrap(), NonFinite::Error).unwrap()
}

fn map(function: &str, items: &Value) -> MapRequest {
    let items = Some(map_request::Items::Values(list(items)));
    MapRequest { function: function.to_owned(), items, ..MapRequest::default() }
}

fn collecting(request: MapRequest, chunk_size: u32) -> MapRequest {
    let options = CallOptions { on_error: OnError::Collect.into(), chunk_size, ..CallOptions::default() };
    MapRequest { options: Some(options), ..request }
}

#[tokio::test(flavor = "multi_thread")]
async fn maps_and_streams_work() {
    let mut server = Server::start(config()).await;
    let results = server.map("analyze_match", &json!([1, 2, 3])).await;
    assert_eq!(results[2], "Result for Match #3: Analysis Clear");

    let items = Some(star_map_request::Items::Values(list(&json!([[2, 10], [3, 3]]))));
    let request = StarMapRequest { function: "power".to_owned(), items, ..StarMapRequest::default() };
    let response = within(server.client.star_map(request)).await.unwrap().into_inner();
    let Some(star_map_response::Results::Values(results)) = response.results else { panic!("values were sent") };
    assert_eq!(list_from_bytes::<Value>(&results).unwrap(), [json!(1024), json!(27)]);

    let numbers: Value = (0..5000).collect();
    for order in [ResultOrder::Ordered, ResultOrder::Unordered] {
        let items = Some(i_map_request::Items::Values(list(&numbers)));
        let request = IMapRequest { function: "echo".to_owned(), items, order: order.into(), ..IMapRequest::default() };
        let mut stream = within(server.client.i_map(request)).await.unwrap().into_inner();
        let mut received: Vec<Value> = Vec::new();
        while let Some(message) = within(stream.message()).await.unwrap() {
            let Some(i_map_response::Results::Values(results)) = message.results else { panic!("values were sent") };
            received.extend(list_from_bytes::<Value>(&results).unwrap());
        }
        received.sort_by_key(Value::as_u64);
        assert_eq!(Value::Array(received), numbers);
    }

    let listed = within(server.client.list_functions(ListFunctionsRequest {})).await.unwrap().into_inner();
    let echo = listed.functions.iter().find(|function| function.name == "echo").unwrap();
    assert_eq!((echo.signature.as_str(), echo.idempotent), ("(item)", true));
    assert_eq!(listed.limits.unwrap().num_slots, 2);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn apply_hands_over_the_arguments() {
    let mut server = Server::start(config()).await;
    let args = Some(apply_request::Args::Values(list(&json!([2, 5]))));
    let request = ApplyRequest { function: "power".to_owned(), args, ..ApplyRequest::default() };
    let response = within(server.client.apply(request)).await.unwrap().into_inner();
    let Some(apply_response::Result::Value(result)) = response.result else { panic!("values were sent") };
    assert_eq!(procpool_items::value::from_bytes::<Value>(&result).unwrap(), json!(32));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keyword_arguments_that_a_function_does_not_have_are_refused() {
    let mut server = Server::start(config()).await;
    let request = ApplyRequest {
        function: "power".to_owned(),
        args: Some(apply_request::Args::Values(list(&json!([2, 5])))),
        kwargs: struct_to_bytes(&json!({"base": 1}), NonFinite::Error).unwrap().into(),
        ..ApplyRequest::default()
    };
    let failed = within(server.client.apply(request)).await.unwrap_err();
    assert_eq!((failed.code(), reason(&failed).as_str()), (Code::InvalidArgument, "INVALID_ITEM"));
    assert!(failed.message().contains("keyword"), "{}", failed.message());
    assert_eq!(fields(&failed), ["kwargs"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_crashes_fails_only_the_item_that_it_ran() {
    let mut server = Server::start(config()).await;
    let crash = within(server.client.map(map("crash", &json!([1])))).await.unwrap_err();
    assert_eq!((crash.code(), reason(&crash).as_str()), (Code::Aborted, "WORKER_CRASHED"));
    assert_eq!(detail::<ErrorInfo>(&crash, "ErrorInfo").unwrap().metadata["signal"], "9");

    let exits = collecting(map("exit", &json!([3, 4])), 2);
    let response = within(server.client.map(exits)).await.unwrap().into_inner();
    let codes = response.errors.iter().map(|error| {
        let info: ErrorInfo = detail_of(error.status.as_ref().unwrap(), "ErrorInfo").unwrap();
        info.metadata["exit_code"].clone()
    });
    assert_eq!(codes.collect::<Vec<_>>(), ["3", "4"]);
    // The slots are filled again.
    assert_eq!(server.map("echo", &json!([1, 2, 3])).await, json!([1, 2, 3]));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_and_a_panic_are_errors_of_the_item() {
    let mut server = Server::start(config()).await;
    for (function, text) in [("raise", "no such luck"), ("panic", "what now")] {
        let request = collecting(map(function, &json!([text])), 0);
        let response = within(server.client.map(request)).await.unwrap().into_inner();
        let status = response.errors[0].status.clone().unwrap();
        assert_eq!(status.code, Code::Unknown as i32, "{function}");
        assert!(status.message.contains(text), "{}", status.message);
        let _: Option<DebugInfo> = detail_of(&status, "DebugInfo");
    }
    let not_a_number = within(server.client.map(map("nan", &json!([1])))).await.unwrap_err();
    assert_eq!((not_a_number.code(), reason(&not_a_number).as_str()), (Code::Internal, "RESULT_NOT_ENCODABLE"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_runs_too_long_is_ended() {
    let mut server = Server::start(config()).await;
    let item_timeout = Some(prost_types::Duration { seconds: 0, nanos: 100_000_000 });
    let options = Some(CallOptions { item_timeout, ..CallOptions::default() });
    let failed = within(server.client.map(MapRequest { options, ..map("hang", &json!([1])) })).await.unwrap_err();
    assert_eq!((failed.code(), reason(&failed).as_str()), (Code::DeadlineExceeded, "ITEM_TIMEOUT"));
    assert_eq!(detail::<ErrorInfo>(&failed, "ErrorInfo").unwrap().metadata["limit_ms"], "100");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_in_progress_is_finished_while_the_server_drains() {
    let server = Server::start(config()).await;
    let folder = tempfile::tempdir().unwrap();
    let (begun, go_on) = (Marker::new(folder.path(), "begun"), Marker::new(folder.path(), "go on"));
    let items = Some(star_map_request::Items::Values(list(&json!([[begun.path(), go_on.path()]]))));
    let request = StarMapRequest { function: "touch_and_wait".to_owned(), items, ..StarMapRequest::default() };
    let running = TaskTracker::new().spawn({
        let mut client = server.client.clone();
        async move { client.star_map(request).await }
    });
    let begun = begun.path().to_owned();
    tokio::task::spawn_blocking(move || wait_until("the item has begun", || std::fs::exists(&begun).unwrap()))
        .await
        .unwrap();
    server.shutdown.drain();
    std::fs::write(go_on.path(), "").unwrap();
    within(running).await.unwrap().unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_worker_is_left_when_it_stops_at_once() {
    let mut server = Server::start(config()).await;
    let pids = server.map("pid", &Value::Array(vec![json!(0); 50])).await;
    let running = TaskTracker::new().spawn({
        let mut client = server.client.clone();
        async move { client.map(map("hang", &json!([1, 2]))).await }
    });
    server.shutdown.now();
    within(running).await.unwrap().unwrap_err();
    server.stop().await;
    for pid in pids.as_array().unwrap() {
        assert!(!std::fs::exists(format!("/proc/{pid}")).unwrap(), "worker {pid} is alive");
    }
}

#[tokio::test]
async fn a_common_argument_goes_before_every_item() {
    let mut server = Server::start(config()).await;
    let common = procpool_items::value::to_bytes(&json!({"a": [1]})).unwrap();
    let mut request = map("pair", &json!([1, "x", null]));
    request.common = Some(map_request::Common::CommonValue(common.into()));
    let response = within(server.client.map(request.clone())).await.unwrap().into_inner();
    let Some(map_response::Results::Values(results)) = response.results else { panic!("values were sent") };
    let results: Vec<Value> = list_from_bytes(&results).unwrap();
    assert_eq!(results, [json!([{"a": [1]}, 1]), json!([{"a": [1]}, "x"]), json!([{"a": [1]}, null])]);

    request.common = Some(map_request::Common::CommonValue(bytes::Bytes::from_static(b"\xff\xff")));
    let failed = within(server.client.map(request.clone())).await.unwrap_err();
    assert_eq!((failed.code(), reason(&failed).as_str()), (Code::InvalidArgument, "INVALID_ITEM"));
    assert!(failed.message().contains("`common` cannot be used"), "{}", failed.message());
    request.options = Some(CallOptions { on_error: OnError::Collect.into(), ..CallOptions::default() });
    let response = within(server.client.map(request)).await.unwrap().into_inner();
    assert_eq!(response.errors.iter().map(|error| error.index).collect::<Vec<_>>(), [0, 1, 2], "every item fails");
    assert_eq!(server.map("echo", &json!([1])).await, json!([1]), "the workers live");
    server.stop().await;
}
