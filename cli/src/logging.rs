//! The log on stderr.

use std::fmt;
use std::io::{self, IsTerminal as _};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{DefaultFields, FmtSpan, Writer};

use crate::config::{self, LogCalls, LogFormat};
use crate::text::one_line;

/// The most verbose level of libraries. Prefixes: `h2` is also `h2::codec`.
const QUIET_LIBRARIES: &str =
    "h2=warn,hyper=warn,opentelemetry=warn,hyper_util=warn,tonic=warn,tower=warn,tokio_util=warn";

/// Where the lines of calls come from: at info if they failed, at debug if not.
const CALL_LINES: &str = "procpool_server::rpc::call_log";

/// Starts to log. Once per process.
pub(crate) fn start(format: LogFormat, level: LevelFilter, calls: LogCalls) {
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
        LogFormat::Text => builder.fmt_fields(EscapedFields).init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(true).with_span_list(false).init(),
    }
}

/// Writes message and fields on one line, whatever a worker or a client has said: the library escapes the message alone,
/// and not all that acts on a terminal.
struct EscapedFields;

impl<'writer> FormatFields<'writer> for EscapedFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut text = String::new();
        DefaultFields::new().format_fields(Writer::new(&mut text), fields)?;
        writer.write_str(&one_line(&text))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn a_log_line_is_one_line_that_does_nothing() {
        let log = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&log);
        let subscriber = tracing_subscriber::fmt()
            .fmt_fields(EscapedFields)
            .with_ansi(false)
            .without_time()
            .with_writer(move || Shared(Arc::clone(&writer)))
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(reason = %"\u{1b}[31mred\nINFO a lie\r\u{9b}", "worker \u{1b}[m exited");
        });
        let text = String::from_utf8(log.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text:?}");
        assert!(!text.trim_end().contains(char::is_control), "{text:?}");
        assert!(text.contains(r"reason=\u{1b}[31mred\nINFO a lie\r\u{9b}"), "{text:?}");
    }

    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
