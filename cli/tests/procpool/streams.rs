//! A million items through one stream, from an iterator that has no end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use procpool_client::{Client, iter};

use crate::support::Server;

const ITEMS: u64 = 1_000_000;
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

#[tokio::test]
async fn a_reader_that_stops_makes_the_client_stop_taking_items() {
    let server = Server::start(&["--processes", "2"]);
    let client = Client::connect(&server.address).await.unwrap();
    let window = 50;
    let drawn = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&drawn);
    let items = (0_u64..).inspect(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    let mut results = client.imap_stream::<u64>("echo", iter(items)).window(window).await.unwrap();
    for taken in 1..=200 {
        results.try_next().await.unwrap().unwrap();
        let drawn = drawn.load(Ordering::SeqCst);
        assert!(drawn <= taken + u64::from(window), "{drawn} items were drawn for {taken} results");
    }
}
