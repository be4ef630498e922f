//! `procpool serve`

use std::convert::Infallible;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::anyhow;
use clap::Args;
use procpool_pool::supervisor::ProcessSpawner;
use procpool_server::{App, AppError, NamedPool, ServerConfig, Shutdown};

use crate::config::{Config, ConfigErrors, ServerSettings, SettingFlags};
use crate::exit::{Exit, Failure};
use crate::exit_with::OtherProcess;
use crate::open_files::OpenFiles;
use crate::print::OutputError;
use crate::watchdog::{NO_WATCHDOG, Watchdog};
use crate::{config, exit, logging, telemetry};

/// What tells a worker's clients which pool they are called from.
const POOL_VARIABLE: &str = "PROCPOOL_POOL";

#[derive(Debug, Args)]
#[command(after_help = format!("{SETTINGS_HELP}\n\n{}", exit::HELP))]
pub(crate) struct ServeArgs {
    /// A TOML file with settings; docs/configuration.md tells its form. It may also be named by `PROCPOOL_CONFIG`
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print the effective configuration as TOML, without the values of variables, and exit
    #[arg(long)]
    pub(crate) print_config: bool,
    /// End at once when the process with this id has ended, however that came; its workers are killed, and calls in
    /// progress fail
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) exit_with: Option<i32>,
    /// Write the lines `listening on ADDRESS` to this inherited file descriptor when the server listens, and close it, instead
    /// of writing them to stdout. If the server cannot start, it is closed without a line
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(3..))]
    pub(crate) ready_fd: Option<i32>,
    #[command(flatten)]
    pub(crate) settings: SettingFlags,
    /// The program that is a worker, such as `python -m procpool.worker FILE`. Default: the built-in worker
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

const SETTINGS_HELP: &str = "\
Settings come from flags, or else from variables of the environment, or else from the file:
--drain-timeout, PROCPOOL_DRAIN_TIMEOUT, drain_timeout. In a variable, commas separate the entries
of a list. The flags and variables of a pool are for servers with one pool only; a file with
several has their settings in [pools.NAME].

DURATION: a number and a unit (us, ms, s, min, h or d), such as 30s or 500ms
BYTES: a number of bytes, or a number and KiB, MiB or GiB, such as 64MiB";

impl From<AppError> for Failure {
    fn from(error: AppError) -> Self {
        let exit = if matches!(error, AppError::Config(_)) { Exit::BadInput } else { Exit::Failed };
        Self::new(exit, error)
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        Self::new(Exit::BadInput, errors)
    }
}

/// Runs a server until it is told to stop, and returns when every worker is gone.
pub(crate) async fn run(args: ServeArgs, mut ready: Box<dyn io::Write>) -> Result<Exit, Failure> {
    let ServeArgs { config: file, print_config, exit_with, ready_fd: _, settings, command } = args;
    let config = config::load(file.as_deref(), &settings, &command, &config::environment())?;
    if print_config {
        io::stdout().write_all(config::as_toml(&config).as_bytes()).map_err(OutputError::from)?;
        return Ok(Exit::Ok);
    }
    let ServerSettings { log_format, log_level, log_calls, .. } = config.server.settings;
    logging::start(log_format, log_level, log_calls);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "procpool starts");
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    keep_secrets();
    // Before anything is started: a signal from here on is a wish to stop in order.
    let (handle, shutdown) = Shutdown::on_signals().map_err(cannot_run)?;
    let followed = exit_with.map(OtherProcess::find).transpose()?;
    let files = OpenFiles::raise();
    let (pools, spawner) = pools(&config, files)?;
    let watchdog = watchdog(&spawner);
    if let Err(error) = spawner.adopt_orphans() {
        tracing::warn!(%error, "cannot adopt orphans: what workers leave behind may outlive them");
    }
    let mut server_config =
        ServerConfig { telemetry: telemetry::config(config::variable), ..config.server.settings.config };
    let num_workers = config.pools.iter().map(|(_, pool)| u64::from(pool.settings.config.processes.get())).sum();
    files.limit_connections(&mut server_config, num_workers);
    let app = App::bind(server_config, pools).await?;
    // Scripts wait for it. Ignores errors: nobody may read it.
    let _ = ready.write_all(addresses(&app).as_bytes());
    drop(ready);
    let count_restart = app.watchdog_counter();
    let keep_watchdog = async {
        match watchdog {
            Some(watchdog) => watchdog.keep(spawner.server_tag(), count_restart).await,
            None => std::future::pending().await,
        }
    };
    let follow = async {
        if let Some(process) = &followed {
            process.gone().await;
            tracing::warn!(pid = process.pid(), "the process of --exit-with has ended; stopping at once");
            handle.now();
        }
        std::future::pending::<Infallible>().await
    };
    let served = tokio::select! {
        served = app.serve(shutdown) => served,
        never = keep_watchdog => match never {},
        never = follow => match never {},
    };
    spawner.closed().await;
    served?;
    Ok(Exit::Ok)
}

/// Forbids processes of the same user, which workers are, to read this one's environment and memory, or to trace it. It has
/// no core dumps any more. What it starts is readable again as soon as it is its own program.
fn keep_secrets() {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "cannot hide this process: workers can read its environment");
    }
}

/// Starts the watchdog. Process 1 needs none: when it ends, the kernel kills all others.
fn watchdog(spawner: &ProcessSpawner) -> Option<Watchdog> {
    if rustix::process::getpid().is_init() {
        return None;
    }
    Watchdog::start(spawner.server_tag()).inspect_err(|error| tracing::warn!(%error, "{NO_WATCHDOG}")).ok()
}

/// Returns the pools, and the spawner that stands for those of all.
fn pools(config: &Config, files: OpenFiles) -> Result<(Vec<NamedPool>, Arc<ProcessSpawner>), Failure> {
    let max_message_bytes = config.server.settings.config.max_message_bytes;
    // Two servers may have pools of the same name.
    let server = fastrand::u64(..);
    let mut pools = Vec::new();
    let mut first: Option<Arc<ProcessSpawner>> = None;
    for (name, pool) in &config.pools {
        let settings = &pool.settings;
        let mut spawn_config = settings.spawn_config(config::environment(), max_message_bytes).map_err(cannot_run)?;
        spawn_config.soft_open_files = files.soft_limit;
        let caller_id = format!("{server:016x}/{name}");
        spawn_config.variables.push((POOL_VARIABLE.into(), caller_id.clone().into()));
        let spawner = match &first {
            Some(first) => Arc::new(first.another(spawn_config)),
            None => Arc::new(ProcessSpawner::new(spawn_config).map_err(cannot_run)?),
        };
        first.get_or_insert_with(|| Arc::clone(&spawner));
        pools.push(NamedPool { caller_id, ..NamedPool::new(name, settings.config.clone(), spawner) });
    }
    let first = first.ok_or_else(|| Failure::new(Exit::Failed, anyhow!("there is no pool")))?;
    Ok((pools, first))
}

pub(crate) fn cannot_run(error: io::Error) -> Failure {
    Failure::new(Exit::Failed, error)
}

/// Returns where the server listens, for scripts: a line for each address.
fn addresses(app: &App) -> String {
    let listening = app.local_addresses();
    let lines = listening.iter().map(|address| format!("listening on {}\n", config::show_address(address)));
    let admin = app.admin_address().map(|address| format!("admin on {address}\n"));
    lines.chain(admin).collect()
}
