//! The log on stderr.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::args::{LogCalls, LogFormat, LogLevel};
use crate::config;

/// Libraries log their own affairs below this level only. Prefixes: `h2` is also `h2::codec`.
const QUIET_LIBRARIES: &str =
    "h2=warn,hyper=warn,opentelemetry=warn,hyper_util=warn,tonic=warn,tower=warn,tokio_util=warn";

/// Where the lines of calls come from: at info if they failed, at debug if not.
const CALL_LINES: &str = "procpool_server::rpc::call_log";

/// Starts to log. Once per process.
pub(crate) fn start(format: LogFormat, level: LogLevel, calls: LogCalls) {
    let level = match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    let calls = match calls {
        LogCalls::None => format!(",{CALL_LINES}=warn"),
        LogCalls::Failed => String::new(),
        LogCalls::All => format!(",{CALL_LINES}=debug"),
    };
    let filter = EnvFilter::new(format!("{level},{QUIET_LIBRARIES}{calls}"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // It would tell of a log that cannot be written by `eprintln!`, which panics if stderr is where that was.
        .log_internal_errors(false)
        .with_span_events(FmtSpan::NONE)
        .with_ansi(io::stderr().is_terminal() && !config::no_color());
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(true).with_span_list(false).init(),
    }
}
