//! The table of errors, `e2e/errors.json`, from Rust: each row is made to happen with real workers, and its error is
//! read whole. `e2e/test_error_table.py` does the same in Python.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use procpool_items::value::{NonFinite, list_to_bytes, to_bytes};
use procpool_pool::PoolConfig;
use procpool_pool::supervisor::{ProcessSpawner, SpawnConfig};
use procpool_proto::Reason;
use procpool_proto::google::rpc::{self, ErrorInfo, RetryInfo};
use procpool_proto::v1::pool_admin_service_client::PoolAdminServiceClient;
use procpool_proto::v1::{
    CallOptions, CancelJobRequest, GetPoolRequest, IMapRequest, MapRequest, StarMapRequest, i_map_request, map_request,
    star_map_request,
};
use procpool_server::{NamedPool, ServerConfig};
use prost::Message as _;
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::deadline::patient_client;
use crate::support::details::{detail, fields};
use crate::support::{TestServer, config, within};

fn table() -> Vec<Value> {
    serde_json::from_str(include_str!("../../../e2e/errors.json")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_the_table_happens_and_reads_as_it_says() {
    for row in table() {
        let situation = row["situation"].as_str().unwrap();
        let server = start(&row).await;
        assert!(Reason::parse(row["reason"].as_str().unwrap()).is_some(), "{situation}");
        let is_to_live = row["worker_lives"] == true;
        let pid = if is_to_live { pid_of_a_working_worker(&server).await } else { 0 };
        let error = within(provoke(&server, &row)).await;
        assert_row(&row, &error, situation);
        if is_to_live {
            assert_eq!(pid_of_a_working_worker(&server).await, pid, "{situation}");
        }
        server.shutdown.now();
        server.ended().await;
    }
}

async fn start(row: &Value) -> TestServer {
    let program = match row["worker"].as_str().unwrap_or("functions") {
        "functions" => procpool_test_workers::path("well_behaved"),
        "garbles" => procpool_test_workers::path("bad_frame"),
        _ => "/bin/false".into(),
    };
    let mut pool = PoolConfig::new(NonZeroU32::MIN);
    pool.cancel_grace_period = Duration::from_millis(100);
    pool.kill_grace_period = Duration::from_millis(100);
    let mut spawn = SpawnConfig::new(program, Vec::new());
    let mut server = ServerConfig { ..config() };
    for (name, value) in row["settings"].as_object().into_iter().flatten() {
        let value = u32::try_from(value.as_u64().unwrap()).unwrap();
        match name.as_str() {
            "max_queued_items" => pool.max_queued_items = value,
            "max_result_bytes" => pool.max_result_bytes = value,
            "max_queued_bytes" => pool.max_queued_bytes = value,
            "worker_memory_limit" => spawn.memory.hard_bytes = Some(value.into()),
            "max_message_bytes" => server.max_message_bytes = value,
            other => panic!("setting {other} is not known here"),
        }
    }
    let spawner = Arc::new(ProcessSpawner::new(spawn).unwrap());
    TestServer::start_named(server, vec![NamedPool::new("default", pool, spawner)]).await
}

/// Returns the pid of the only worker, which has just done something.
async fn pid_of_a_working_worker(server: &TestServer) -> u32 {
    send(server, &json!({"function": "echo", "values": [1]})).await.unwrap();
    let mut admin = PoolAdminServiceClient::new(server.channel().await);
    let pool = admin.get_pool(GetPoolRequest::default()).await.unwrap().into_inner().pool.unwrap();
    pool.workers[0].pid
}

/// Makes the error of a row happen, and returns it.
async fn provoke(server: &TestServer, row: &Value) -> Status {
    if !row["before"].is_null() {
        send(server, &row["before"]).await.unwrap();
    }
    let tasks = TaskTracker::new();
    let beside = (!row["beside"].is_null()).then(|| {
        let mut client = patient_client(server);
        let request = map(&row["beside"]);
        tasks.spawn(async move { client.map(request).await })
    });
    if beside.is_some() {
        let mut admin = PoolAdminServiceClient::new(server.channel().await);
        while admin.get_pool(GetPoolRequest::default()).await.unwrap().into_inner().pool.unwrap().num_running_items == 0
        {
        }
    }
    if row["drain"] == true {
        // Its connection is one with a call in progress: others may be closed in this moment.
        let mut health = HealthClient::new(server.channel().await);
        let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
        server.shutdown.drain();
        while watch.message().await.unwrap().expect("it is told").status() == ServingStatus::Serving {}
    }
    if row["cancel"] == true {
        let mut admin = PoolAdminServiceClient::new(server.channel().await);
        tasks.spawn(async move {
            let job = loop {
                let pool = admin.get_pool(GetPoolRequest::default()).await.unwrap().into_inner().pool.unwrap();
                if let Some(job) = pool.jobs.first() {
                    break job.job;
                }
            };
            admin.cancel_job(CancelJobRequest { job }).await.unwrap();
        });
    }
    let error = send(server, row).await.unwrap_err();
    if let Some(beside) = beside {
        beside.abort();
    }
    error
}

async fn send(server: &TestServer, row: &Value) -> Result<(), Status> {
    let mut client = patient_client(server);
    let sent = if row["method"] == "StarMap" {
        let MapRequest { function, options, .. } = map(row);
        let items = Some(star_map_request::Items::Values(values(row)));
        let request = StarMapRequest { function, options, items, ..StarMapRequest::default() };
        client.star_map(timed(request, row)).await.map(|_| ())
    } else if row["method"] == "IMap" {
        let MapRequest { function, options, .. } = map(row);
        let items = Some(i_map_request::Items::Values(values(row)));
        let request = IMapRequest { function, options, items, ..IMapRequest::default() };
        let mut stream = client.i_map(timed(request, row)).await?.into_inner();
        match stream.message().await?.and_then(|mut message| message.errors.pop()) {
            None => Ok(()),
            Some(failed) => {
                let failed = failed.status.unwrap();
                Err(Status::with_details(failed.code.into(), &failed.message, failed.encode_to_vec().into()))
            }
        }
    } else {
        client.map(timed(map(row), row)).await.map(|_| ())
    };
    drop(client);
    sent
}

/// The client has no clock of its own, so that what the server says is what comes.
fn timed<T>(message: T, row: &Value) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(seconds) = row["timeout"].as_u64() {
        request.metadata_mut().insert("grpc-timeout", format!("{seconds}S").parse().unwrap());
    }
    request
}

fn values(row: &Value) -> bytes::Bytes {
    let times = row["times"].as_u64().unwrap_or(1);
    let values: Vec<Value> = (0..times).flat_map(|_| row["values"].as_array().unwrap().clone()).collect();
    list_to_bytes(&values, NonFinite::Error).unwrap()
}

fn map(row: &Value) -> MapRequest {
    let mut options = CallOptions::default();
    for (name, value) in row["options"].as_object().into_iter().flatten() {
        let number = || u32::try_from(value.as_u64().unwrap()).unwrap();
        match name.as_str() {
            "chunk_size" => options.chunk_size = number(),
            "max_attempts" => options.max_attempts = number(),
            "item_timeout" => options.item_timeout = Some(value.as_str().unwrap().parse().unwrap()),
            other => panic!("option {other} is not known here"),
        }
    }
    let function = row["function"].as_str().unwrap().to_owned();
    let items = Some(map_request::Items::Values(values(row)));
    let common = row["common"].as_str().map(|text| map_request::Common::CommonValue(to_bytes(text).unwrap().into()));
    MapRequest { function, options: Some(options), items, common, ..MapRequest::default() }
}

fn assert_row(row: &Value, error: &Status, situation: &str) {
    let code = format!("{:?}", error.code()).to_lowercase();
    assert_eq!(code, row["code"].as_str().unwrap().replace('_', "").to_lowercase(), "{situation}: {error:?}");
    assert_ne!(error.code(), Code::Ok);
    let info: ErrorInfo = detail(error, "ErrorInfo").unwrap_or_else(|| panic!("{situation}: {error:?}"));
    assert_eq!(
        (info.domain.as_str(), info.reason.as_str()),
        ("procpool", row["reason"].as_str().unwrap()),
        "{situation}"
    );
    let metadata: BTreeMap<String, String> = serde_json::from_value(row["metadata"].clone()).unwrap();
    for (key, value) in metadata {
        assert_eq!(info.metadata.get(&key), Some(&value), "{situation}: {key}");
    }

    let expected: Vec<String> = serde_json::from_value(row["details"].clone()).unwrap();
    let may_lack: Vec<String> = serde_json::from_value(row["may_lack"].clone()).unwrap_or_default();
    let details = rpc::Status::decode(error.details()).unwrap().details;
    let found: Vec<&str> = details.iter().filter_map(|detail| detail.type_url.rsplit('.').next()).collect();
    assert!(found.iter().all(|name| expected.iter().any(|known| known == name)), "{situation}: {found:?}");
    for name in expected.iter().filter(|name| !may_lack.contains(name)) {
        assert!(found.contains(&name.as_str()), "{situation}: {name} is missing in {found:?}");
    }
    if let Some(field) = row["field"].as_str() {
        assert_eq!(fields(error), [field], "{situation}");
    }

    if row["method"] == "IMap" {
        assert!(detail::<RetryInfo>(error, "RetryInfo").is_none(), "{situation}: it is an item that failed");
        return;
    }
    let pushback: i64 = error.metadata().get("grpc-retry-pushback-ms").unwrap().to_str().unwrap().parse().unwrap();
    match detail::<RetryInfo>(error, "RetryInfo") {
        Some(retry) => {
            let delay = retry.retry_delay.unwrap();
            assert_eq!(pushback, delay.seconds * 1000 + i64::from(delay.nanos) / 1_000_000, "{situation}");
            assert!(pushback > 0, "{situation}");
        }
        None => assert!(pushback < 0, "{situation}"),
    }
}
