//! Results are bounded in bytes: a call with one answer fails as soon as they are too many, a stream is held back.

use std::num::NonZeroU32;
use std::sync::Arc;

use procpool_items::ItemKind;
use procpool_pool::PoolConfig;
use procpool_proto::v1::i_map_response::Results;
use procpool_proto::v1::pool_admin_service_client::PoolAdminServiceClient;
use procpool_proto::v1::{
    ApplyRequest, CallOptions, GetPoolRequest, IMapRequest, MapRequest, PoolSnapshot, ResultOrder, apply_request,
    i_map_request, map_request,
};
use procpool_server::NamedPool;
use tonic::{Code, Streaming};

use crate::support::details::reason;
use crate::support::scripted::{Script, ScriptedSpawner};
use crate::support::{TestServer, blobs, config, contents, within};

/// Of a pool of two workers.
const MAX_RESULT_BYTES: u32 = 64 << 20;
/// What is larger than any window of the client and of the kernel together would only make the test slow.
const RESULT_BYTES: usize = 1 << 20;

async fn start() -> TestServer {
    let script = Script::default();
    let pool = PoolConfig { max_result_bytes: MAX_RESULT_BYTES, ..PoolConfig::new(NonZeroU32::new(2).unwrap()) };
    let spawner = Arc::new(ScriptedSpawner::new(script.clone()));
    let mut server = TestServer::start_named(config(), vec![NamedPool::new("default", pool, spawner)]).await;
    server.script = script;
    server
}

/// A Map whose items have results of this many bytes each.
fn map(sizes: impl IntoIterator<Item = usize>) -> MapRequest {
    let items = Some(map_request::Items::Blobs(blobs(sizes.into_iter().map(|size| size.to_string()))));
    MapRequest { function: "big".to_owned(), items, ..MapRequest::default() }
}

fn imap(count: usize, order: ResultOrder, chunk_size: u32) -> IMapRequest {
    IMapRequest {
        function: "big".to_owned(),
        // Each of another length, so that they can be told apart.
        items: Some(i_map_request::Items::Blobs(blobs((0..count).map(|index| (RESULT_BYTES + index).to_string())))),
        options: Some(CallOptions { chunk_size, ..CallOptions::default() }),
        order: order.into(),
        window: 1_000_000,
        ..IMapRequest::default()
    }
}

/// Waits until nothing runs although there is something to run.
async fn held(server: &TestServer) -> PoolSnapshot {
    let mut admin = PoolAdminServiceClient::new(server.channel().await);
    within(async {
        loop {
            let pool = admin.get_pool(GetPoolRequest::default()).await.unwrap().into_inner().pool.unwrap();
            if pool.num_running_items == 0 && pool.num_queued_items > 0 && server.script.num_finished() > 0 {
                return pool;
            }
        }
    })
    .await
}

/// Reads the lengths of all results.
async fn lengths(mut stream: Streaming<procpool_proto::v1::IMapResponse>) -> Vec<usize> {
    let mut lengths = Vec::new();
    while let Some(message) = within(stream.message()).await.unwrap() {
        let Some(Results::Blobs(results)) = message.results else { panic!("blobs were sent") };
        lengths.extend(contents(ItemKind::Blobs, &results).iter().map(bytes::Bytes::len));
    }
    lengths
}

/// Returns the most bytes of memory that this process, which is the server too, has had so far.
fn peak_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

#[tokio::test]
async fn a_map_whose_results_pass_what_a_message_holds_fails_then_and_not_at_its_end() {
    let server = TestServer::start().await;
    let before = peak_memory();
    // 1.2 GB in all, and a message holds 64 MiB.
    let failed = within(server.client().await.map(map([8_000_000; 150]))).await.unwrap_err();
    assert_eq!((failed.code(), reason(&failed).as_str()), (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"));
    assert!(failed.message().contains("use IMap"), "{}", failed.message());
    let grown = peak_memory() - before;
    assert!(grown < 256 << 20, "{grown} bytes");
    assert!(server.script.num_finished() < 40, "{}", server.script.num_finished());
    within(server.client().await.map(map([10]))).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_map_whose_results_find_no_room_fails_and_leaves_the_room_to_others() {
    let server = start().await;
    let mut client = server.client().await;
    let failed = within(client.map(map([RESULT_BYTES; 100]))).await.unwrap_err();
    assert_eq!((failed.code(), reason(&failed).as_str()), (Code::ResourceExhausted, "RESULTS_FULL"));
    assert_eq!(failed.metadata().get("grpc-retry-pushback-ms").unwrap(), "-1");
    assert!(server.script.num_finished() < 100, "{}", server.script.num_finished());
    // What one call has held is there for the next, one after the other.
    for _ in 0..5 {
        within(client.map(map([RESULT_BYTES; 8]))).await.unwrap();
    }
    let args = Some(apply_request::Args::Blobs(blobs([b"1"])));
    let request = ApplyRequest { function: "echo".to_owned(), args, ..ApplyRequest::default() };
    within(client.apply(request)).await.unwrap();
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn a_reader_that_stops_before_large_results_stops_the_pool_and_gets_them_all_in_order() {
    for (order, chunk_size) in [(ResultOrder::Ordered, 0), (ResultOrder::Unordered, 0), (ResultOrder::Ordered, 50)] {
        let server = start().await;
        let stream = within(server.client().await.i_map(imap(100, order, chunk_size))).await.unwrap().into_inner();
        let pool = held(&server).await;
        let finished = server.script.num_finished();
        // 4 MiB are free for all; and what was running then, and what the connection took.
        assert!((4..20).contains(&finished), "{finished} results, {pool:?}");
        let mut received = lengths(stream).await;
        if order == ResultOrder::Unordered {
            received.sort_unstable();
        }
        assert!(received.iter().copied().eq((0..100).map(|index| RESULT_BYTES + index)), "{received:?}");
        server.stop().await;
    }
}

#[tokio::test]
async fn a_call_beside_a_reader_that_stops_gets_its_results() {
    let server = start().await;
    let stalled = within(server.client().await.i_map(imap(100, ResultOrder::Ordered, 0))).await.unwrap().into_inner();
    held(&server).await;
    let other = within(server.client().await.i_map(imap(50, ResultOrder::Ordered, 0))).await.unwrap().into_inner();
    assert_eq!(lengths(other).await.len(), 50);
    within(server.client().await.map(map([RESULT_BYTES; 8]))).await.unwrap();
    assert_eq!(lengths(stalled).await.len(), 100);
    server.stop().await;
}
