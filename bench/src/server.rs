//! The server under test, and its workers: this same program, so that nothing else need be built.

use std::io::Write as _;
use std::num::NonZeroU32;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use procpool_pool::PoolConfig;
use procpool_pool::supervisor::{ProcessSpawner, SpawnConfig};
use procpool_proto::v1::ListFunctionsRequest;
use procpool_proto::v1::pool_service_client::PoolServiceClient;
use procpool_server::{App, ListenAddress, NamedPool, ServerConfig, Shutdown};
use procpool_worker::Worker;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tonic::transport::Channel;

/// How many workers it has.
pub(crate) const SLOTS: u32 = 4;

/// Runs a worker.
pub(crate) fn work() -> ExitCode {
    Worker::new()
        .function("sleep_ms", |milliseconds: u64| std::thread::sleep(Duration::from_millis(milliseconds)))
        .function("echo", |item: u64| item)
        .main()
}

/// Runs a server until it gets a signal.
pub(crate) async fn serve() -> Result<()> {
    let (_, shutdown) = Shutdown::on_signals()?;
    let program = std::env::current_exe()?;
    let mut config = SpawnConfig::new(program, Vec::new());
    config.args = vec!["worker".into()];
    let spawner = Arc::new(ProcessSpawner::new(config)?);
    let slots = NonZeroU32::new(SLOTS).expect("it is not 0");
    let pool = NamedPool::new("default", PoolConfig::new(slots), Arc::clone(&spawner) as _);
    let listen = vec![ListenAddress::Tcp(([127, 0, 0, 1], 0).into())];
    let app = App::bind(ServerConfig { listen, ..ServerConfig::default() }, vec![pool]).await?;
    writeln!(std::io::stdout(), "{}", app.local_addresses()[0])?;
    app.serve(shutdown).await?;
    spawner.closed().await;
    Ok(())
}

/// A server in a process of its own; killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
    address: String,
}

impl Server {
    /// Starts one and waits for its workers.
    pub(crate) async fn start() -> Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "the server is measured from outside")]
        let mut process = Command::new(std::env::current_exe()?)
            .arg("serve")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the server")?;
        let mut address = String::new();
        let stdout = process.stdout.take().context("it was asked for")?;
        BufReader::new(stdout).read_line(&mut address).await?;
        let server = Self { process, address: address.trim().to_owned() };
        let mut client = server.client().await?;
        for _ in 0..600 {
            let listed = client.list_functions(ListFunctionsRequest {}).await?.into_inner();
            if !listed.functions.is_empty() {
                return Ok(server);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("no worker became ready within a minute")
    }

    /// Returns where it listens.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Connects to it with the generated client.
    pub(crate) async fn client(&self) -> Result<PoolServiceClient<Channel>> {
        let channel = Channel::from_shared(self.address.clone())?.connect().await?;
        Ok(PoolServiceClient::new(channel).max_decoding_message_size(64 << 20).max_encoding_message_size(64 << 20))
    }

    /// Returns the bytes of memory that it has in use, its workers not included.
    pub(crate) fn memory(&self) -> Result<u64> {
        let pid = self.process.id().context("the server has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kilobytes << 10)
    }
}

/// Samples the memory of a server, and returns its largest growth.
pub(crate) async fn most_growth<T>(server: &Server, load: impl Future<Output = Result<T>>) -> Result<(T, u64)> {
    let before = server.memory()?;
    let mut most = before;
    let mut load = std::pin::pin!(load);
    let result = loop {
        tokio::select! {
            result = load.as_mut() => break result?,
            () = tokio::time::sleep(Duration::from_millis(100)) => most = most.max(server.memory()?),
        }
    };
    Ok((result, most.saturating_sub(before)))
}

/// Formats bytes for people.
pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{}.{} MiB", bytes >> 20, ((bytes & 0xf_ffff) * 10) >> 20)
}
