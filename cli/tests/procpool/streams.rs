//! A million items through one stream, from an iterator that has no end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use procpool_client::{Client, ResultStream, iter};

use crate::support::Server;

const ITEMS: u64 = 1_000_000;
const STOPPED_ITEMS: u64 = 20_000;
const MEMORY_LIMIT_KIB: u64 = 64 << 10;

/// Returns the most memory that a process has had so far, in KiB.
pub(crate) fn peak_rss_kib(pid: rustix::process::Pid) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
async fn a_million_items_of_an_endless_iterator_stay_in_order_and_in_bounded_memory() {
    let server = Server::start(&["--processes", "2"]);
    let client = Client::connect(&server.address).await.unwrap();
    let mut results = client.imap_stream::<u64>("echo", iter(0_u64..)).await.unwrap();
    for expected in 0..ITEMS {
        let item = results.try_next().await.unwrap().unwrap();
        assert_eq!((item.index, item.result.as_ref()), (expected, Ok(&expected)));
    }
    drop(results);
    let peak = peak_rss_kib(server.pid());
    println!("{ITEMS} items through IMapStream: peak RSS of the server {} MiB", peak.div_ceil(1024));
    assert!(peak <= MEMORY_LIMIT_KIB, "the server took {peak} KiB");
}

/// Reads some results and then none, until nothing runs and nothing can begin: no more than the window was run beyond what
/// was taken. Then reads on to the end.
async fn stop_and_go_on(client: &Client, mut results: ResultStream<u64>, window: u64, drawn: impl Fn() -> u64) {
    let admin = client.admin();
    let mut taken = 0;
    for stop_at in [1, 200, 5000] {
        while taken < stop_at {
            let item = results.try_next().await.unwrap().unwrap();
            assert_eq!((item.index, item.result.as_ref()), (taken, Ok(&taken)));
            taken += 1;
            assert!(drawn() <= taken + window, "{} items were drawn for {taken} results", drawn());
        }
        let mut before = None;
        loop {
            let pool = admin.pool().await.unwrap();
            let finished: u64 = pool.workers.iter().map(|worker| worker.num_finished_items).sum();
            assert!(finished <= taken + window, "{finished} items have run, and {taken} results were taken");
            // The items that are on their way to the server are fewer with every one that has come.
            let at_rest = (pool.num_running_items == 0 && pool.num_queued_items == 0).then_some(finished);
            if at_rest.is_some_and(|finished| finished >= taken) && at_rest == before {
                break;
            }
            before = at_rest;
        }
    }
    while let Some(item) = results.try_next().await.unwrap() {
        assert_eq!((item.index, item.result.as_ref()), (taken, Ok(&taken)));
        taken += 1;
    }
    assert_eq!(taken, STOPPED_ITEMS);
}

#[tokio::test]
async fn a_reader_that_stops_stops_the_pool_at_the_window_and_the_client_takes_no_more_items() {
    let server = Server::start(&["--processes", "2"]);
    let client = Client::connect(&server.address).await.unwrap();
    let drawn = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&drawn);
    let items = (0..STOPPED_ITEMS).inspect(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    let results = client.imap_stream::<u64>("echo", iter(items)).window(50).await.unwrap();
    stop_and_go_on(&client, results, 50, || drawn.load(Ordering::SeqCst)).await;
}

#[tokio::test]
async fn a_reader_of_a_list_that_stops_stops_the_pool_at_the_window() {
    let server = Server::start(&["--processes", "2"]);
    let client = Client::connect(&server.address).await.unwrap();
    let results = client.imap::<u64>("echo", 0..STOPPED_ITEMS).window(4).await.unwrap();
    stop_and_go_on(&client, results, 4, || 0).await;
}
