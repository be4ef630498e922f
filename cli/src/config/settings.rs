//! Every setting of `procpool serve`, once: its name, its field, its default, the meaning of 0 and what it is. Flags,
//! variables, the file, `--help`, `--print-config` and docs/configuration.md follow from these tables.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::LazyLock;

use procpool_pool::PoolConfig;
use procpool_pool::supervisor::{LimitedResource, MemoryLimits, SpawnConfig};
use procpool_server::{Operators, ServerConfig};
use tracing::level_filters::LevelFilter;

use super::environment;
use super::kinds::{
    Addresses, Count, Folder, MemorySize, MessageSize, Optional, OptionalCount, Positive, Program, Rlimits, TcpAddress,
    Texts, Time, Variables, Word,
};
use super::setting::{Setting, setting, with_default, zeroable};

/// More workers than any machine has use for: a typing mistake should not start a million processes.
const MAX_PROCESSES: u32 = 4096;
/// The most that the kernel's `oom_score_adj` can be raised by.
const MAX_OOM_SCORE_RAISE: u32 = 1000;

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// Which calls have a line in the log.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum LogCalls {
    None,
    Failed,
    All,
}

/// The settings of the server as a whole.
#[derive(Debug, Clone)]
pub(crate) struct ServerSettings {
    pub(crate) config: ServerConfig,
    pub(crate) log_format: LogFormat,
    pub(crate) log_level: LevelFilter,
    pub(crate) log_calls: LogCalls,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            config: ServerConfig::default(),
            log_format: LogFormat::Text,
            log_level: LevelFilter::INFO,
            log_calls: LogCalls::Failed,
        }
    }
}

/// The settings of one pool.
#[derive(Debug, Clone)]
pub(crate) struct PoolSettings {
    /// Empty: the built-in worker.
    pub(crate) command: Vec<OsString>,
    pub(crate) config: PoolConfig,
    /// Beside those that always pass.
    pub(crate) pass_environment: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) working_directory: Option<PathBuf>,
    pub(crate) oom_score_raise: u32,
    pub(crate) memory: MemoryLimits,
    pub(crate) rlimits: Vec<(LimitedResource, u64)>,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            command: Vec::new(),
            config: PoolConfig::new(environment::available_cpus()),
            pass_environment: Vec::new(),
            environment: Vec::new(),
            working_directory: None,
            oom_score_raise: 500,
            memory: MemoryLimits::default(),
            rlimits: Vec::new(),
        }
    }
}

impl PoolSettings {
    /// Returns how to start a worker: the command, or else this program as the built-in worker. A frame must hold the
    /// end of one message, the beginning of the next, and what is between them.
    ///
    /// # Errors
    ///
    /// If the system does not tell which program this is.
    pub(crate) fn spawn_config(
        &self,
        environment: Vec<(OsString, OsString)>,
        max_message_bytes: u32,
    ) -> std::io::Result<SpawnConfig> {
        let mut spawn_config = match self.command.split_first() {
            Some((program, args)) => SpawnConfig { args: args.to_vec(), ..SpawnConfig::new(program, environment) },
            None => {
                SpawnConfig { args: vec!["worker".into()], ..SpawnConfig::new(environment::executable()?, environment) }
            }
        };
        let longest_chunk = max_message_bytes.saturating_mul(2).saturating_add(32 << 20);
        spawn_config.max_frame_bytes = spawn_config.max_frame_bytes.max(longest_chunk);
        spawn_config.passed_variables.extend(self.pass_environment.iter().cloned());
        let variables = self.environment.iter().map(|(name, value)| (name.into(), value.into()));
        spawn_config.variables = variables.collect();
        spawn_config.working_directory.clone_from(&self.working_directory);
        spawn_config.oom_score_raise = u16::try_from(self.oom_score_raise).unwrap_or(u16::MAX);
        spawn_config.memory = self.memory;
        spawn_config.rlimits.clone_from(&self.rlimits);
        Ok(spawn_config)
    }
}

