//! What a worker process is started with. Plain data: nothing here reads the server's own environment.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// The variables that a worker inherits if nothing else is said: what programs need to find their files, their
/// language and their certificates, and nothing that could be a secret. A `*` at the end stands for anything.
pub const DEFAULT_PASSED_VARIABLES: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "TZ",
    "TMPDIR",
    "PYTHONPATH",
    "PYTHONHOME",
    "VIRTUAL_ENV",
    "LD_LIBRARY_PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
];

/// What tells a worker that it may register functions that unpickle what clients send.
const ALLOW_PICKLE_VARIABLE: &str = "PROCPOOL_ALLOW_PICKLE";

/// Numeric libraries start a thread per CPU of the host, in every worker, unless these say otherwise.
const SINGLE_THREAD_VARIABLES: [&str; 3] = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"];

/// How much memory a worker may hold, with all that it has started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryLimits {
    /// A worker that holds more bytes is replaced after its item. `None` (the default): never.
    pub soft_bytes: Option<u64>,
    /// A worker that holds more bytes is killed at once. `None` (the default): never.
    pub hard_bytes: Option<u64>,
}

impl MemoryLimits {
    /// Returns whether there is any.
    pub(super) fn exist(self) -> bool {
        self.soft_bytes.is_some() || self.hard_bytes.is_some()
    }
}

/// Where the lines go that workers write to stdout and stderr.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WorkerOutput {
    /// To the log, with the worker and the item that they are from, and at most so many a second.
    #[default]
    Log,
    /// To this process's own stdout and stderr, unchanged and all of them. A worker waits if nobody reads them.
    Inherit,
}

/// What the kernel limits for each process by itself: `setrlimit(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitedResource {
    /// The address space in bytes, `RLIMIT_AS`.
    AddressSpace,
    /// The size of a core dump in bytes, `RLIMIT_CORE`. 0 unless it is set.
    Core,
    /// Private writable memory in bytes, `RLIMIT_DATA`.
    Data,
    /// The size of a file that is written, in bytes, `RLIMIT_FSIZE`.
    FileSize,
    /// The number of open files, `RLIMIT_NOFILE`.
    OpenFiles,
}

/// How worker processes are started.
#[derive(Debug, Clone)]
pub struct SpawnConfig {
    /// The program; looked up in the worker's `PATH` if it has no slash.
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Where it is started. `None`: where the server was.
    pub working_directory: Option<PathBuf>,
    /// The server's environment, from which variables are passed on.
    pub server_environment: Vec<(OsString, OsString)>,
    /// The names of the variables that are passed on. A `*` at the end stands for anything.
    pub passed_variables: Vec<String>,
    /// More variables; they win over those that are passed on.
    pub variables: Vec<(OsString, OsString)>,
    /// The longest frame that either side may send, in bytes. Default 160 MiB.
    pub max_frame_bytes: u32,
    /// The size of the journal of finished results that the worker shares with us, in bytes. Default 64 KiB.
    pub journal_bytes: u32,
    /// How much sooner than the server the kernel should kill a worker when memory runs out, in the unit of
    /// `oom_score_adj`. Default 500.
    pub oom_score_raise: u16,
    /// How much memory a worker may hold.
    pub memory: MemoryLimits,
    /// What the kernel limits. What is higher than what this process may set itself is cut to that.
    pub rlimits: Vec<(LimitedResource, u64)>,
    /// The soft limit of open files, unless `rlimits` has one. `None` (the default): that of this process.
    pub soft_open_files: Option<u64>,
    /// Workers may register functions with [reserved names](crate::RESERVED_PREFIX), which run what clients send as
    /// pickles. Default false: a worker that does so is killed.
    pub allow_pickle: bool,
    /// Where the lines go that workers print.
    pub output: WorkerOutput,
}

