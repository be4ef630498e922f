//! T1 to T3: streams that are opened only to be ended.

use super::beside_a_good_client;
use super::wire::{
    END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, HEADERS, NONE, RST_STREAM, SETTINGS, WINDOW_UPDATE, Wire, call_fields,
    field, frame, open_call, stream_of,
};
use crate::support::{TestServer, within};

#[tokio::test]
async fn the_settings_announce_the_limits() {
    let server = TestServer::start().await;
    let mut wire = Wire::connect(&server).await;
    let settings = within(wire.next_of(SETTINGS)).await.unwrap().payload;
    let setting = |id: u16| {
        let entry = settings.chunks(6).find(|entry| entry[..2] == id.to_be_bytes());
        entry.map(|entry| u32::from_be_bytes(entry[2..].try_into().unwrap()))
    };
    assert_eq!(setting(3), Some(256), "SETTINGS_MAX_CONCURRENT_STREAMS");
    assert_eq!(setting(6), Some(16 << 10), "SETTINGS_MAX_HEADER_LIST_SIZE");
    drop(wire);
    server.stop().await;
}

#[tokio::test]
async fn a_stream_over_the_limit_is_refused_so_that_it_can_be_tried_again() {
    let server = TestServer::start().await;
    let mut wire = Wire::connect(&server).await;
    within(wire.next_of(SETTINGS)).await.unwrap();
    for nth in 0..=256 {
        wire.send(&open_call(nth, NONE)).await.unwrap();
    }
    let reset = within(wire.next_of(RST_STREAM)).await.unwrap();
    assert_eq!((reset.stream, reset.payload.as_slice()), (stream_of(256), &7_u32.to_be_bytes()[..]), "REFUSED_STREAM");
    drop(wire);
    server.stop().await;
}

#[tokio::test]
async fn rapid_resets_are_sent_away() {
    let server = TestServer::start().await;
    let cancel = 8_u32.to_be_bytes();
    let frames =
        (0..100_000).map(|nth| [open_call(nth, END_STREAM), frame(RST_STREAM, NONE, stream_of(nth), &cancel)].concat());
    let wire = Wire::connect(&server).await;
    let flood = beside_a_good_client(&server, wire.flood(frames)).await;
    assert!(flood.is_closed, "{flood:?}");
    assert!(flood.go_away.is_none_or(|(code, why)| code == ENHANCE_YOUR_CALM && why == "too_many_resets"));
    server.stop().await;
}

/// What a peer is told that breaks the protocol itself.
const PROTOCOL_ERROR: u32 = 1;

/// Sends 20,000 streams that the server itself must reset, each opened by `stream`; the connection ends with this code.
async fn make_the_server_reset(stream: impl Fn(u32) -> Vec<u8>, expected: u32) {
    let server = TestServer::start().await;
    let wire = Wire::connect(&server).await;
    let flood = beside_a_good_client(&server, wire.flood((0..20_000).map(stream))).await;
    assert!(flood.is_closed, "{flood:?}");
    assert!(flood.received[usize::from(RST_STREAM)] <= 2 * 1024, "{flood:?}");
    assert!(flood.go_away.as_ref().is_none_or(|(code, _)| *code == expected), "{flood:?}");
    server.stop().await;
}

#[tokio::test]
async fn malformed_headers_are_answered_only_so_often() {
    let stream = |nth| {
        let fields = [call_fields("/"), field("connection", "close")].concat();
        frame(HEADERS, END_HEADERS | END_STREAM, stream_of(nth), &fields)
    };
    make_the_server_reset(stream, ENHANCE_YOUR_CALM).await;
}

#[tokio::test]
async fn windows_that_overflow_are_answered_only_so_often() {
    let stream = |nth| {
        let update = frame(WINDOW_UPDATE, NONE, stream_of(nth), &0x7fff_ffff_u32.to_be_bytes());
        [open_call(nth, NONE), update].concat()
    };
    make_the_server_reset(stream, ENHANCE_YOUR_CALM).await;
}

#[tokio::test]
async fn windows_that_grow_by_nothing_end_the_connection() {
    let stream = |nth| {
        let update = frame(WINDOW_UPDATE, NONE, stream_of(nth), &0_u32.to_be_bytes());
        [open_call(nth, NONE), update].concat()
    };
    make_the_server_reset(stream, PROTOCOL_ERROR).await;
}
