//! Clients that ask and take no answer, while they answer every ping: what waits for them is cut, and no call is held for
//! ever.

use std::time::Duration;

use procpool_proto::v1::map_request::Items;
use procpool_proto::v1::{
    ApplyRequest, IMapRequest, MapRequest, StarMapRequest, apply_request, i_map_request, star_map_request,
};
use procpool_server::ServerConfig;
use prost::Message;

use super::wire::{
    DATA, END_HEADERS, END_STREAM, GO_AWAY, HEADERS, RST_STREAM, SETTINGS_INITIAL_WINDOW_SIZE, Wire, call_fields,
    frame, stream_of,
};
use super::{is_served, memory};
use crate::support::scripted::Script;
use crate::support::{TestServer, blobs, config, within};

/// The error code of a stream that is not needed any more.
const CANCEL: u32 = 8;

fn impatient() -> ServerConfig {
    ServerConfig { stream_stall_timeout: Duration::from_millis(300), ..config() }
}

/// Returns the frames of a whole call.
fn call(nth: u32, method: &str, request: &impl Message) -> Vec<u8> {
    let message = request.encode_to_vec();
    let prefix = [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes()].concat();
    let headers = call_fields(&format!("/procpool.v1.PoolService/{method}"));
    [
        frame(HEADERS, END_HEADERS, stream_of(nth), &headers),
        frame(DATA, END_STREAM, stream_of(nth), &[prefix, message].concat()),
    ]
    .concat()
}

fn map(sizes: &[&str]) -> MapRequest {
    MapRequest { function: "big".to_owned(), items: Some(Items::Blobs(blobs(sizes))), ..MapRequest::default() }
}

#[tokio::test]
async fn an_answer_that_nobody_takes_is_cut_and_its_connection_ends() {
    let function = || "big".to_owned();
    let star = star_map_request::Items::Blobs(blobs(["[1]"]));
    let star = StarMapRequest {
        function: "echo".to_owned(),
        items: Some(star),
        content_type: "application/json".to_owned(),
        ..Default::default()
    };
    let apply = ApplyRequest {
        function: "echo".to_owned(),
        args: Some(apply_request::Args::Blobs(blobs(["1"]))),
        ..Default::default()
    };
    let imap = i_map_request::Items::Blobs(blobs(["10", "1000000"]));
    let imap = IMapRequest { function: function(), items: Some(imap), ..Default::default() };
    let large = || map(&["1000000", "1000000"]);
    let calls = |first| {
        [
            call(first, "Map", &large()),
            call(first + 1, "Map", &map(&["10"])),
            call(first + 2, "StarMap", &star),
            call(first + 3, "Apply", &apply),
            call(first + 4, "IMap", &imap),
        ]
    };
    // With a window of one byte, the transport gets a first piece and keeps it.
    for window in [0, 1] {
        let server = TestServer::start_with(impatient(), Script::default()).await;
        let mut wire = Wire::connect_with(&server, &[(SETTINGS_INITIAL_WINDOW_SIZE, window)]).await;
        let calls = calls(0);
        // The short answers fit into one piece, and with any window at all they are the connection's.
        let num_cut = if window == 0 { calls.len() } else { 2 };
        wire.send(&calls.concat()).await.unwrap();
        let mut cut = Vec::new();
        while cut.len() < num_cut {
            let reset = within(wire.next_of(RST_STREAM)).await.unwrap();
            assert_eq!(reset.payload, CANCEL.to_be_bytes());
            cut.push(reset.stream);
        }
        if window == 0 {
            // Nothing is left of it that would keep the connection when it is to end.
            server.shutdown.drain();
            while within(wire.next_of(GO_AWAY)).await.is_ok() {}
            server.ended().await;
        } else {
            assert!(cut.contains(&stream_of(0)) && cut.contains(&stream_of(4)), "{cut:?}");
            drop(wire);
            server.stop().await;
        }
    }
}

#[tokio::test]
async fn answers_that_nobody_takes_do_not_pile_up() {
    let server = TestServer::start_with(impatient(), Script::default()).await;
    let mut client = server.client().await;
    let mut wire = Wire::connect_with(&server, &[(SETTINGS_INITIAL_WINDOW_SIZE, 0)]).await;
    is_served(&mut client).await;
    let before = memory();
    // 30 MB each, and three of them find room at a time.
    let sizes = ["10000000"; 3];
    for round in 0..8 {
        let calls: Vec<u8> = (0..3).flat_map(|nth| call(3 * round + nth, "Map", &map(&sizes))).collect();
        wire.send(&calls).await.unwrap();
        for _ in 0..3 {
            let reset = within(wire.next_of(RST_STREAM)).await.unwrap();
            assert_eq!(reset.payload, CANCEL.to_be_bytes());
        }
    }
    is_served(&mut client).await;
    let grown = memory().saturating_sub(before);
    assert!(grown < 300 << 20, "{grown} bytes");
    drop((client, wire));
    server.stop().await;
}
