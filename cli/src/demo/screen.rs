//! The output of the demo: colours, a progress bar, and the log lines of the workers.

use std::fmt::{self, Display};
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config;
use crate::text::one_line;

/// What the pool calls its log lines of what workers print.
const WORKER_OUTPUT: &str = "procpool::worker_output";

/// Stdout, with colours and a bar if it is a terminal.
#[derive(Debug, Clone)]
pub(super) struct Screen {
    bars: Arc<MultiProgress>,
    is_terminal: bool,
    has_colors: bool,
}

impl Screen {
    pub(super) fn new() -> Self {
        let is_terminal = io::stdout().is_terminal();
        let target = if is_terminal { ProgressDrawTarget::stdout() } else { ProgressDrawTarget::hidden() };
        let bars = Arc::new(MultiProgress::with_draw_target(target));
        Self { bars, is_terminal, has_colors: is_terminal && !config::no_color() }
    }

    /// Has the screen show what the workers print, and warnings. Once per process.
    pub(super) fn show_worker_output(&self) {
        let layer = ScreenLayer { screen: self.clone() };
        tracing_subscriber::registry().with(layer.with_filter(LevelFilter::INFO)).init();
    }

    pub(super) fn heading(&self, text: &str) {
        self.line(&format!("\n{}", self.paint("1", text)));
    }

    /// Shows a name and what there is to say about it, aligned.
    pub(super) fn fact(&self, name: &str, text: impl Display) {
        self.line(&format!("  {name:<16}{text}"));
    }

    /// Shows that something was checked and how it turned out.
    pub(super) fn check(&self, is_true: bool, text: &str) {
        let mark = if is_true { self.paint("32", "✓") } else { self.paint("31", "✗") };
        self.line(&format!("  {mark} {text}"));
    }

    pub(super) fn line(&self, text: &str) {
        // stdout may be closed.
        self.bars.suspend(|| {
            let _ = io::stdout().write_all(format!("{text}\n").as_bytes());
        });
    }

    pub(super) fn strong(&self, text: &str) -> String {
        self.paint("1;32", text)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.has_colors { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Adds a bar, which goes away when it is dropped.
    pub(super) fn bar(&self, length: u64) -> ProgressBar {
        let style = ProgressStyle::with_template("  {bar:40.cyan} {pos}/{len}  {elapsed}  {eta} left");
        let bar = ProgressBar::new(length).with_style(style.expect("the template is well-formed"));
        let bar = self.bars.add(bar.with_finish(ProgressFinish::AndClear));
        if self.is_terminal {
            bar.enable_steady_tick(std::time::Duration::from_millis(100));
        }
        bar
    }
}

/// Shows warnings and what workers print.
struct ScreenLayer {
    screen: Screen,
}

impl<S: Subscriber> Layer<S> for ScreenLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let is_output = metadata.target() == WORKER_OUTPUT;
        let is_warning = *metadata.level() <= Level::WARN && metadata.target().starts_with("procpool");
        if !is_output && !is_warning {
            return;
        }
        let mut line = LogLine::default();
        event.record(&mut line);
        let LogLine { text, pid, slot } = line;
        let text = one_line(&text);
        if is_output {
            let who = self.screen.paint("36", &format!("worker {} · pid {pid}", slot + 1));
            self.screen.line(&format!("  {who} │ {text}"));
        } else {
            self.screen.line(&format!("  {}", self.screen.paint("33", &text)));
        }
    }
}

/// What is shown of a log line.
#[derive(Default)]
struct LogLine {
    text: String,
    pid: u64,
    slot: u64,
}

impl Visit for LogLine {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.text = format!("{value:?}");
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "pid" => self.pid = value,
            "slot" => self.slot = value,
            _ => {}
        }
    }
}
