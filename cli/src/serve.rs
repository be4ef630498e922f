//! `procpool serve`

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::sync::Arc;

use procpool_pool::PoolConfig;
use procpool_pool::supervisor::{ProcessSpawner, SpawnConfig};
use procpool_server::{App, AppError, ListenAddress, ServerConfig, Shutdown};

use crate::args::ServeArgs;
use crate::exit::{Exit, Failure};
use crate::{config, logging, telemetry};

impl From<AppError> for Failure {
    fn from(error: AppError) -> Self {
        let exit = if matches!(error, AppError::Config(_)) { Exit::BadInput } else { Exit::Failed };
        Self::new(exit, error)
    }
}

/// Runs a server until it is told to stop, and returns when every worker is gone.
pub(crate) async fn run(args: ServeArgs) -> Result<Exit, Failure> {
    logging::start(args.log_format, args.log_level);
    // Before anything is started: a signal from here on is a wish to stop in order.
    let shutdown = Shutdown::on_signals().map_err(cannot_run)?;
    let spawner = Arc::new(ProcessSpawner::new(spawn_config(args.command)?).map_err(cannot_run)?);
    if let Err(error) = spawner.adopt_orphans() {
        tracing::warn!(%error, "cannot adopt orphans: what workers leave behind may outlive them");
    }
    let mut pool_config = PoolConfig::new(args.processes.unwrap_or_else(config::available_cpus));
    pool_config.item_timeout = args.item_timeout;
    pool_config.max_items_per_worker = args.max_items_per_worker;
    let server_config = ServerConfig {
        listen: args.listen,
        admin_listen: args.admin_listen,
        telemetry: telemetry::config(config::variable),
        drain_timeout: args.drain_timeout,
        ..ServerConfig::default()
    };

    let app = App::bind(server_config, pool_config, spawner.clone()).await?;
    announce(&app.local_addresses());
    if let Some(address) = app.admin_address() {
        let _ = io::stdout().write_all(format!("admin on {address}\n").as_bytes());
    }
    let served = app.serve(shutdown).await;
    spawner.closed().await;
    served?;
    Ok(Exit::Ok)
}

/// Returns how to start a worker: the command, or else this program as the built-in worker.
pub(crate) fn spawn_config(command: Vec<OsString>) -> Result<SpawnConfig, Failure> {
    let mut command = command.into_iter();
    let (program, args) = match command.next() {
        Some(program) => (program, command.collect()),
        None => (config::executable().map_err(cannot_run)?.into(), vec!["worker".into()]),
    };
    let mut spawn_config = SpawnConfig::new(program, config::environment());
    spawn_config.args = args;
    Ok(spawn_config)
}

pub(crate) fn cannot_run(error: io::Error) -> Failure {
    Failure::new(Exit::Failed, error)
}

/// Tells scripts where the server listens: one line on stdout for each address. That nobody may read it is no reason
/// to stop.
fn announce(addresses: &[ListenAddress]) {
    let lines = addresses.iter().map(|address| match address {
        ListenAddress::Tcp(address) => format!("listening on {address}\n"),
        ListenAddress::Unix(path) => format!("listening on unix:{}\n", path.display()),
    });
    let _ = io::stdout().write_all(lines.collect::<String>().as_bytes());
}