/// The settings of the server.
pub(crate) static SERVER: LazyLock<Vec<Setting<ServerSettings>>> = LazyLock::new(|| {
    vec![
        setting(
            "listen",
            Addresses,
            |server| &mut server.config.listen,
            "Where to listen, IP:PORT, localhost:PORT or unix:PATH, whose folder must be there; may be several. Port 0: any free port. The first lines on stdout tell \
             the addresses: `listening on 127.0.0.1:50051`",
        ),
        with_default(
            "admin_listen",
            TcpAddress,
            |server| &mut server.config.admin_listen,
            "nowhere",
            "Where to serve metrics and health in plain text, IP:PORT or localhost:PORT: /metrics, /healthz, /readyz, \
             grpc.health.v1. A line on stdout tells the address: `admin on 127.0.0.1:9090`",
        ),
        setting(
            "operators",
            Word("WHO", &[("local", Operators::Local), ("anyone", Operators::Anyone), ("nobody", Operators::Nobody)]),
            |server| &mut server.config.operators,
            "Who may look at workers and jobs, cancel jobs, resize, restart, dump and drain: local (callers on the \
             loopback interface, and on a Unix socket those of the server's user and root), anyone or nobody. Others get \
             PERMISSION_DENIED",
        ),
        zeroable(
            "drain_timeout",
            Time,
            |server| &mut server.config.drain_timeout,
            "they are ended at once",
            "How long calls in progress may go on after SIGTERM or Ctrl-C",
        ),
        setting(
            "max_message_bytes",
            MessageSize,
            |server| &mut server.config.max_message_bytes,
            "The largest message, either way; at least 64KiB",
        ),
        setting(
            "max_request_bytes_in_flight",
            MessageSize,
            |server| &mut server.config.max_request_bytes_in_flight,
            "The most bytes of requests that are being received at a time, over all calls; at least max_message_bytes",
        ),
        setting(
            "max_connections",
            Count("connections", u32::MAX),
            |server| &mut server.config.max_connections,
            "The most connections at a time; more wait, and one that has had no call for keepalive_interval is asked to leave for \
             them. Fewer if the limit of open files leaves no more beside what workers need",
        ),
        setting(
            "max_concurrent_streams",
            Count("calls", u32::MAX),
            |server| &mut server.config.max_concurrent_streams,
            "The most calls at a time on one connection",
        ),
        setting(
            "max_calls",
            Count("calls", u32::MAX),
            |server| &mut server.config.max_calls,
            "The most calls at a time over all connections; more are refused with RESOURCE_EXHAUSTED. Health checks do not \
             count, and operators have 256 calls of their own",
        ),
        setting(
            "first_byte_timeout",
            Time,
            |server| &mut server.config.first_byte_timeout,
            "A new connection must speak HTTP/2 within this time",
        ),
        setting(
            "keepalive_interval",
            Time,
            |server| &mut server.config.keepalive_interval,
            "Ping a connection that has been quiet for this long",
        ),
        setting(
            "keepalive_timeout",
            Time,
            |server| &mut server.config.keepalive_timeout,
            "Close a connection that leaves a ping unanswered for this long",
        ),
        zeroable(
            "max_connection_age",
            Optional(Time),
            |server| &mut server.config.max_connection_age,
            "never",
            "Ask a client to reconnect after this time, so that it may find another server; calls in progress go on",
        ),
        setting(
            "stream_stall_timeout",
            Time,
            |server| &mut server.config.stream_stall_timeout,
            "Give up a call whose reader has taken nothing for this long while there was something to take, and a call of \
             whose request nothing more has come for this long while it is not complete",
        ),
        zeroable(
            "degraded_timeout",
            Optional(Time),
            |server| &mut server.config.degraded_timeout,
            "never",
            "End the server with exit code 4 when a pool has been unable to start any worker for this long, instead of trying \
             for ever",
        ),
        setting(
            "log_format",
            Word("FORMAT", &[("text", LogFormat::Text), ("json", LogFormat::Json)]),
            |server| &mut server.log_format,
            "The form of the log on stderr: text or json",
        ),
        setting(
            "log_level",
            Word(
                "LEVEL",
                &[
                    ("error", LevelFilter::ERROR),
                    ("warn", LevelFilter::WARN),
                    ("info", LevelFilter::INFO),
                    ("debug", LevelFilter::DEBUG),
                    ("trace", LevelFilter::TRACE),
                ],
            ),
            |server| &mut server.log_level,
            "How much is logged: error, warn, info, debug or trace; what the workers print is info",
        ),
        setting(
            "log_calls",
            Word("WHICH", &[("none", LogCalls::None), ("failed", LogCalls::Failed), ("all", LogCalls::All)]),
            |server| &mut server.log_calls,
            "Which calls have a line in the log: none, failed (and cancelled) or all; 100 a second at most of those that failed. The \
             text of an exception is logged at the level debug only. A call that is refused before its request is complete \
             has no line, and is counted in procpool_calls_total",
        ),
    ]
});

