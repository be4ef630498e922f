//! The progress bar on stderr; nothing if stderr is no terminal.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::print::print_message;
use crate::text::one_line;

const BAR: &str = "{wide_bar:.cyan} {human_pos}/{human_len} items  {per_sec}  {eta} left";
const COUNTER: &str = "{spinner:.cyan} {human_pos} items  {per_sec}  {elapsed}";
const SPINNER: &str = "{spinner:.cyan} {msg}  {elapsed}";
const TICK_INTERVAL: Duration = Duration::from_millis(100);

/// The progress of a call.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    /// Results go to the same terminal.
    is_shared: bool,
}

impl Progress {
    /// Returns a bar for a stream of results; `num_items` is `None` if nobody knows.
    pub(crate) fn of_stream(num_items: Option<u64>, quiet: bool) -> Self {
        let template = if num_items.is_some() { BAR } else { COUNTER };
        Self::new(num_items, template, "", quiet)
    }

    /// Returns a spinner for a call that answers once.
    pub(crate) fn of_call(message: String, quiet: bool) -> Self {
        Self::new(None, SPINNER, message, quiet)
    }

    fn new(num_items: Option<u64>, template: &str, message: impl Into<String>, quiet: bool) -> Self {
        let is_visible = !quiet && io::stderr().is_terminal();
        let target = if is_visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(num_items, target);
        bar.set_style(ProgressStyle::with_template(template).expect("the template is well-formed"));
        bar.set_message(one_line(&message.into()).into_owned());
        if is_visible {
            bar.enable_steady_tick(TICK_INTERVAL);
        }
        Self { bar, is_shared: is_visible && io::stdout().is_terminal() }
    }

    /// Returns what prints messages beside the bar, at any time.
    pub(crate) fn notices(&self) -> Notices {
        Notices(self.bar.clone())
    }

    pub(crate) fn set(&self, num_items: u64) {
        self.bar.set_position(num_items);
    }

    /// Returns whether stdout is the terminal that the bar stands on.
    pub(crate) fn shares_terminal(&self) -> bool {
        self.is_shared
    }

    /// Takes the bar away while something is printed to its terminal.
    pub(crate) fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }
}

/// Prints messages to the terminal that a bar may stand on.
#[derive(Debug, Clone)]
pub(crate) struct Notices(ProgressBar);

impl Notices {
    pub(crate) fn print(&self, message: &str) {
        self.0.suspend(|| print_message(message));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
