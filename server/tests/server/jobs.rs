//! Jobs: how they are listed and cancelled, and where their numbers stand.

use procpool_proto::google::rpc::ErrorInfo;
use procpool_proto::v1::pool_admin_service_client::PoolAdminServiceClient;
use procpool_proto::v1::{
    CallOptions, CancelJobRequest, GetPoolRequest, IMapRequest, IMapStreamConfig, IMapStreamRequest, Job, MapRequest,
    OnError, i_map_request, i_map_stream_request, map_request,
};
use tokio_util::task::TaskTracker;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::deadline::with_timeout;
use crate::support::details::{detail, reason};
use crate::support::scripted::Script;
use crate::support::{TestServer, blobs, config, within};

type Admin = PoolAdminServiceClient<Channel>;

fn map(function: &str, items: usize) -> MapRequest {
    let items = Some(map_request::Items::Blobs(blobs(vec![b"a"; items])));
    MapRequest { function: function.to_owned(), items, ..MapRequest::default() }
}

fn imap(function: &str, items: usize) -> IMapRequest {
    let items = Some(i_map_request::Items::Blobs(blobs(vec![b"a"; items])));
    IMapRequest { function: function.to_owned(), items, ..IMapRequest::default() }
}

async fn jobs(admin: &mut Admin, pool: &str) -> Vec<Job> {
    let request = GetPoolRequest { pool: pool.to_owned() };
    within(admin.get_pool(request)).await.unwrap().into_inner().pool.unwrap().jobs
}

async fn cancel(admin: &mut Admin, job: u64) -> Result<(), Status> {
    within(admin.cancel_job(CancelJobRequest { job })).await.map(|_| ())
}

/// The metadata of an error.
fn job_of(error: &Status) -> String {
    detail::<ErrorInfo>(error, "ErrorInfo").unwrap().metadata.get("job").cloned().unwrap_or_default()
}

#[tokio::test]
async fn jobs_are_listed_by_age_with_what_is_known_of_their_calls() {
    let server = TestServer::start().await;
    let (client, mut admin) = (server.client().await, Admin::new(server.channel().await));
    let calls = TaskTracker::new();
    let options =
        CallOptions { request_id: "order 17".to_owned(), chunk_size: 1, priority: -2, ..CallOptions::default() };
    let mut request = with_timeout(MapRequest { options: Some(options), ..map("gated", 9) }, "100S");
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let traceparent = format!("00-{trace}-00f067aa0ba902b7-01").parse().unwrap();
    request.metadata_mut().insert("traceparent", traceparent);
    let mut map_client = client.clone();
    let first = calls.spawn(async move { map_client.map(request).await });
    server.script.begun(2).await;
    let config = IMapStreamConfig { function: "echo".to_owned(), ..IMapStreamConfig::default() };
    let config = IMapStreamRequest { config: Some(config), ..IMapStreamRequest::default() };
    let (input, requests) = tokio::sync::mpsc::channel(1);
    input.send(config).await.unwrap();
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let second = within(client.clone().i_map_stream(requests)).await.unwrap();

    let [one, two] = jobs(&mut admin, "").await.try_into().unwrap();
    assert_eq!(
        (one.job, one.method.as_str(), one.function.as_str(), one.request_id.as_str()),
        (1, "Map", "gated", "order 17")
    );
    assert_eq!((one.trace_id.as_str(), one.priority), (trace, -2));
    assert_eq!((one.num_items, one.num_running_items, one.num_queued_items), (9, 2, 7));
    assert_eq!((one.num_finished_items, one.num_failed_items, one.input_open), (0, 0, false));
    assert!(one.age.is_some() && (1..100).contains(&one.remaining_time.unwrap().seconds));
    assert_eq!((two.job, two.method.as_str(), two.num_items, two.input_open), (2, "IMapStream", 0, true));
    assert_eq!((two.remaining_time, two.request_id.as_str(), two.trace_id.as_str()), (None, "", ""));
    drop((input, second));
    server.script.release(9);
    within(first).await.unwrap().unwrap();
    drop((client, admin));
    server.stop().await;
}

