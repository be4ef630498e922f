//! The progress bar on stderr; nothing if stderr is no terminal.

use std::fmt;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::print::print_message;
use crate::text::one_line;

const BAR: &str = "{wide_bar:.cyan} {human_pos}/{human_len} items  {rate}  {eta} left";
const COUNTER: &str = "{spinner:.cyan} {human_pos} items  {rate}  {elapsed}";
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
        let style = ProgressStyle::with_template(template).expect("the template is well-formed");
        bar.set_style(style.with_key("rate", |state: &ProgressState, out: &mut dyn fmt::Write| {
            // A bar that cannot be written is not shown.
            let _ = out.write_str(&rate(state.per_sec()));
        }));
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

/// Returns a rate with no more digits than can be read while they change.
fn rate(items_per_second: f64) -> String {
    format!("{items_per_second:.*}/s", usize::from(items_per_second < 10.0))
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::rate;

    #[test]
    fn a_rate_has_two_digits_or_no_fraction() {
        assert_eq!([0.0, 0.123_4, 9.87, 12.345_6, 98_765.4].map(rate), ["0.0/s", "0.1/s", "9.9/s", "12/s", "98765/s"]);
    }
}
