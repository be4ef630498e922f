//! Every setting of `procpool serve`, once: its name, its field, its default, the meaning of 0 and what it is. Flags,
//! variables, the file, `--help`, `--print-config` and docs/configuration.md follow from these tables.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use procpool_pool::PoolConfig;
use procpool_server::{ListenAddress, ServerConfig};

use super::env;
use super::value::{Value, parse_listen_address, show_address, show_bytes, show_duration};
use crate::args::{LogFormat, LogLevel};

/// More workers than any machine has use for: a typing mistake should not start a million processes.
const MAX_PROCESSES: u32 = 4096;
/// The most that the kernel's `oom_score_adj` can be raised by.
const MAX_OOM_SCORE_RAISE: u32 = 1000;

/// What concerns the whole server.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServerSettings {
    pub(crate) config: ServerConfig,
    pub(crate) log_format: LogFormat,
    pub(crate) log_level: LogLevel,
}

/// What concerns one pool.
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
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            command: Vec::new(),
            config: PoolConfig::new(env::available_cpus()),
            pass_environment: Vec::new(),
            environment: Vec::new(),
            working_directory: None,
            oom_score_raise: 500,
        }
    }
}

/// One setting of `T`.
pub(crate) struct Setting<T: 'static> {
    /// Its name in the file. That of the flag and of the variable follow from it.
    pub(crate) key: &'static str,
    pub(crate) field: Field<T>,
    pub(crate) zero: Zero,
    /// The default, where the value says too little.
    pub(crate) default: Option<&'static str>,
    pub(crate) about: &'static str,
}

