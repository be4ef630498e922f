//! HEAD in HTTP/2: an answer without a body, on both ports.

use std::net::Ipv4Addr;

use procpool_server::ServerConfig;
use tokio::net::TcpStream;

use super::wire::{END_HEADERS, END_STREAM, HEADERS, Wire, field, frame, stream_of};
use crate::support::scripted::Script;
use crate::support::{TestServer, config, within};

#[tokio::test]
async fn the_answer_to_head_has_no_body() {
    let admin_listen = Some((Ipv4Addr::LOCALHOST, 0).into());
    let server = TestServer::start_with(ServerConfig { admin_listen, ..config() }, Script::default()).await;
    for (address, path) in [(server.address, "/"), (server.admin_address.unwrap(), "/healthz")] {
        let fields = [(":method", "HEAD"), (":scheme", "http"), (":path", path), (":authority", "test")];
        let fields: Vec<u8> = fields.iter().flat_map(|(name, value)| field(name, value)).collect();
        let mut wire = Wire::on(TcpStream::connect(address).await.unwrap(), &[]).await;
        wire.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream_of(0), &fields)).await.unwrap();
        let answer = within(wire.next_of(HEADERS)).await.unwrap();
        assert_eq!(answer.flags & END_STREAM, END_STREAM, "{path}: nothing follows the headers");
    }
    server.stop().await;
}
