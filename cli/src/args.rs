//! The command line as a whole. Each command has its own arguments, in its module.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, Parser, Subcommand};

use crate::admin::AdminCommand;
use crate::call::apply::ApplyArgs;
use crate::call::imap::ImapArgs;
use crate::call::map::MapArgs;
use crate::functions::FunctionsArgs;
use crate::health::HealthArgs;
use crate::serve::ServeArgs;
use crate::watchdog::WatchdogArgs;
use crate::worker::WorkerArgs;
use crate::{exit, input, watchdog};

/// Run functions over lists on a bounded pool of worker processes: Python's multiprocessing.Pool as a gRPC service.
#[derive(Debug, Parser)]
#[command(name = "procpool", version, max_term_width = 100, after_help = exit::HELP)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl CommandLine {
    /// Parses the words of the command line. Prints help and wrong usage, and ends the process with 0 and 2.
    pub(crate) fn of(words: impl IntoIterator<Item = OsString>) -> Self {
        let words = with_ranges_shielded(words);
        Self::try_parse_from(&words).unwrap_or_else(|error| without_dashes(&error, &words).unwrap_or(error).exit())
    }
}

/// Puts a space before ranges such as `-5..5`: they are items, and clap would take them for flags.
fn with_ranges_shielded(words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut is_behind_dashes = false;
    let shield = |word: OsString| {
        is_behind_dashes |= word == "--";
        match word.to_str() {
            Some(text) if !is_behind_dashes && text.starts_with('-') && input::is_range(text) => {
                format!(" {text}").into()
            }
            _ => word,
        }
    };
    words.into_iter().map(shield).collect()
}

/// Returns the error for a worker's command that does not stand behind `--`, if that is what is wrong.
fn without_dashes(error: &clap::Error, words: &[OsString]) -> Option<clap::Error> {
    let Some(ContextValue::String(unknown)) = error.get(ContextKind::InvalidArg) else { return None };
    let is_of_serve = words.get(1).is_some_and(|word| word == "serve");
    if !is_of_serve || error.kind() != ErrorKind::UnknownArgument || unknown.starts_with('-') {
        return None;
    }
    let (settings, command) = words.split_at(words.iter().position(|word| word == unknown.as_str())?);
    let text = |words: &[OsString]| words.join(" ".as_ref()).to_string_lossy().into_owned();
    let message = format!(
        "unexpected argument '{unknown}'; the command of a worker must follow --:\n\n  procpool {} -- {}",
        text(&settings[1..]),
        text(command)
    );
    let mut program = CommandLine::command();
    program.build();
    Some(program.find_subcommand_mut("serve")?.error(ErrorKind::UnknownArgument, message))
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a server with one or more pools of workers
    Serve(ServeArgs),
    /// Run a function over a list; print the results in order when all are there
    Map(MapArgs),
    /// Run a function over a list of argument lists; print the results in order when all are there
    Starmap(MapArgs),
    /// Run a function over a list or an endless stream; print each result as it comes
    Imap(ImapArgs),
    /// Run a function once and print its result
    Apply(ApplyArgs),
    /// List the functions that the workers registered
    Functions(FunctionsArgs),
    /// Tell whether the server takes calls
    Health(HealthArgs),
    #[command(flatten)]
    Admin(AdminCommand),
    /// Be a worker: the built-in one, or one that runs commands; or check a worker of your own
    Worker(WorkerArgs),
    /// Show what the pool does, on a server of its own
    #[command(after_help = exit::HELP)]
    Demo,
    /// Watch over a server
    #[command(name = watchdog::COMMAND, hide = true)]
    ServeWatchdog(WatchdogArgs),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn a_range_that_begins_below_zero_is_an_item() {
        let words = ["procpool", "map", "f", "-5..5", "-7", "--chunk-size", "2", "-3..-1"].map(OsString::from);
        let Command::Map(args) = CommandLine::of(words).command else { panic!("it is map") };
        assert_eq!(args.items.items, [" -5..5", "-7", " -3..-1"]);
        let words = ["procpool", "serve", "--", "seq", "-5..5"].map(OsString::from);
        let Command::Serve(args) = CommandLine::of(words).command else { panic!("it is serve") };
        assert_eq!(args.command, ["seq", "-5..5"], "what is behind -- is left alone");
    }
}
