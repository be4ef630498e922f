//! What the tests of the server share: a server on a free port, and workers that do as they are told.

pub(crate) mod collector;
pub(crate) mod details;
pub(crate) mod scripted;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use procpool_items::{ItemKind, ItemSlab, SlabBuilder};
use procpool_pool::PoolConfig;
use procpool_proto::v1::pool_service_client::PoolServiceClient;
use procpool_server::{App, AppError, ListenAddress, NamedPool, ServerConfig, Shutdown, ShutdownHandle};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tonic::transport::Channel;

use self::scripted::{Script, ScriptedSpawner};

/// Longer than anything may take; a test that waits this long has failed.
/// Shorter than the default drain limit, so that whatever waits for that limit is noticed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A server that runs until it is told to stop.
pub(crate) struct TestServer {
    pub(crate) addresses: Vec<ListenAddress>,
    pub(crate) address: SocketAddr,
    pub(crate) admin_address: Option<SocketAddr>,
    pub(crate) shutdown: ShutdownHandle,
    pub(crate) served: JoinHandle<Result<(), AppError>>,
    pub(crate) script: Script,
}

/// Returns the settings of a server on a free port.
pub(crate) fn config() -> ServerConfig {
    ServerConfig { listen: vec![ListenAddress::Tcp(([127, 0, 0, 1], 0).into())], ..ServerConfig::default() }
}

impl TestServer {
    /// Starts a server with two scripted workers.
    pub(crate) async fn start() -> Self {
        Self::start_with(config(), Script::default()).await
    }

    pub(crate) async fn start_with(config: ServerConfig, script: Script) -> Self {
        Self::start_pools(config, &[("default", script)]).await
    }

    /// Starts a server with a pool of two scripted workers for each script.
    pub(crate) async fn start_pools(config: ServerConfig, scripts: &[(&str, Script)]) -> Self {
        let pools = scripts.iter().map(|(name, script)| {
            let spawner = Arc::new(ScriptedSpawner::new(script.clone()));
            NamedPool::new(*name, PoolConfig::new(NonZeroU32::new(2).unwrap()), spawner)
        });
        let mut server = Self::start_named(config, pools.collect()).await;
        server.script = scripts[0].1.clone();
        server
    }

    /// Starts a server with these pools.
    pub(crate) async fn start_named(config: ServerConfig, pools: Vec<NamedPool>) -> Self {
        let app = App::bind(config, pools).await.unwrap();
        let script = Script::default();
        let addresses = app.local_addresses();
        let address = match &addresses[0] {
            ListenAddress::Tcp(address) => *address,
            ListenAddress::Unix(_) => ([0, 0, 0, 0], 0).into(),
        };
        let admin_address = app.admin_address();
        let (shutdown_handle, shutdown) = Shutdown::with_handle();
        let served = TaskTracker::new().spawn(app.serve(shutdown));
        Self { addresses, address, admin_address, shutdown: shutdown_handle, served, script }
    }

    /// Connects to it.
    pub(crate) async fn client(&self) -> PoolServiceClient<Channel> {
        PoolServiceClient::new(self.channel().await).max_decoding_message_size(usize::MAX)
    }

    pub(crate) async fn channel(&self) -> Channel {
        let endpoint = Channel::from_shared(format!("http://{}", self.address)).unwrap();
        endpoint.connect().await.unwrap()
    }

    /// Gets a page of the admin port; returns the status line and the rest.
    pub(crate) async fn get(&self, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.admin_address.unwrap()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        within(stream.read_to_string(&mut answer)).await.unwrap();
        let (status, rest) = answer.split_once("\r\n").unwrap();
        (status.to_owned(), rest.to_owned())
    }

    /// Drains it and waits for its end.
    pub(crate) async fn stop(self) {
        self.shutdown.drain();
        self.ended().await;
    }

    /// Waits for its end.
    pub(crate) async fn ended(self) {
        within(self.served).await.unwrap().unwrap();
    }
}

/// Waits, but not for ever.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("this should have come by now")
}

/// Encodes blobs as a list.
pub(crate) fn blobs<B: AsRef<[u8]>>(contents: impl IntoIterator<Item = B>) -> Bytes {
    let mut builder = SlabBuilder::new();
    for content in contents {
        builder.push(content.as_ref());
    }
    builder.take()
}

/// Returns the contents of an encoded list.
pub(crate) fn contents(kind: ItemKind, list: &Bytes) -> Vec<Bytes> {
    let slab = ItemSlab::parse(kind, list.clone()).unwrap();
    (0..slab.len()).map(|index| slab.item(index)).collect()
}

/// Encodes numbers as a list of values.
pub(crate) fn numbers(numbers: impl IntoIterator<Item = u32>) -> Bytes {
    let mut builder = SlabBuilder::new();
    for number in numbers {
        let mut value = vec![0x11];
        value.extend(f64::from(number).to_le_bytes());
        builder.push(&value);
    }
    builder.take()
}
