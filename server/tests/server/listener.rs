//! Connections: no more than the limit, none that is silent, none that outlives the server.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
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
async fn what_is_http2_and_no_grpc_is_told_so() {
    let server = TestServer::start().await;
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let uri = format!("http://{}/procpool.v1.PoolService/ListFunctions", server.address);
    let answer_to = async |method: Method, content_type: Option<&str>| {
        let mut request = Request::builder().method(method).uri(&uri);
        if let Some(content_type) = content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        let answer = within(client.request(request.body(Full::<Bytes>::from(&[0; 5][..])).unwrap())).await.unwrap();
        let (status, is_grpc) = (answer.status(), answer.headers()[CONTENT_TYPE] == "application/grpc");
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(!is_grpc, String::from_utf8_lossy(&body).contains("this port speaks gRPC"));
        status
    };
    assert_eq!(answer_to(Method::GET, Some("application/grpc")).await, StatusCode::METHOD_NOT_ALLOWED);
    for content_type in [None, Some("text/html"), Some("application/grpc-web")] {
        assert_eq!(answer_to(Method::POST, content_type).await, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    assert_eq!(answer_to(Method::POST, Some("application/grpc+proto")).await, StatusCode::OK);
    drop(client);
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

#[tokio::test]
async fn a_listener_that_nobody_connects_to_takes_no_connection() {
    let listen = vec![ListenAddress::Tcp(([127, 0, 0, 1], 0).into()); 2];
    let one = ServerConfig { max_connections: 1, listen, ..config() };
    let server = TestServer::start_with(one, Script::default()).await;
    // The last first: what was idle before took the permit.
    for address in server.addresses.iter().rev() {
        let ListenAddress::Tcp(address) = address else { unreachable!("both are TCP") };
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let mut client = PoolServiceClient::new(within(endpoint.connect()).await.unwrap());
        within(client.list_functions(ListFunctionsRequest {})).await.unwrap();
    }
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

async fn list_functions_at(path: &Path) -> bool {
    let endpoint = Endpoint::from_shared(format!("unix:{}", path.display())).unwrap();
    let Ok(channel) = endpoint.connect().await else { return false };
    PoolServiceClient::new(channel).list_functions(ListFunctionsRequest {}).await.is_ok()
}

#[tokio::test]
async fn a_unix_socket_works_and_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("procpool.sock");
    let listen = vec![ListenAddress::Unix(path.clone())];
    let server = TestServer::start_with(ServerConfig { listen, ..config() }, Script::default()).await;
    assert!(list_functions_at(&path).await);
    server.stop().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn a_socket_whose_file_is_removed_is_there_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("procpool.sock");
    let listen = vec![ListenAddress::Unix(path.clone())];
    let server = TestServer::start_with(ServerConfig { listen, ..config() }, Script::default()).await;
    assert!(list_functions_at(&path).await);
    std::fs::remove_file(&path).unwrap();
    let back = async {
        while !list_functions_at(&path).await {
            // A connection that is refused does not wait for anything.
            tokio::task::yield_now().await;
        }
    };
    within(back).await;
    server.stop().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn a_folder_that_is_missing_is_named_and_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing/procpool.sock");
    let pool = procpool_pool::PoolConfig::new(std::num::NonZeroU32::MIN);
    let spawner = std::sync::Arc::new(ScriptedSpawner::new(Script::default()));
    let listen = vec![ListenAddress::Unix(path.clone())];
    let pools = vec![NamedPool::new("default", pool, spawner)];
    let refused = App::bind(ServerConfig { listen, ..config() }, pools).await.unwrap_err().to_string();
    assert!(refused.contains(path.to_str().unwrap()) && refused.contains("there is no folder"), "{refused}");
    assert!(!path.parent().unwrap().exists());
}

#[tokio::test]
async fn a_peer_that_does_not_answer_does_not_delay_the_end() {
    let server = TestServer::start().await;
    let mut mute = TcpStream::connect(server.address).await.unwrap();
    let start = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(SETTINGS, 0, &[])[..]].concat();
    mute.write_all(&start).await.unwrap();
    // Its settings are acknowledged: it is no connection that is silent.
    within(mute.read_exact(&mut [0; 9])).await.unwrap();
    // The drain limit is further away than a test's patience.
    server.stop().await;
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