impl SpawnConfig {
    /// Returns the default settings for a program. The environment is what [`DEFAULT_PASSED_VARIABLES`] lets through
    /// of `server_environment`.
    pub fn new(program: impl Into<OsString>, server_environment: Vec<(OsString, OsString)>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            working_directory: None,
            server_environment,
            passed_variables: DEFAULT_PASSED_VARIABLES.iter().map(ToString::to_string).collect(),
            variables: Vec::new(),
            max_frame_bytes: procpool_ipc::DEFAULT_MAX_FRAME_BYTES,
            journal_bytes: procpool_ipc::DEFAULT_JOURNAL_BYTES,
            oom_score_raise: 500,
            memory: MemoryLimits::default(),
            rlimits: Vec::new(),
            soft_open_files: None,
            allow_pickle: false,
            output: WorkerOutput::Log,
        }
    }

    /// Returns the variables that every worker gets, each name once.
    pub fn worker_environment(&self) -> Vec<(OsString, OsString)> {
        let mut environment = Vec::new();
        let passed = self.server_environment.iter().filter(|(name, _)| self.is_passed(name));
        for (name, value) in passed.chain(&self.variables) {
            set(&mut environment, name, value);
        }
        for name in SINGLE_THREAD_VARIABLES {
            if !environment.iter().any(|(existing, _)| existing == name) {
                set(&mut environment, OsStr::new(name), OsStr::new("1"));
            }
        }
        // Whatever else says so, this alone decides.
        environment.retain(|(name, _)| name != ALLOW_PICKLE_VARIABLE);
        if self.allow_pickle {
            environment.push((ALLOW_PICKLE_VARIABLE.into(), "1".into()));
        }
        environment
    }

    fn is_passed(&self, name: &OsStr) -> bool {
        let name = name.as_encoded_bytes();
        self.passed_variables.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix.as_bytes()),
            None => name == pattern.as_bytes(),
        })
    }
}

/// Sets a variable, replacing an earlier one of the same name.
pub(super) fn set(environment: &mut Vec<(OsString, OsString)>, name: &OsStr, value: &OsStr) {
    match environment.iter_mut().find(|(existing, _)| existing == name) {
        Some((_, existing)) => existing.clone_from(&value.to_owned()),
        None => environment.push((name.to_owned(), value.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        variables.iter().map(|&(name, value)| (name.into(), value.into())).collect()
    }

    #[test]
    fn only_listed_variables_pass_and_explicit_ones_win() {
        let server =
            environment(&[("PATH", "/bin"), ("LC_ALL", "C"), ("AWS_SECRET", "x"), ("LC", "no"), ("TZ", "UTC")]);
        let mut config = SpawnConfig::new("worker", server);
        config.variables = environment(&[("TZ", "CET"), ("MODEL", "large"), ("MKL_NUM_THREADS", "4")]);
        let expected = environment(&[
            ("PATH", "/bin"),
            ("LC_ALL", "C"),
            ("TZ", "CET"),
            ("MODEL", "large"),
            ("MKL_NUM_THREADS", "4"),
            ("OMP_NUM_THREADS", "1"),
            ("OPENBLAS_NUM_THREADS", "1"),
        ]);
        assert_eq!(config.worker_environment(), expected);
    }

    #[test]
    fn only_the_setting_tells_workers_that_pickles_are_allowed() {
        let mut config = SpawnConfig::new("worker", environment(&[("PROCPOOL_ALLOW_PICKLE", "1")]));
        config.passed_variables.push("PROCPOOL_*".to_owned());
        config.variables = environment(&[("PROCPOOL_ALLOW_PICKLE", "1")]);
        let told = |config: &SpawnConfig| {
            let variables = config.worker_environment().into_iter();
            variables.filter(|(name, _)| name == "PROCPOOL_ALLOW_PICKLE").collect::<Vec<_>>()
        };
        assert_eq!(told(&config), []);
        config.allow_pickle = true;
        assert_eq!(told(&config), environment(&[("PROCPOOL_ALLOW_PICKLE", "1")]));
    }
}
