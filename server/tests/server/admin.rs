//! What operators are told: the state of a pool, what changes, and how a restart ends.

use std::sync::atomic::Ordering;
use std::time::Duration;

use procpool_proto::google::rpc::RetryInfo;
use procpool_proto::v1::pool_admin_service_client::PoolAdminServiceClient;
use procpool_proto::v1::watch_pool_response::Event;
use procpool_proto::v1::{
    GetPoolRequest, ListFunctionsRequest, MapRequest, PoolSnapshot, ResizePoolRequest, RestartWorkersRequest,
    SlotCounts, WatchPoolRequest, map_request,
};
use procpool_server::ServerConfig;
use tokio_util::task::TaskTracker;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::deadline::with_timeout;
use crate::support::details::{detail, reason};
use crate::support::scripted::Script;
use crate::support::{TestServer, blobs, config, within};

type Admin = PoolAdminServiceClient<Channel>;

fn map(function: &str, items: usize) -> MapRequest {
    let items = Some(map_request::Items::Blobs(blobs(vec![b"a"; items])));
    MapRequest { function: function.to_owned(), items, ..MapRequest::default() }
}

async fn get_pool(admin: &mut Admin) -> PoolSnapshot {
    within(admin.get_pool(GetPoolRequest::default())).await.unwrap().into_inner().pool.unwrap()
}

async fn resize(admin: &mut Admin, num_slots: u32) {
    within(admin.resize_pool(ResizePoolRequest { num_slots, ..ResizePoolRequest::default() })).await.unwrap();
}

/// Returns after how many milliseconds a call may be made again, and after how many seconds by its details; -1: never.
fn pushback_of(failed: &Status) -> (i64, Option<i64>) {
    let pushback = failed.metadata().get("grpc-retry-pushback-ms").unwrap().to_str().unwrap().parse().unwrap();
    let delay = detail::<RetryInfo>(failed, "RetryInfo").map(|info| info.retry_delay.unwrap().seconds);
    (pushback, delay)
}

async fn next(events: &mut Streaming<procpool_proto::v1::WatchPoolResponse>) -> Event {
    within(events.message()).await.unwrap().unwrap().event.unwrap()
}

#[tokio::test]
async fn a_pool_tells_its_limits_and_what_it_has_done() {
    let server = TestServer::start().await;
    let (mut client, mut admin) = (server.client().await, Admin::new(server.channel().await));
    within(client.map(map("echo", 5))).await.unwrap();
    within(client.map(map("raise", 1))).await.unwrap_err();
    let running = TaskTracker::new().spawn({
        let mut client = client.clone();
        async move { client.map(map("gated", 1)).await }
    });
    server.script.begun(1).await;
    let pool = get_pool(&mut admin).await;
    let limits = pool.limits.unwrap();
    assert_eq!((limits.max_queued_items, limits.max_queued_bytes), (10_000_000, 256 << 20));
    assert_eq!((limits.crash_limit, limits.max_items_per_worker, limits.item_timeout), (3, 0, None));
    assert_eq!(limits.worker_start_timeout.unwrap().seconds, 60);
    assert_eq!(pool.num_held_items, 1, "the one that runs");
    assert!((3..1_000).contains(&pool.held_bytes), "with its tag and length, and what it takes to keep it");
    assert_eq!(pool.slots.unwrap(), SlotCounts { ready: 1, busy: 1, ..SlotCounts::default() });
    let counts = pool.counts.unwrap();
    assert_eq!((counts.jobs_total, counts.jobs_failed_total), (3, 1));
    assert_eq!((counts.items_succeeded_total, counts.items_failed_total, counts.items_dropped_total), (5, 1, 0));
    assert!(counts.worker_exits_total.is_empty());
    server.script.release(1);
    within(running).await.unwrap().unwrap();

    resize(&mut admin, 1).await;
    let restarted = within(admin.restart_workers(RestartWorkersRequest::default())).await.unwrap().into_inner();
    assert!(restarted.num_restarted > 0);
    let exits = get_pool(&mut admin).await.counts.unwrap().worker_exits_total;
    assert_eq!((exits["resize"], exits["restart"]), (1, 1));
    drop((client, admin));
    server.stop().await;
}

#[tokio::test]
async fn clients_are_told_how_many_slots_there_are_after_a_resize() {
    let server = TestServer::start().await;
    let (mut client, mut admin) = (server.client().await, Admin::new(server.channel().await));
    for num_slots in [3, 1] {
        resize(&mut admin, num_slots).await;
        let listed = within(client.list_functions(ListFunctionsRequest {})).await.unwrap().into_inner();
        assert_eq!(listed.limits.unwrap().num_slots, num_slots);
    }
    drop((client, admin));
    server.stop().await;
}

#[tokio::test]
async fn a_restart_that_is_not_done_in_time_says_why_and_goes_on() {
    let server = TestServer::start().await;
    let mut admin = Admin::new(server.channel().await);
    within(server.client().await.map(map("echo", 1))).await.unwrap();
    server.script.fails_to_start.store(true, Ordering::SeqCst);
    let late = within(admin.restart_workers(with_timeout(RestartWorkersRequest::default(), "1S"))).await.unwrap_err();
    assert_eq!((late.code(), reason(&late).as_str()), (Code::DeadlineExceeded, "DEADLINE"));
    let why =
        "1 of 2 old workers are left in pool \"default\" (a worker exited with code 1: RuntimeError: no such database)";
    assert!(late.message().contains(why), "{}", late.message());
    assert!(get_pool(&mut admin).await.restarting);
    within(server.client().await.map(map("echo", 1))).await.unwrap();
    server.script.fails_to_start.store(false, Ordering::SeqCst);
    within(admin.restart_workers(RestartWorkersRequest::default())).await.unwrap();
    assert!(!get_pool(&mut admin).await.restarting);
    drop(admin);
    server.stop().await;
}