/// Where a setting is kept, and so what it can be.
pub(crate) enum Field<T: 'static> {
    Duration(fn(&mut T) -> &mut Duration),
    /// Off if 0.
    OptionalDuration(fn(&mut T) -> &mut Option<Duration>),
    Bytes(fn(&mut T) -> &mut u32),
    /// Of what, at most how many.
    Count(&'static str, u32, fn(&mut T) -> &mut u32),
    PositiveCount(&'static str, u32, fn(&mut T) -> &mut NonZeroU32),
    /// Off if 0.
    OptionalCount(&'static str, fn(&mut T) -> &mut Option<NonZeroU32>),
    Addresses(fn(&mut T) -> &mut Vec<ListenAddress>),
    OptionalAddress(fn(&mut T) -> &mut Option<SocketAddr>),
    Names(fn(&mut T) -> &mut Vec<String>),
    Command(fn(&mut T) -> &mut Vec<OsString>),
    /// Their values are secrets.
    Variables(fn(&mut T) -> &mut Vec<(String, String)>),
    Directory(fn(&mut T) -> &mut Option<PathBuf>),
    LogFormat(fn(&mut T) -> &mut LogFormat),
    LogLevel(fn(&mut T) -> &mut LogLevel),
}

/// What 0 means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Zero {
    Means(&'static str),
    /// It is an error.
    Error,
    /// It is no number.
    NoNumber,
}

const fn setting<T>(key: &'static str, field: Field<T>, zero: Zero, about: &'static str) -> Setting<T> {
    Setting { key, field, zero, default: None, about }
}

/// The settings of the server.
pub(crate) static SERVER: &[Setting<ServerSettings>] = &[
    setting(
        "listen",
        Field::Addresses(|server| &mut server.config.listen),
        Zero::NoNumber,
        "Where to listen, HOST:PORT or unix:PATH; may be several. Port 0: any free port. The first lines on stdout tell \
         the addresses: `listening on 127.0.0.1:50051`",
    ),
    Setting {
        default: Some("nowhere"),
        ..setting(
            "admin_listen",
            Field::OptionalAddress(|server| &mut server.config.admin_listen),
            Zero::NoNumber,
            "Where to serve metrics and health in plain text, IP:PORT: /metrics, /healthz, /readyz, grpc.health.v1. A line \
             on stdout tells the address: `admin on 127.0.0.1:9090`",
        )
    },
    setting(
        "drain_timeout",
        Field::Duration(|server| &mut server.config.drain_timeout),
        Zero::Means("they are ended at once"),
        "How long calls in progress may go on after SIGTERM or Ctrl-C",
    ),
    setting(
        "max_message_bytes",
        Field::Bytes(|server| &mut server.config.max_message_bytes),
        Zero::Error,
        "The largest message, either way; at least 64KiB",
    ),
    setting(
        "max_request_bytes_in_flight",
        Field::Bytes(|server| &mut server.config.max_request_bytes_in_flight),
        Zero::Error,
        "The most bytes of requests that are being received at a time, over all calls; at least max_message_bytes",
    ),
    setting(
        "max_connections",
        Field::Count("connections", u32::MAX, |server| &mut server.config.max_connections),
        Zero::Error,
        "The most connections at a time; more wait in the kernel",
    ),
    setting(
        "max_concurrent_streams",
        Field::Count("calls", u32::MAX, |server| &mut server.config.max_concurrent_streams),
        Zero::Error,
        "The most calls at a time on one connection",
    ),
    setting(
        "first_byte_timeout",
        Field::Duration(|server| &mut server.config.first_byte_timeout),
        Zero::Error,
        "A new connection must speak HTTP/2 within this time",
    ),
    setting(
        "keepalive_interval",
        Field::Duration(|server| &mut server.config.keepalive_interval),
        Zero::Error,
        "Ping a connection that has been quiet for this long",
    ),
    setting(
        "keepalive_timeout",
        Field::Duration(|server| &mut server.config.keepalive_timeout),
        Zero::Error,
        "Close a connection that leaves a ping unanswered for this long",
    ),
    setting(
        "max_connection_age",
        Field::OptionalDuration(|server| &mut server.config.max_connection_age),
        Zero::Means("never"),
        "Ask a client to connect anew after this time, so that it may find another server; calls in progress go on",
    ),
    setting(
        "stream_stall_timeout",
        Field::Duration(|server| &mut server.config.stream_stall_timeout),
        Zero::Error,
        "Give up a stream whose reader has taken nothing for this long while there was something to take",
    ),
    setting(
        "log_format",
        Field::LogFormat(|server| &mut server.log_format),
        Zero::NoNumber,
        "The form of the log on stderr: text or json",
    ),
    setting(
        "log_level",
        Field::LogLevel(|server| &mut server.log_level),
        Zero::NoNumber,
        "How much is logged: error, warn, info, debug or trace; what the workers print is info",
    ),
];

/// The settings of a pool.
pub(crate) static POOL: &[Setting<PoolSettings>] = &[
    Setting {
        default: Some("the built-in worker"),
        ..setting(
            "command",
            Field::Command(|pool| &mut pool.command),
            Zero::NoNumber,
            "The program that is a worker, and its arguments, such as `python -m procpool.worker FILE`",
        )
    },
    Setting {
        default: Some("as many CPUs as this process may use"),
        ..setting(
            "processes",
            Field::PositiveCount("workers", MAX_PROCESSES, |pool| &mut pool.config.processes),
            Zero::Error,
            "The number of workers",
        )
    },
    setting(
        "item_timeout",
        Field::OptionalDuration(|pool| &mut pool.config.item_timeout),
        Zero::Means("no limit"),
        "How long one item may run, if the call does not say",
    ),
    setting(
        "max_items_per_worker",
        Field::OptionalCount("items", |pool| &mut pool.config.max_items_per_worker),
        Zero::Means("never"),
        "Replace a worker that has run this many items",
    ),
    setting(
        "max_worker_age",
        Field::OptionalDuration(|pool| &mut pool.config.max_worker_age),
        Zero::Means("never"),
        "Replace a worker that is this old",
    ),
    setting(
        "idle_timeout",
        Field::OptionalDuration(|pool| &mut pool.config.idle_timeout),
        Zero::Means("never"),
        "Replace a worker that has been idle for this long",
    ),
    setting(
        "worker_start_timeout",
        Field::Duration(|pool| &mut pool.config.worker_start_timeout),
        Zero::Error,
        "How long a worker may take from its start until it is ready",
    ),
    setting(
        "cancel_grace_period",
        Field::Duration(|pool| &mut pool.config.cancel_grace_period),
        Zero::Means("SIGTERM at once"),
        "How long a cancelled or timed-out item may go on by itself before its worker gets SIGTERM",
    ),
    setting(
        "kill_grace_period",
        Field::Duration(|pool| &mut pool.config.kill_grace_period),
        Zero::Means("SIGKILL at once"),
        "How long a worker may take to end after SIGTERM, before SIGKILL",
    ),
    setting(
        "crash_limit",
        Field::PositiveCount("workers", u32::MAX, |pool| &mut pool.config.crash_limit),
        Zero::Error,
        "An item that kills this many workers is not tried again, whatever the call allows",
    ),
    setting(
        "max_queued_items",
        Field::Count("items", u32::MAX, |pool| &mut pool.config.max_queued_items),
        Zero::Error,
        "The most items queued or running at a time, over all calls; more are refused with RESOURCE_EXHAUSTED",
    ),
    setting(
        "max_queued_bytes",
        Field::Bytes(|pool| &mut pool.config.max_queued_bytes),
        Zero::Error,
        "The most bytes of items held at a time, over all calls; more are refused with RESOURCE_EXHAUSTED",
    ),
    Setting {
        default: Some("none"),
        ..setting(
            "pass_environment",
            Field::Names(|pool| &mut pool.pass_environment),
            Zero::NoNumber,
            "More variables of the server's environment that workers get; a * at the end stands for anything. PATH, HOME \
             and the like always pass",
        )
    },
    Setting {
        default: Some("none"),
        ..setting(
            "environment",
            Field::Variables(|pool| &mut pool.environment),
            Zero::NoNumber,
            "Variables that workers get, whatever the server's environment has; their values are never shown",
        )
    },
    Setting {
        default: Some("where the server was started"),
        ..setting(
            "working_directory",
            Field::Directory(|pool| &mut pool.working_directory),
            Zero::NoNumber,
            "The folder that workers are started in",
        )
    },
    setting(
        "oom_score_raise",
        Field::Count("points of oom_score_adj", MAX_OOM_SCORE_RAISE, |pool| &mut pool.oom_score_raise),
        Zero::Means("no sooner than the server"),
        "How much sooner than the server the kernel should kill a worker when memory runs out; at most 1000",
    ),
];

impl<T: Clone + Default> Setting<T> {
    /// Returns the name of the flag, without the dashes.
    pub(crate) fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// Returns the name of the environment variable; `None` for what does not fit into one.
    pub(crate) fn variable(&self) -> Option<String> {
        let fits = !matches!(self.field, Field::Command(_) | Field::Variables(_));
        fits.then(|| format!("PROCPOOL_{}", self.key.to_ascii_uppercase()))
    }

    pub(crate) fn is_list(&self) -> bool {
        matches!(self.field, Field::Addresses(_) | Field::Names(_) | Field::Command(_) | Field::Variables(_))
    }

    /// Returns what the value is called in `--help`.
    pub(crate) fn value_name(&self) -> &'static str {
        match self.field {
            Field::Duration(_) | Field::OptionalDuration(_) => "DURATION",
            Field::Bytes(_) => "BYTES",
            Field::Count(..) | Field::PositiveCount(..) | Field::OptionalCount(..) => "N",
            Field::Addresses(_) | Field::OptionalAddress(_) => "ADDRESS",
            Field::Names(_) => "NAME",
            Field::Command(_) => "COMMAND",
            Field::Variables(_) => "NAME=VALUE",
            Field::Directory(_) => "DIRECTORY",
            Field::LogFormat(_) => "FORMAT",
            Field::LogLevel(_) => "LEVEL",
        }
    }

    pub(crate) fn unit(&self) -> &'static str {
        match self.field {
            Field::Duration(_) | Field::OptionalDuration(_) => "duration",
            Field::Bytes(_) => "bytes",
            Field::Count(unit, ..) | Field::PositiveCount(unit, ..) | Field::OptionalCount(unit, _) => unit,
            Field::Addresses(_) => "list of addresses",
            Field::OptionalAddress(_) => "address",
            Field::Names(_) => "list of names",
            Field::Command(_) => "list of texts",
            Field::Variables(_) => "table of texts",
            Field::Directory(_) => "path",
            Field::LogFormat(_) | Field::LogLevel(_) => "word",
        }
    }

    /// Returns the default in words.
    pub(crate) fn default_text(&self) -> String {
        match (self.default, &self.field, self.zero) {
            (Some(words), ..) => words.to_owned(),
            (None, Field::OptionalDuration(get), Zero::Means(off)) if get(&mut T::default()).is_none() => {
                off.to_owned()
            }
            (None, Field::OptionalCount(_, get), Zero::Means(off)) if get(&mut T::default()).is_none() => {
                off.to_owned()
            }
            _ => match self.show(&T::default()) {
                Some(Shown::Text(text)) => text,
                Some(Shown::Number(number)) => number.to_string(),
                Some(Shown::List(list)) => list.join(", "),
                Some(Shown::Redacted(_)) | None => String::new(),
            },
        }
    }

    /// Returns the meaning of 0 in words; empty for what is no number.
    pub(crate) fn zero_text(&self) -> &'static str {
        match self.zero {
            Zero::Means(meaning) => meaning,
            Zero::Error => "an error",
            Zero::NoNumber => "",
        }
    }

    /// Sets it.
    ///
    /// # Errors
    ///
    /// What is wrong with the value, and what would be right.
    pub(crate) fn set(&self, target: &mut T, value: &Value) -> Result<(), String> {
        match &self.field {
            Field::Duration(field) => *field(target) = self.checked(value.as_duration()?)?,
            Field::OptionalDuration(field) => {
                *field(target) = Some(self.checked(value.as_duration()?)?).filter(|duration| !duration.is_zero());
            }
            Field::Bytes(field) => *field(target) = self.checked(value.as_bytes()?)?,
            Field::Count(_, most, field) => *field(target) = at_most(self.checked(value.as_count()?)?, *most)?,
            Field::PositiveCount(_, most, field) => {
                let count = NonZeroU32::new(at_most(value.as_count()?, *most)?);
                *field(target) = count.ok_or("must be more than 0")?;
            }
            Field::OptionalCount(_, field) => *field(target) = NonZeroU32::new(value.as_count()?),
            Field::Addresses(field) => {
                let list = value.as_list()?;
                *field(target) = list.iter().map(|text| parse_listen_address(text)).collect::<Result<_, _>>()?;
            }
            Field::OptionalAddress(field) => {
                let address = value.as_text()?.parse();
                *field(target) = Some(address.map_err(|_| "not an address: use IP:PORT".to_owned())?);
            }
            Field::Names(field) => *field(target) = value.as_list()?,
            Field::Command(field) => match value {
                Value::Text(_) => return Err(r#"must be a list of texts, such as ["python", "worker.py"]"#.to_owned()),
                other => *field(target) = other.as_list()?.into_iter().map(OsString::from).collect(),
            },
            Field::Variables(field) => *field(target) = value.as_variables()?,
            Field::Directory(field) => match value.as_text()? {
                "" => return Err("must not be empty".to_owned()),
                path => *field(target) = Some(PathBuf::from(path)),
            },
            Field::LogFormat(field) => *field(target) = choice(value)?,
            Field::LogLevel(field) => *field(target) = choice(value)?,
        }
        Ok(())
    }

    fn checked<V: Default + PartialEq>(&self, value: V) -> Result<V, String> {
        if self.zero == Zero::Error && value == V::default() {
            Err("must be more than 0".to_owned())
        } else {
            Ok(value)
        }
    }

    /// Returns it as the file would have it; `None` if it is not set.
    pub(crate) fn show(&self, target: &T) -> Option<Shown> {
        let mut target = target.clone();
        let target = &mut target;
        Some(match &self.field {
            Field::Duration(field) => Shown::Text(show_duration(*field(target))),
            Field::OptionalDuration(field) => Shown::Text(show_duration(field(target).unwrap_or_default())),
            Field::Bytes(field) => match show_bytes((*field(target)).into()) {
                text if text.bytes().all(|byte| byte.is_ascii_digit()) => Shown::Number(*field(target)),
                text => Shown::Text(text),
            },
            Field::Count(_, _, field) => Shown::Number(*field(target)),
            Field::PositiveCount(_, _, field) => Shown::Number(field(target).get()),
            Field::OptionalCount(_, field) => Shown::Number(field(target).map_or(0, NonZeroU32::get)),
            Field::Addresses(field) => Shown::List(field(target).iter().map(show_address).collect()),
            Field::OptionalAddress(field) => Shown::Text(field(target).as_ref()?.to_string()),
            Field::Names(field) => Shown::List(field(target).clone()),
            Field::Command(field) => {
                Shown::List(field(target).iter().map(|word| word.to_string_lossy().into_owned()).collect())
            }
            Field::Variables(field) => Shown::Redacted(field(target).iter().map(|(name, _)| name.clone()).collect()),
            Field::Directory(field) => Shown::Text(field(target).as_ref()?.display().to_string()),
            Field::LogFormat(field) => Shown::Text(word(field(target))),
            Field::LogLevel(field) => Shown::Text(word(field(target))),
        })
    }
}

/// A value, to be shown.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    Text(String),
    Number(u32),
    List(Vec<String>),
    /// The names of variables whose values are nobody's business.
    Redacted(Vec<String>),
}

fn at_most(count: u32, most: u32) -> Result<u32, String> {
    if count > most { Err(format!("{count} is too many: at most {most}")) } else { Ok(count) }
}

fn choice<V: ValueEnum>(value: &Value) -> Result<V, String> {
    let text = value.as_text()?;
    V::from_str(text, false).map_err(|_| {
        let words: Vec<String> = V::value_variants().iter().map(|variant| word(variant)).collect();
        format!("{text:?} is none of {}", words.join(", "))
    })
}

fn word<V: ValueEnum>(value: &V) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
