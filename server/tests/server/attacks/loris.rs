//! Clients that take their time: connections and calls that are begun and never finished.

use std::time::Duration;

use procpool_server::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::is_served;
use super::wire::{
    DATA, END_HEADERS, HEADERS, NONE, PING, PREFACE, SETTINGS, Wire, call_fields, field, frame, open_call, stream_of,
};
use crate::support::scripted::Script;
use crate::support::{TestServer, config, within};

const CONNECTIONS: u32 = 300;

/// Fills a server with connections that each say as much as this and no more; who behaves waits, and is served when
/// they were hung up on.
async fn fill_the_server(start: &[u8]) {
    let short = Duration::from_millis(500);
    let config = ServerConfig {
        max_connections: CONNECTIONS,
        first_byte_timeout: short,
        keepalive_interval: short,
        keepalive_timeout: short,
        ..config()
    };
    let server = TestServer::start_with(config, Script::default()).await;
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(start).await.unwrap();
        silent.push(stream);
    }
    is_served(&mut within(server.client()).await).await;
    for mut stream in silent {
        // Some with a word of farewell, some without.
        let _ = within(stream.read_to_end(&mut Vec::new())).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn connections_that_say_nothing_make_room() {
    fill_the_server(b"").await;
}

#[tokio::test]
async fn connections_that_say_half_a_preface_make_room() {
    fill_the_server(&PREFACE[..20]).await;
}

#[tokio::test]
async fn connections_that_answer_no_ping_make_room() {
    fill_the_server(&[PREFACE, &frame(SETTINGS, NONE, 0, &[])].concat()).await;
}

#[tokio::test]
async fn connections_with_half_a_frame_make_room() {
    let half = &open_call(0, NONE)[..20];
    fill_the_server(&[PREFACE, &frame(SETTINGS, NONE, 0, &[]), half].concat()).await;
}

/// Answers pings and says nothing else, until the connection is closed.
async fn answer_pings(mut wire: Wire) {
    while wire.next_of(PING).await.is_ok() {}
}

#[tokio::test]
async fn connections_that_only_answer_pings_make_room() {
    let keepalive_interval = Duration::from_millis(300);
    let server = TestServer::start_with(
        ServerConfig { max_connections: CONNECTIONS, keepalive_interval, ..config() },
        Script::default(),
    )
    .await;
    let mut quiet = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        quiet.spawn(answer_pings(Wire::connect(&server).await));
    }
    let mut client = within(server.client()).await;
    is_served(&mut client).await;
    // One has made room, and no more than one.
    within(quiet.join_next()).await.unwrap().unwrap();
    is_served(&mut client).await;
    assert!(quiet.try_join_next().is_none());
    server.stop().await;
    within(quiet.join_all()).await;
}

#[tokio::test]
async fn a_request_that_never_comes_does_not_delay_the_end() {
    let server = TestServer::start().await;
    let mut wire = Wire::connect(&server).await;
    wire.send(&[open_call(0, NONE), frame(PING, NONE, 0, b"received")].concat()).await.unwrap();
    while within(wire.next_frame()).await.unwrap().payload != b"received" {}
    // The drain limit is further away than a test's patience.
    server.stop().await;
}

/// Opens a call, sends this much of its request, and waits for its end.
async fn begin_a_request(start: &[u8]) {
    let config = ServerConfig { stream_stall_timeout: Duration::from_millis(300), ..config() };
    let server = TestServer::start_with(config, Script::default()).await;
    let mut wire = Wire::connect(&server).await;
    wire.send(&open_call(0, NONE)).await.unwrap();
    if !start.is_empty() {
        wire.send(&frame(DATA, NONE, stream_of(0), start)).await.unwrap();
    }
    // Headers that end the stream: an error.
    let answer = within(wire.next_of(HEADERS)).await.unwrap();
    assert_eq!((answer.stream, answer.flags & 1), (stream_of(0), 1));
    // The connection is of use to others.
    wire.send(&open_call(1, NONE)).await.unwrap();
    assert_eq!(within(wire.next_of(HEADERS)).await.unwrap().stream, stream_of(1));
    drop(wire);
    server.stop().await;
}

/// Returns the frames of a call of Map that has sent its whole message, and never says that this was all.
fn open_ended_call(nth: u32, deadline: &[(&str, &str)]) -> Vec<u8> {
    let deadline = deadline.iter().flat_map(|(name, value)| field(name, value));
    let fields: Vec<u8> = call_fields("/procpool.v1.PoolService/Map").into_iter().chain(deadline).collect();
    // The message: `function` is "f".
    let message = [0, 0, 0, 0, 3, 0x0a, 1, b'f'];
    [frame(HEADERS, END_HEADERS, stream_of(nth), &fields), frame(DATA, NONE, stream_of(nth), &message)].concat()
}

#[tokio::test]
async fn a_request_of_one_message_that_does_not_end_is_given_up() {
    for (stall_timeout, deadline) in [(300, &[][..]), (600_000, &[("grpc-timeout", "300m")][..])] {
        let stream_stall_timeout = Duration::from_millis(stall_timeout);
        let server = TestServer::start_with(ServerConfig { stream_stall_timeout, ..config() }, Script::default()).await;
        let mut wire = Wire::connect(&server).await;
        wire.send(&open_ended_call(0, deadline)).await.unwrap();
        // Headers that end the stream: an error.
        let answer = within(wire.next_of(HEADERS)).await.unwrap();
        assert_eq!((answer.stream, answer.flags & 1), (stream_of(0), 1), "{deadline:?}");
        drop(wire);
        server.stop().await;
    }
}

#[tokio::test]
async fn a_request_of_one_message_that_does_not_end_does_not_delay_the_end() {
    let server = TestServer::start().await;
    let mut wire = Wire::connect(&server).await;
    wire.send(&[open_ended_call(0, &[]), frame(PING, NONE, 0, b"received")].concat()).await.unwrap();
    while within(wire.next_frame()).await.unwrap().payload != b"received" {}
    // The drain limit is further away than a test's patience.
    server.stop().await;
}

#[tokio::test]
async fn a_request_that_never_begins_is_given_up() {
    begin_a_request(b"").await;
}

#[tokio::test]
async fn a_request_that_stops_half_way_is_given_up() {
    begin_a_request(&[0, 0, 0, 0, 100, 1, 2, 3]).await;
}