#[tokio::test]
async fn a_restart_that_a_drain_cuts_short_is_an_error() {
    let server = TestServer::start().await;
    let (mut client, mut admin) = (server.client().await, Admin::new(server.channel().await));
    let running = TaskTracker::new().spawn(async move { client.map(map("gated", 2)).await });
    server.script.begun(2).await;
    let restart = TaskTracker::new().spawn({
        let mut admin = admin.clone();
        async move { admin.restart_workers(RestartWorkersRequest::default()).await }
    });
    while !get_pool(&mut admin).await.restarting {}
    server.shutdown.drain();
    let failed = within(restart).await.unwrap().unwrap_err();
    assert_eq!((failed.code(), reason(&failed).as_str()), (Code::Unavailable, "DRAINING"));
    // Workers may have been replaced: it is no call that has not started.
    assert_eq!(pushback_of(&failed), (-1, None));
    server.script.release(2);
    within(running).await.unwrap().unwrap();
    drop(admin);
    server.ended().await;
}

#[tokio::test]
async fn a_call_that_a_restart_holds_up_when_the_server_is_drained_may_be_made_again() {
    let config = ServerConfig { drain_timeout: Duration::from_secs(1), ..config() };
    let server = TestServer::start_with(config, Script::default()).await;
    let (client, mut admin) = (server.client().await, Admin::new(server.channel().await));
    let calls = TaskTracker::new();
    let map = |function: &'static str, items| {
        let mut client = client.clone();
        calls.spawn(async move { client.map(map(function, items)).await })
    };
    let running = map("gated", 2);
    server.script.begun(2).await;
    let restart = calls.spawn({
        let mut admin = admin.clone();
        async move { admin.restart_workers(RestartWorkersRequest::default()).await }
    });
    while !get_pool(&mut admin).await.restarting {}
    let waiting = map("echo", 1);
    while get_pool(&mut admin).await.num_jobs < 2 {}
    server.shutdown.drain();
    let failed = within(restart).await.unwrap().unwrap_err();
    assert_eq!((reason(&failed).as_str(), pushback_of(&failed)), ("DRAINING", (-1, None)));
    let failed = within(running).await.unwrap().unwrap_err();
    assert_eq!((reason(&failed).as_str(), pushback_of(&failed)), ("DRAINING", (-1, None)));
    let failed = within(waiting).await.unwrap().unwrap_err();
    assert_eq!((reason(&failed).as_str(), pushback_of(&failed)), ("DRAINING", (1000, Some(1))), "it never began");
    drop((client, admin));
    server.ended().await;
}

#[tokio::test]
async fn a_watcher_that_reads_too_slowly_gets_the_whole_state_anew() {
    let server = TestServer::start().await;
    let mut admin = Admin::new(server.channel().await);
    // A connection that takes no more than this until it is read from.
    let address = format!("http://{}", server.address);
    let narrow = Channel::from_shared(address).unwrap().initial_stream_window_size(1024);
    let mut watcher = Admin::new(narrow.connect().await.unwrap());
    let mut events = within(watcher.watch_pool(WatchPoolRequest::default())).await.unwrap().into_inner();
    let Event::Snapshot(first) = next(&mut events).await else { panic!("the state comes first") };
    assert_eq!(first.num_slots, 2);
    for round in 0..500 {
        resize(&mut admin, 2 + (round + 1) % 2).await;
    }
    let mut num_slots = first.num_slots;
    let mut num_events = 0;
    let again = loop {
        match next(&mut events).await {
            Event::Snapshot(again) => break again,
            Event::PoolResized(resized) => {
                assert_eq!(resized.previous_num_slots, num_slots, "nothing is left out before that");
                num_slots = resized.num_slots;
            }
            _ => {}
        }
        num_events += 1;
    };
    assert!(num_events < 500, "some were missed");
    assert_eq!(again.num_slots, 2);
    resize(&mut admin, 1).await;
    loop {
        if let Event::PoolResized(resized) = next(&mut events).await {
            assert_eq!((resized.previous_num_slots, resized.num_slots), (2, 1));
            break;
        }
    }
    drop((admin, watcher, events));
    server.stop().await;
}

#[tokio::test]
async fn a_watcher_is_told_when_a_restart_begins_and_ends() {
    let server = TestServer::start().await;
    let mut admin = Admin::new(server.channel().await);
    within(server.client().await.map(map("echo", 1))).await.unwrap();
    while get_pool(&mut admin).await.slots.unwrap().ready < 2 {}
    let mut events = within(admin.watch_pool(WatchPoolRequest::default())).await.unwrap().into_inner();
    assert!(matches!(next(&mut events).await, Event::Snapshot(snapshot) if !snapshot.restarting));
    within(admin.restart_workers(RestartWorkersRequest::default())).await.unwrap();
    assert!(matches!(next(&mut events).await, Event::RestartStarted(started) if started.num_workers == 2));
    let mut num_changes = 0;
    let ended = loop {
        match next(&mut events).await {
            Event::WorkerChanged(_) => num_changes += 1,
            other => break other,
        }
    };
    assert!(matches!(ended, Event::RestartEnded(ended) if ended.complete), "{ended:?}");
    assert_eq!(num_changes, 2 * 4, "each is Stopping, Exited, and the next Starting and Ready");
    drop((admin, events));
    server.stop().await;
}
