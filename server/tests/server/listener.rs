//! Connections: no more than the limit, none that is silent, none that outlives the server.

use std::time::Duration;

use procpool_proto::v1::ListFunctionsRequest;
use procpool_proto::v1::pool_service_client::PoolServiceClient;
use procpool_server::{App, AppError, ListenAddress, NamedPool, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tonic::transport::Endpoint;

use crate::support::scripted::{Script, ScriptedSpawner};
use crate::support::{TestServer, config, within};

#[tokio::test]
async fn a_silent_connection_is_closed_in_time() {
    let first_byte_timeout = Duration::from_millis(200);
    let server = TestServer::start_with(ServerConfig { first_byte_timeout, ..config() }, Script::default()).await;
    for start in ["", "PRI * HTTP/2.0\r\n"] {
        let mut silent = TcpStream::connect(server.address).await.unwrap();
        silent.write_all(start.as_bytes()).await.unwrap();
        let connected_at = Instant::now();
        let mut answer = Vec::new();
        within(silent.read_to_end(&mut answer)).await.unwrap();
        assert!(connected_at.elapsed() >= Duration::from_millis(150), "{start:?}: {:?}", connected_at.elapsed());
    }
    server.stop().await;
}

#[tokio::test]
async fn a_silent_connection_does_not_delay_the_end() {
    let server = TestServer::start().await;
    let _silent = TcpStream::connect(server.address).await.unwrap();
    let mut half = TcpStream::connect(server.address).await.unwrap();
    half.write_all(b"PRI * HT").await.unwrap();
    // An answer means that the two before were accepted.
    server.client().await.list_functions(ListFunctionsRequest {}).await.unwrap();
    // The drain limit is further away than a test's patience.
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_http2_is_hung_up_on() {
    let server = TestServer::start().await;
    let mut browser = TcpStream::connect(server.address).await.unwrap();
    browser.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // A reset is a hang-up too.
    let _ = within(browser.read_to_end(&mut answer)).await;
    server.stop().await;
}

#[tokio::test]
async fn over_the_limit_a_connection_waits_until_another_ends() {
    let server = TestServer::start_with(ServerConfig { max_connections: 1, ..config() }, Script::default()).await;
    let mut first = server.client().await;
    first.list_functions(ListFunctionsRequest {}).await.unwrap();
    let mut second = server.client().await;
    let waiting =
        tokio_util::task::TaskTracker::new().spawn(async move { second.list_functions(ListFunctionsRequest {}).await });
    // The kernel has accepted the second, the server has not: the first is still answered, the second is not.
    first.list_functions(ListFunctionsRequest {}).await.unwrap();
    assert!(!waiting.is_finished());
    drop(first);
    within(waiting).await.unwrap().unwrap();
    server.stop().await;
}

/// The kinds of HTTP/2 frames that a client must know here.
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const ACK: u8 = 1;

/// Returns a frame of a connection, not of a stream.
fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, 0], payload].concat()
}

#[tokio::test]
async fn an_old_connection_is_asked_to_go_and_then_closed() {
    let max_connection_age = Some(Duration::from_millis(200));
    let server = TestServer::start_with(ServerConfig { max_connection_age, ..config() }, Script::default()).await;
    let mut old = TcpStream::connect(server.address).await.unwrap();
    old.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    old.write_all(&frame(SETTINGS, 0, &[])).await.unwrap();
    let mut num_go_aways = 0;
    let connected_at = Instant::now();
    let mut header = [0; 9];
    while within(old.read_exact(&mut header)).await.is_ok() {
        let mut payload = vec![0; usize::from(header[2])];
        within(old.read_exact(&mut payload)).await.unwrap();
        match (header[3], header[4]) {
            (PING, 0) => old.write_all(&frame(PING, ACK, &payload)).await.unwrap(),
            (GO_AWAY, _) => {
                num_go_aways += 1;
                assert_eq!(payload[4..8], [0; 4], "NO_ERROR");
            }
            _ => {}
        }
    }
    // The first announces it, so that no call that is on its way is lost.
    assert_eq!(num_go_aways, 2);
    assert!(connected_at.elapsed() >= Duration::from_millis(170), "{:?}", connected_at.elapsed());
    server.stop().await;
}

#[tokio::test]
async fn a_unix_socket_works_and_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run/procpool.sock");
    let listen = vec![ListenAddress::Unix(path.clone())];
    let server = TestServer::start_with(ServerConfig { listen, ..config() }, Script::default()).await;
    let endpoint = Endpoint::from_shared(format!("unix:{}", path.display())).unwrap();
    let mut client = PoolServiceClient::new(endpoint.connect().await.unwrap());
    client.list_functions(ListFunctionsRequest {}).await.unwrap();
    drop(client);
    server.stop().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let server = TestServer::start().await;
    let listen = vec![ListenAddress::Tcp(server.address)];
    let pool = procpool_pool::PoolConfig::new(std::num::NonZeroU32::MIN);
    let spawner = std::sync::Arc::new(ScriptedSpawner::new(Script::default()));
    let pools = vec![NamedPool::new("default", pool, spawner)];
    let refused = App::bind(ServerConfig { listen, ..config() }, pools).await.unwrap_err();
    assert!(matches!(refused, AppError::Bind { .. }), "{refused:?}");
    assert!(refused.to_string().contains(&server.address.to_string()), "{refused}");
    server.stop().await;
}