/// The settings of a pool.
pub(crate) static POOL: LazyLock<Vec<Setting<PoolSettings>>> = LazyLock::new(|| {
    vec![
        with_default(
            "command",
            Program,
            |pool| &mut pool.command,
            "the built-in worker",
            "The program that is a worker, and its arguments, such as `python -m procpool.worker FILE`",
        ),
        with_default(
            "processes",
            Positive(Count("workers", MAX_PROCESSES)),
            |pool| &mut pool.config.processes,
            "as many CPUs as this process may use",
            "The number of workers",
        ),
        zeroable(
            "item_timeout",
            Optional(Time),
            |pool| &mut pool.config.item_timeout,
            "no limit",
            "How long one item may run, if the call does not say",
        ),
        zeroable(
            "max_items_per_worker",
            OptionalCount(Count("items", u32::MAX)),
            |pool| &mut pool.config.max_items_per_worker,
            "never",
            "Replace a worker that has run this many items",
        ),
        zeroable(
            "max_worker_age",
            Optional(Time),
            |pool| &mut pool.config.max_worker_age,
            "never",
            "Replace a worker that is this old",
        ),
        zeroable(
            "idle_timeout",
            Optional(Time),
            |pool| &mut pool.config.idle_timeout,
            "never",
            "Replace a worker that has been idle for this long",
        ),
        zeroable(
            "max_worker_memory",
            Optional(MemorySize),
            |pool| &mut pool.memory.soft_bytes,
            "never",
            "Replace a worker that holds more memory than this, after its item",
        ),
        zeroable(
            "worker_memory_limit",
            Optional(MemorySize),
            |pool| &mut pool.memory.hard_bytes,
            "no limit",
            "Kill a worker that holds more memory than this: its item fails with WORKER_OOM_KILLED; at least max_worker_memory",
        ),
        with_default(
            "rlimits",
            Rlimits,
            |pool| &mut pool.rlimits,
            "core = 0",
            "What the kernel limits for each process of a worker: as, core, data, fsize (bytes) and nofile, such as `as=2GiB`",
        ),
        setting(
            "worker_start_timeout",
            Time,
            |pool| &mut pool.config.worker_start_timeout,
            "How long a worker may take from its start until it is ready",
        ),
        zeroable(
            "cancel_grace_period",
            Time,
            |pool| &mut pool.config.cancel_grace_period,
            "SIGTERM at once",
            "How long a cancelled or timed-out item may go on by itself before its worker gets SIGTERM",
        ),
        zeroable(
            "kill_grace_period",
            Time,
            |pool| &mut pool.config.kill_grace_period,
            "SIGKILL at once",
            "How long a worker may take to end after SIGTERM, before SIGKILL",
        ),
        setting(
            "crash_limit",
            Positive(Count("workers", u32::MAX)),
            |pool| &mut pool.config.crash_limit,
            "An item that kills this many workers is not tried again, whatever the call allows. If different items of a call do \
             so before one is finished, or its common argument does, the whole call fails with CRASH_LIMIT",
        ),
        setting(
            "max_queued_items",
            Count("items", u32::MAX),
            |pool| &mut pool.config.max_queued_items,
            "The most items queued or running at a time, over all calls; more are refused with RESOURCE_EXHAUSTED",
        ),
        setting(
            "max_queued_bytes",
            MessageSize,
            |pool| &mut pool.config.max_queued_bytes,
            "The most bytes of items held at a time, over all calls; more are refused with RESOURCE_EXHAUSTED",
        ),
        setting(
            "max_result_bytes",
            MessageSize,
            |pool| &mut pool.config.max_result_bytes,
            "The most bytes of results held at a time, over all calls: three quarters for those with one answer, of which the \
             largest fail beyond that, and a quarter for streams, which are held back",
        ),
        with_default(
            "pass_environment",
            Texts,
            |pool| &mut pool.pass_environment,
            "none",
            "More variables of the server's environment that workers get; a * at the end stands for anything. PATH, HOME \
             and the like always pass",
        ),
        with_default(
            "environment",
            Variables,
            |pool| &mut pool.environment,
            "none",
            "Variables that workers get, whatever the server's environment has; their values are never shown",
        ),
        with_default(
            "working_directory",
            Folder,
            |pool| &mut pool.working_directory,
            "where the server was started",
            "The folder that workers are started in",
        ),
        zeroable(
            "oom_score_raise",
            Count("points of oom_score_adj", MAX_OOM_SCORE_RAISE),
            |pool| &mut pool.oom_score_raise,
            "no sooner than the server",
            "How much sooner than the server the kernel should kill a worker when memory runs out; at most 1000",
        ),
    ]
});
