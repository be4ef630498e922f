//! Every setting of `procpool serve`, once: its name, its field, its default, the meaning of 0 and what it is. Flags,
//! variables, the file, `--help`, `--print-config` and docs/configuration.md follow from these tables.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::LazyLock;

use procpool_pool::PoolConfig;
use procpool_pool::supervisor::{LimitedResource, MemoryLimits, SpawnConfig, WorkerOutput};
use procpool_server::{Operators, ServerConfig};
use tracing::level_filters::LevelFilter;

use super::environment;
use super::kinds::{
    Addresses, Count, Folder, MemorySize, MessageSize, Optional, OptionalCount, Positive, Program, Rlimits, Switch,
    TcpAddress, Texts, Time, Variables, Word,
};
use super::setting::Setting;

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
    pub(crate) allow_pickle: bool,
    pub(crate) worker_output: WorkerOutput,
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
            allow_pickle: false,
            worker_output: WorkerOutput::Log,
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
        spawn_config.allow_pickle = self.allow_pickle;
        spawn_config.output = self.worker_output;
        Ok(spawn_config)
    }
}

const OPERATORS: [(&str, Operators); 3] =
    [("local", Operators::Local), ("anyone", Operators::Anyone), ("nobody", Operators::Nobody)];
const LEVELS: [(&str, LevelFilter); 5] = [
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];
const LOG_CALLS: [(&str, LogCalls); 3] =
    [("none", LogCalls::None), ("failed", LogCalls::Failed), ("all", LogCalls::All)];

/// Makes a table of settings: the key of each, the field that keeps it, the kind of its value, perhaps what 0 means or its
/// default in words, and what it is. Of a number that does not say what 0 means, 0 is an error.
macro_rules! settings {
    ($of:ty { $(
        $key:ident: $($field:ident).+, $kind:expr $(, zero: $zero:literal)? $(, default: $default:literal)?, $about:literal;
    )* }) => {
        LazyLock::new(|| vec![$(
            Setting::<$of>::new(stringify!($key), $kind, |of| &mut of.$($field).+, $about)
                $(.zero_means($zero))?
                $(.default_is($default))?,
        )*])
    };
}

const WORKER_OUTPUT: [(&str, WorkerOutput); 2] = [("log", WorkerOutput::Log), ("inherit", WorkerOutput::Inherit)];

/// The settings of the server.
pub(crate) static SERVER: LazyLock<Vec<Setting<ServerSettings>>> = settings! { ServerSettings {
    listen: config.listen, Addresses,
        "Where to listen, IP:PORT, localhost:PORT or unix:PATH, whose folder must be there; may be several. Port 0: any free \
         port. The first lines on stdout tell the addresses: `listening on 127.0.0.1:50051`";
    admin_listen: config.admin_listen, TcpAddress, default: "nowhere",
        "Where to serve metrics and health in plain text, IP:PORT or localhost:PORT: /metrics, /healthz, /readyz, \
         grpc.health.v1. A line on stdout tells the address: `admin on 127.0.0.1:9090`";
    operators: config.operators, Word("WHO", &OPERATORS),
        "Who may look at workers and jobs, cancel jobs, resize, restart, dump and drain: local (callers on the loopback \
         interface, and on a Unix socket those of the server's user and root), anyone or nobody. Others get \
         PERMISSION_DENIED";
    drain_timeout: config.drain_timeout, Time, zero: "they are ended at once",
        "How long calls in progress may go on after SIGTERM or Ctrl-C";
    max_message_bytes: config.max_message_bytes, MessageSize,
        "The largest message, either way; at least 64KiB";
    max_request_bytes_in_flight: config.max_request_bytes_in_flight, MessageSize,
        "The most bytes of requests that are being received at a time, over all calls; at least max_message_bytes";
    max_connections: config.max_connections, Count("connections", u32::MAX),
        "The most connections at a time; more wait, and one that has had no call for keepalive_interval is asked to leave for \
         them. Fewer if the limit of open files leaves no more beside what workers need";
    max_concurrent_streams: config.max_concurrent_streams, Count("calls", u32::MAX),
        "The most calls at a time on one connection";
    max_calls: config.max_calls, Count("calls", u32::MAX),
        "The most calls at a time over all connections; more are refused with RESOURCE_EXHAUSTED. Health checks do not \
         count, and operators have 256 calls of their own";
    first_byte_timeout: config.first_byte_timeout, Time,
        "A new connection must speak HTTP/2 within this time";
    keepalive_interval: config.keepalive_interval, Time,
        "Ping a connection that has been quiet for this long";
    keepalive_timeout: config.keepalive_timeout, Time,
        "Close a connection that leaves a ping unanswered for this long";
    max_connection_age: config.max_connection_age, Optional(Time), zero: "never",
        "Ask a client to reconnect after this time, so that it may find another server; calls in progress go on";
    stream_stall_timeout: config.stream_stall_timeout, Time,
        "Give up a call whose reader has taken nothing for this long while there was something to take, and a call of \
         whose request nothing more has come for this long while it is not complete";
    degraded_timeout: config.degraded_timeout, Optional(Time), zero: "never",
        "End the server with exit code 4 when a pool has been unable to start any worker for this long, instead of trying \
         for ever";
    log_format: log_format, Word("FORMAT", &[("text", LogFormat::Text), ("json", LogFormat::Json)]),
        "The form of the log on stderr: text or json";
    log_level: log_level, Word("LEVEL", &LEVELS),
        "How much is logged: error, warn, info, debug or trace; what the workers print is info";
    log_calls: log_calls, Word("WHICH", &LOG_CALLS),
        "Which calls have a line in the log: none, failed (and cancelled) or all; 100 a second at most of those that failed. The \
         text of an exception is logged at the level debug only. A call that is refused before its request is complete \
         has no line, and is counted in procpool_calls_total";
} };

