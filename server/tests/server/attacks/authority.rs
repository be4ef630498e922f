//! What clients on a Unix socket call the server: its path, in whatever form.

use procpool_server::{ListenAddress, ServerConfig};
use tokio::net::UnixStream;

use super::wire::{END_HEADERS, HEADERS, NONE, RST_STREAM, Wire, call_fields_to, frame, stream_of};
use crate::support::scripted::Script;
use crate::support::{TestServer, config, within};

#[tokio::test]
async fn a_path_is_as_good_as_a_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("procpool.sock");
    let listen = vec![ListenAddress::Unix(path.clone())];
    let server = TestServer::start_with(ServerConfig { listen, ..config() }, Script::default()).await;
    let mut wire = Wire::on(UnixStream::connect(&path).await.unwrap(), &[]).await;
    let names = ["localhost", "run%2Fprocpool.sock", "/run/procpool.sock", "/tmp/a b/procpool:1@[].sock"];
    for (nth, name) in (0..).zip(names) {
        let headers = frame(HEADERS, END_HEADERS, stream_of(nth), &call_fields_to(name, "/no.such.Service/Method"));
        wire.send(&headers).await.unwrap();
        let answer = loop {
            let received = within(wire.next_frame()).await.unwrap();
            if matches!(received.kind, HEADERS | RST_STREAM) && received.stream == stream_of(nth) {
                break received.kind;
            }
        };
        assert_eq!(answer, HEADERS, "{name:?}: the call is answered, and not reset");
    }
    // The connection is as good as before.
    wire.send(&frame(super::wire::PING, NONE, 0, b"all well")).await.unwrap();
    while within(wire.next_frame()).await.unwrap().payload != b"all well" {}
    drop(wire);
    server.stop().await;
}
