//! A server that runs out of file descriptors neither spins nor stays deaf.

#[cfg(test)]
#[path = "server/support/mod.rs"]
#[expect(dead_code, reason = "this test is a program of its own and uses a part of this")]
mod support;

use std::fs::File;
use std::time::Duration;

use procpool_proto::v1::ListFunctionsRequest;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use support::{TestServer, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long the server is left without.
const FAMINE: Duration = Duration::from_secs(1);

fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).expect("it starts at 0")
}

#[tokio::test]
async fn without_file_descriptors_the_server_waits_and_recovers() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    client.list_functions(ListFunctionsRequest {}).await.unwrap();

    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(100), maximum: limit.maximum }).unwrap();
    let mut fillers: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    assert!(fillers.len() < 100, "{}", fillers.len());
    // This one takes the last; the server has none to accept it with.
    fillers.pop();
    let mut late = TcpStream::connect(server.address).await.unwrap();
    late.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();

    let before = cpu_time();
    tokio::time::sleep(FAMINE).await;
    let spent = cpu_time().saturating_sub(before);
    assert!(spent < FAMINE / 4, "the server spent {spent:?} on accepting nothing");
    // Who is connected is served.
    client.list_functions(ListFunctionsRequest {}).await.unwrap();

    fillers.clear();
    let mut answer = [0; 9];
    within(late.read_exact(&mut answer)).await.unwrap();
    assert_eq!(answer[3], 4, "the first frame of an HTTP/2 server is its settings");
    drop((client, late));
    server.stop().await;
}