/// The settings of a pool.
pub(crate) static POOL: LazyLock<Vec<Setting<PoolSettings>>> = settings! { PoolSettings {
    command: command, Program, default: "the built-in worker",
        "The program that is a worker, and its arguments, such as `python -m procpool.worker FILE`";
    processes: config.processes, Positive(Count("workers", MAX_PROCESSES)), default: "as many CPUs as this process may use",
        "The number of workers";
    item_timeout: config.item_timeout, Optional(Time), zero: "no limit",
        "How long one item may run, if the call does not say";
    max_items_per_worker: config.max_items_per_worker, OptionalCount(Count("items", u32::MAX)), zero: "never",
        "Replace a worker that has run this many items";
    max_worker_age: config.max_worker_age, Optional(Time), zero: "never",
        "Replace a worker that is this old";
    idle_timeout: config.idle_timeout, Optional(Time), zero: "never",
        "Replace a worker that has been idle for this long";
    max_worker_memory: memory.soft_bytes, Optional(MemorySize), zero: "never",
        "Replace a worker that holds more memory than this, after its item";
    worker_memory_limit: memory.hard_bytes, Optional(MemorySize), zero: "no limit",
        "Kill a worker that holds more memory than this: its item fails with WORKER_OOM_KILLED; at least max_worker_memory";
    rlimits: rlimits, Rlimits, default: "core = 0",
        "What the kernel limits for each process of a worker: as, core, data, fsize (bytes) and nofile, such as `as=2GiB`";
    worker_start_timeout: config.worker_start_timeout, Time,
        "How long a worker may take from its start until it is ready";
    cancel_grace_period: config.cancel_grace_period, Time, zero: "SIGTERM at once",
        "How long a cancelled or timed-out item may go on by itself before its worker gets SIGTERM";
    kill_grace_period: config.kill_grace_period, Time, zero: "SIGKILL at once",
        "How long a worker may take to end after SIGTERM, before SIGKILL";
    crash_limit: config.crash_limit, Positive(Count("workers", u32::MAX)),
        "An item that kills this many workers is not tried again, whatever the call allows. If different items of a call do \
         so before one is finished, or its common argument does, the whole call fails with CRASH_LIMIT";
    max_queued_items: config.max_queued_items, Count("items", u32::MAX),
        "The most items queued or running at a time, over all calls; more are refused with RESOURCE_EXHAUSTED";
    max_queued_bytes: config.max_queued_bytes, MessageSize,
        "The most bytes of items held at a time, over all calls; more are refused with RESOURCE_EXHAUSTED";
    max_result_bytes: config.max_result_bytes, MessageSize,
        "The most bytes of results held at a time, over all calls: three quarters for those with one answer, of which the \
         largest fail beyond that, and a quarter for streams, which are held back";
    pass_environment: pass_environment, Texts, default: "none",
        "More variables of the server's environment that workers get; a * at the end stands for anything. PATH, HOME \
         and the like always pass";
    environment: environment, Variables, default: "none",
        "Variables that workers get, whatever the server's environment has; their values are never shown";
    working_directory: working_directory, Folder, default: "where the server was started",
        "The folder that workers are started in";
    oom_score_raise: oom_score_raise, Count("points of oom_score_adj", MAX_OOM_SCORE_RAISE), zero: "no sooner than the server",
        "How much sooner than the server the kernel should kill a worker when memory runs out; at most 1000";
    worker_output: worker_output, Word("WHERE", &WORKER_OUTPUT),
        "Where the lines go that workers print: log, or inherit (the server's own stdout and stderr, unchanged and all of them; \
         a worker waits if nobody reads them)";
    allow_pickle: allow_pickle, Switch,
        "Let clients send functions as pickles (procpool:map and the like): whoever can connect can then run any code as this \
         user. Only if all addresses are on the loopback interface or Unix sockets, and for one pool";
} };