#[tokio::test]
async fn the_client_of_a_cancelled_job_is_told_and_others_go_on() {
    let server = TestServer::start().await;
    let (client, mut admin) = (server.client().await, Admin::new(server.channel().await));
    let calls = TaskTracker::new();
    let call = |items| {
        let mut client = client.clone();
        calls.spawn(async move { client.map(map("gated", items)).await })
    };
    let doomed = call(100);
    server.script.begun(2).await;
    let other = call(3);
    while jobs(&mut admin, "").await.len() < 2 {}
    let mut cancelled = server.script.cancelled.subscribe();
    cancel(&mut admin, 1).await.unwrap();
    let error = within(doomed).await.unwrap().unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::Cancelled, "CANCELLED_BY_OPERATOR"));
    assert_eq!((error.message(), job_of(&error).as_str()), ("an operator cancelled the call (job 1)", "1"));
    within(cancelled.wait_for(|cancelled| *cancelled > 0)).await.unwrap();

    for job in [1, 77, 0] {
        let missing = cancel(&mut admin, job).await.unwrap_err();
        assert_eq!((missing.code(), reason(&missing).as_str()), (Code::NotFound, "JOB_NOT_FOUND"));
        assert_eq!(job_of(&missing), job.to_string());
    }
    server.script.release(100);
    within(other).await.unwrap().unwrap();
    drop((client, admin));
    server.stop().await;
}

#[tokio::test]
async fn the_readers_of_cancelled_streams_are_told() {
    let server = TestServer::start().await;
    let (mut client, mut admin) = (server.client().await, Admin::new(server.channel().await));
    server.script.release(1);
    let mut stream = within(client.i_map(imap("gated", 100))).await.unwrap().into_inner();
    within(stream.message()).await.unwrap().unwrap();
    cancel(&mut admin, 1).await.unwrap();
    let error = within(stream.message()).await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::Cancelled, "CANCELLED_BY_OPERATOR"));
    assert_eq!(job_of(&error), "1");

    let config = IMapStreamConfig { function: "echo".to_owned(), ..IMapStreamConfig::default() };
    let items = Some(i_map_stream_request::Items::Blobs(blobs([b"a"])));
    let (input, requests) = tokio::sync::mpsc::channel(1);
    input.send(IMapStreamRequest { config: Some(config), items, results_taken: 0 }).await.unwrap();
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut stream = within(client.i_map_stream(requests)).await.unwrap().into_inner();
    while within(stream.message()).await.unwrap().unwrap().results.is_none() {}
    cancel(&mut admin, 2).await.unwrap();
    let error = loop {
        if let Err(error) = within(stream.message()).await {
            break error;
        }
    };
    assert_eq!((error.code(), reason(&error).as_str()), (Code::Cancelled, "CANCELLED_BY_OPERATOR"));
    assert_eq!(job_of(&error), "2");
    assert!(jobs(&mut admin, "").await.is_empty());
    drop((client, admin, input));
    server.stop().await;
}

#[tokio::test]
async fn errors_of_calls_and_of_items_name_the_job_if_there_is_one() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    assert_eq!(job_of(&within(client.map(map("no_such_function", 1))).await.unwrap_err()), "", "it was refused");
    assert_eq!(job_of(&within(client.map(map("raise", 1))).await.unwrap_err()), "1");
    let options = Some(CallOptions { on_error: OnError::Collect.into(), ..CallOptions::default() });
    let collected = within(client.map(MapRequest { options, ..map("raise", 2) })).await.unwrap().into_inner();
    for error in collected.errors {
        let status = error.status.unwrap();
        let info = status.details.iter().find(|detail| detail.type_url.ends_with("ErrorInfo")).unwrap();
        let info = <ErrorInfo as prost::Message>::decode(info.value.as_slice()).unwrap();
        assert_eq!((info.metadata["job"].as_str(), info.metadata["function"].as_str()), ("2", "raise"));
    }
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn of_several_pools_each_job_has_a_number_of_its_own_and_needs_no_other_name() {
    let script = Script::of_functions(&["gated"]);
    let (left, right) = (script.clone(), Script::of_functions(&["right", "echo"]));
    let server = TestServer::start_pools(config(), &[("left", left), ("right", right)]).await;
    let (mut client, mut admin) = (server.client().await, Admin::new(server.channel().await));
    within(client.map(map("right", 1))).await.unwrap();
    let calls = TaskTracker::new();
    let running = calls.spawn({
        let mut client = client.clone();
        async move { client.map(map("gated", 2)).await }
    });
    script.begun(1).await;
    within(client.map(map("right", 1))).await.unwrap();
    assert!(jobs(&mut admin, "right").await.is_empty());
    assert_eq!(jobs(&mut admin, "left").await.iter().map(|job| job.job).collect::<Vec<_>>(), [2]);
    cancel(&mut admin, 2).await.unwrap();
    assert_eq!(job_of(&within(running).await.unwrap().unwrap_err()), "2");
    drop((client, admin));
    server.stop().await;
}
