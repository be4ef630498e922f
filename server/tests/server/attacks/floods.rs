//! T12, T14 and relatives: frames that cost the sender nothing.

use std::iter::repeat_n;
use std::time::Duration;

use procpool_server::ServerConfig;

use super::beside_a_good_client;
use super::wire::{
    CONTINUATION, DATA, ENHANCE_YOUR_CALM, HEADERS, NONE, PING, RST_STREAM, SETTINGS, Wire, call_fields, field, frame,
    open_call, stream_of,
};
use crate::support::scripted::Script;
use crate::support::{TestServer, config};

#[tokio::test]
async fn endless_headers_are_cut_off() {
    let server = TestServer::start().await;
    let start = frame(HEADERS, NONE, stream_of(0), &call_fields("/"));
    let more = frame(CONTINUATION, NONE, stream_of(0), &field("x-more", &"x".repeat(100)).repeat(10));
    let frames = [start].into_iter().chain(repeat_n(more, 100_000));
    let wire = Wire::connect(&server).await;
    let flood = beside_a_good_client(&server, wire.flood(frames)).await;
    assert!(flood.is_closed, "{flood:?}");
    assert!(flood.go_away.is_none_or(|(code, _)| code == ENHANCE_YOUR_CALM));
    server.stop().await;
}

#[tokio::test]
async fn headers_over_the_limit_fail_their_call_alone() {
    let server = TestServer::start().await;
    let fields = [call_fields("/procpool.v1.PoolService/Map"), field("x-more", &"x".repeat(100)).repeat(130)].concat();
    let mut wire = Wire::connect(&server).await;
    wire.send(&frame(HEADERS, 5, stream_of(0), &fields)).await.unwrap();
    let answer = wire.next_of(HEADERS).await.unwrap();
    assert_eq!(answer.stream, stream_of(0));
    // `:status: 431` is not in the table of HPACK; its digits are.
    let digits = String::from_utf8_lossy(&answer.payload).into_owned();
    assert!(digits.contains("431") || answer.payload.len() < 10, "{digits}");
    drop(wire);
    server.stop().await;
}

/// Sends 100,000 DATA frames with this content in one call, whose server reads on.
async fn flood_with_data(content: &[u8]) {
    let server = TestServer::start().await;
    let data = frame(DATA, NONE, stream_of(0), content);
    let frames = [open_call(0, NONE)].into_iter().chain(repeat_n(data, 100_000));
    let wire = Wire::connect(&server).await;
    let flood = beside_a_good_client(&server, wire.flood(frames)).await;
    // What is read costs nothing for long; what is not makes an end of it.
    assert!(flood.go_away.as_ref().is_none_or(|(code, _)| *code == ENHANCE_YOUR_CALM), "{flood:?}");
    server.stop().await;
}

#[tokio::test]
async fn empty_data_costs_nothing() {
    flood_with_data(b"").await;
}

#[tokio::test]
async fn data_by_the_byte_costs_nothing() {
    // The start of a message that is never complete: one of 65,536 bytes, and one of none over and over.
    flood_with_data(b"\0").await;
}

/// Returns what opens a call that nobody takes items of, and a message of 13 bytes with one item.
fn stuck_call(nth: u32) -> (Vec<Vec<u8>>, Vec<u8>) {
    let message = |bytes: &[u8]| [&[0][..], &u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
    // IMapStreamRequest { config: { function: "gated", window: 1 } }, then { blobs: ["123456789"] } without end.
    let config = message(b"\x0a\x09\x0a\x05gated\x28\x01");
    let item = message(b"\x1a\x0b\x0a\x09123456789");
    let start = vec![open_call(nth, NONE), frame(DATA, NONE, stream_of(nth), &config)];
    (start, frame(DATA, NONE, stream_of(nth), &item))
}

#[tokio::test]
async fn tiny_messages_that_nobody_can_take_yet_wait_and_the_connection_lives() {
    let server = TestServer::start().await;
    // Each call as far as its window goes, in frames of 18 bytes; together over 40 MB by the library's count of frames.
    let frames = (0..12).flat_map(|nth| {
        let (start, item) = stuck_call(nth);
        start.into_iter().chain(repeat_n(item, 14_000))
    });
    let wire = Wire::connect_and_agree(&server).await;
    let flood = beside_a_good_client(&server, wire.flood(frames)).await;
    assert!(!flood.is_closed, "{flood:?}");
    // The ping behind it all is answered, and no call was reset.
    assert!(flood.received[usize::from(PING)] >= 1 && flood.received[usize::from(RST_STREAM)] == 0, "{flood:?}");
    server.script.release(1_000_000);
    server.stop().await;
}

#[tokio::test]
async fn who_sends_beyond_its_window_loses_the_call() {
    let server = TestServer::start().await;
    let (start, item) = stuck_call(0);
    let frames = start.into_iter().chain(repeat_n(item, 50_000));
    let wire = Wire::connect_and_agree(&server).await;
    let flood = beside_a_good_client(&server, wire.flood(frames)).await;
    assert!(flood.is_closed || flood.received[usize::from(RST_STREAM)] >= 1, "{flood:?}");
    server.script.release(1000);
    server.stop().await;
}

#[tokio::test]
async fn pings_and_settings_are_answered_one_by_one() {
    for kind in [PING, SETTINGS] {
        let server = TestServer::start().await;
        let payload: &[u8] = if kind == PING { b"and back" } else { &[] };
        let frames = repeat_n(frame(kind, NONE, 0, payload), 100_000);
        let wire = Wire::connect(&server).await;
        let flood = beside_a_good_client(&server, wire.flood(frames)).await;
        assert!(flood.is_closed || flood.received[usize::from(kind)] >= 100_000, "{flood:?}");
        server.stop().await;
    }
}

#[tokio::test]
async fn who_asks_without_end_and_reads_no_answer_is_hung_up_on() {
    let keepalive = Duration::from_millis(300);
    // With the first, the answers fill what the kernel holds for them before the server's own ping is due, and then there
    // is no room for that either; with the second it is due while there still is.
    for (keepalive_interval, burst) in [(keepalive * 10, 1000), (keepalive, 1)] {
        let config = ServerConfig { keepalive_interval, keepalive_timeout: keepalive, ..config() };
        let server = TestServer::start_with(config, Script::default()).await;
        let mut wire = Wire::connect(&server).await;
        let pings = frame(PING, NONE, 0, b"and back").repeat(burst);
        beside_a_good_client(&server, async { while wire.send(&pings).await.is_ok() {} }).await;
        server.stop().await;
    }
}
