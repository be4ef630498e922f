//! The command line. What the commands do is the business of their modules.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use procpool_pool::supervisor::ServerTag;

use crate::config::SettingFlags;
use crate::list_args::{ListArgs, OutputArgs};
use crate::worker::exec_guard;
use crate::{duration, exit, guard, input};

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
        "unexpected argument '{unknown}'; the command of a worker stands behind --:\n\n  procpool {} -- {}",
        text(&settings[1..]),
        text(command)
    );
    Some(CommandLine::command().error(ErrorKind::UnknownArgument, message))
}

/// Parses a number that is not 0.
fn parse_positive(text: &str) -> Result<NonZeroU32, String> {
    let number: u32 = text.parse().map_err(|_| format!("it is no whole number from 1 to {}", u32::MAX))?;
    NonZeroU32::new(number).ok_or_else(|| "it must be at least 1".to_owned())
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
    /// Show the pool and its workers
    Workers(WorkersArgs),
    /// Set the number of workers of a running server
    Resize(ResizeArgs),
    /// Replace every worker, one at a time and without a failed call, so that they pick up new code
    Restart(RestartArgs),
    /// Have a server take nothing new, finish what it has, and end
    Drain(DrainArgs),
    /// Be a worker: the built-in one, or one that runs commands; or check a worker of your own
    Worker(WorkerArgs),
    /// Show what the pool does, on a server of its own
    #[command(after_help = exit::HELP)]
    Demo,
    /// Watch over a server
    #[command(name = guard::COMMAND, hide = true)]
    ServeGuard(GuardArgs),
}

#[derive(Debug, Args)]
#[command(after_help = format!("{SETTINGS_HELP}\n\n{}", exit::HELP))]
pub(crate) struct ServeArgs {
    /// A TOML file with settings; docs/configuration.md tells its form. It may also be named by `PROCPOOL_CONFIG`
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print the effective configuration as TOML, without the values of variables, and exit
    #[arg(long)]
    pub(crate) print_config: bool,
    #[command(flatten)]
    pub(crate) settings: SettingFlags,
    /// The program that is a worker, such as `python -m procpool.worker FILE`. Default: the built-in worker
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

const SETTINGS_HELP: &str = "\
Settings come from flags, or else from variables of the environment, or else from the file:
--drain-timeout, PROCPOOL_DRAIN_TIMEOUT, drain_timeout. In a variable, commas separate the entries
of a list. The flags and variables of a pool are for servers with one pool only; a file with
several has their settings in [pools.NAME].

DURATION: a number and a unit (us, ms, s, min, h or d), such as 30s or 500ms
BYTES: a number of bytes, or a number and KiB, MiB or GiB, such as 64MiB";

/// Without a command: be the built-in worker, which a server starts as its child.
#[derive(Debug, Args)]
pub(crate) struct WorkerArgs {
    #[command(subcommand)]
    pub(crate) command: Option<WorkerCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WorkerCommand {
    /// Be a worker that runs a command for each item; a server starts this as its child
    Exec(ExecArgs),
    /// Watch over an exec worker
    #[command(name = exec_guard::COMMAND, hide = true)]
    ExecGuard,
    /// Start a worker and check that it keeps the protocol
    Check(CheckArgs),
}

#[derive(Debug, Args)]
pub(crate) struct GuardArgs {
    /// What the descendants of the server's workers are known by
    pub(crate) server: ServerTag,
    /// Be the guard, instead of starting it
    #[arg(long)]
    pub(crate) stay: bool,
}

#[derive(Debug, Args)]
#[command(after_help = EXEC_HELP)]
pub(crate) struct ExecArgs {
    /// A function and the command that it runs; may be given more than once
    #[arg(long = "function", value_name = "NAME=COMMAND", required = true, value_parser = parse_exec_function)]
    pub(crate) functions: Vec<ExecFunction>,
}

const EXEC_HELP: &str = "\
A command is split into words as a shell does, and runs without a shell. Each {} takes the next argument of the call, or \
{1} the first, {2} the second and so on; a string is passed bare, anything else as JSON. Without {}, the item is on \
stdin. What the command prints is the result: JSON if it is JSON, else a string. Any exit code but 0 fails the item.

  procpool serve -- procpool worker exec --function 'count=wc -c' --function 'add=expr {} + {}'";

/// A function of an exec worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExecFunction {
    pub(crate) name: String,
    pub(crate) command: String,
}

const CHECK_HELP: &str = "\
The worker is started some thirty times. Its function `echo`, which returns its argument, is called; without one, every \
function with an example is, with that. Functions `fail`, `sleep_ms`, `echo_bytes` and `pair` add a few checks.

Exit codes:
    0  no check failed
    1  a check failed
    2  wrong usage";

#[derive(Debug, Args)]
#[command(after_help = CHECK_HELP)]
pub(crate) struct CheckArgs {
    /// How long to wait for what a worker must do; ten times as long for its start
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration::parse)]
    pub(crate) timeout: Duration,
    /// Call every function with its example once, too, to see whether it leaves processes behind. The SDK for Python makes
    /// examples up where the function has none
    #[arg(long)]
    pub(crate) examples: bool,
    /// The worker, as it stands behind `procpool serve --`
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// The server to call.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// The server: http://HOST:PORT, HOST:PORT or unix:PATH
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "PROCPOOL_SERVER",
        hide_env_values = true,
        default_value = "http://127.0.0.1:50051"
    )]
    pub(crate) server: String,
    /// The longest time for the call as a whole. Default: no limit
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub(crate) timeout: Option<Duration>,
}

/// How a call is run.
#[derive(Debug, Args)]
pub(crate) struct CallArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// How long one item may run, from its start. Default: the server's limit
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub(crate) item_timeout: Option<Duration>,
    /// How often an item may be executed in all when its worker dies or its time runs out. Default: once, or 3 times for an
    /// idempotent function
    #[arg(long, value_name = "N", value_parser = parse_positive)]
    pub(crate) max_attempts: Option<NonZeroU32>,
    /// The share of the pool beside other calls, -8 to 8: each step up doubles it
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-8..=8))]
    pub(crate) priority: Option<i32>,
    /// Send items as the JSON text that they are, which keeps integers beyond 2^53 exact. How large one may be is for the
    /// workers to say: in Python as large as you like
    #[arg(long)]
    pub(crate) json: bool,
    /// Give up when the server refuses the call, instead of trying again up to three times when it says
    #[arg(long)]
    pub(crate) no_retry: bool,
}

/// What to run over which items.
#[derive(Debug, Args)]
pub(crate) struct ItemsArgs {
    /// The name of the function; `procpool functions` lists them
    pub(crate) function: String,
    /// The items: JSON values, ranges of integers (`1..10` is 1 to 10), `@FILE` or `-` for a file or stdin with one
    /// JSON value a line. Default: stdin
    #[arg(value_name = "ITEM", allow_negative_numbers = true)]
    pub(crate) items: Vec<String>,
    /// A file of items, one JSON value a line; they come after those of the arguments
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Vec<PathBuf>,
    /// An argument that all items share, passed before the item: a JSON value, or `@FILE` for a file that holds one
    #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
    pub(crate) common: Option<String>,
    /// Items handed to a worker at a time. Default: chosen from the measured run time
    #[arg(long, value_name = "N", value_parser = parse_positive)]
    pub(crate) chunk_size: Option<NonZeroU32>,
    /// What to do when an item fails: `fail` ends the call, `collect` tells of it and goes on. Default: `fail` for map and
    /// starmap that print values alone, else `collect`
    #[arg(long, value_enum, value_name = "WHAT", hide_possible_values = true)]
    pub(crate) on_error: Option<OnError>,
    #[command(flatten)]
    pub(crate) list: ListArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnError {
    Fail,
    Collect,
}

#[derive(Debug, Args)]
#[command(after_help = exit::HELP)]
pub(crate) struct MapArgs {
    #[command(flatten)]
    pub(crate) items: ItemsArgs,
    #[command(flatten)]
    pub(crate) call: CallArgs,
}

#[derive(Debug, Args)]
#[command(after_help = exit::HELP)]
pub(crate) struct ImapArgs {
    #[command(flatten)]
    pub(crate) items: ItemsArgs,
    #[command(flatten)]
    pub(crate) call: CallArgs,
    /// Print results as they finish instead of in the order of the items
    #[arg(long)]
    pub(crate) unordered: bool,
    /// Each item is a list, the arguments of one call
    #[arg(long)]
    pub(crate) star: bool,
    /// How many items the pool may run ahead of the reader. Default: enough to keep it busy
    #[arg(long, value_name = "N", value_parser = parse_positive)]
    pub(crate) window: Option<NonZeroU32>,
}

#[derive(Debug, Args)]
#[command(after_help = exit::HELP)]
pub(crate) struct ApplyArgs {
    /// The name of the function; `procpool functions` lists them
    pub(crate) function: String,
    /// The arguments, JSON values
    #[arg(value_name = "ARGUMENT", allow_negative_numbers = true)]
    pub(crate) arguments: Vec<String>,
    /// A keyword argument, for functions in a language that has them
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) kwarg: Vec<String>,
    /// A file whose bytes are an argument, for functions that take bytes; `-` is stdin. May be given more than once. What
    /// the function returns, bytes too, is written to stdout just as it is
    #[arg(long, value_name = "FILE", conflicts_with_all = ["arguments", "json"])]
    pub(crate) blob: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) call: CallArgs,
}

#[derive(Debug, Args)]
#[command(after_help = exit::HELP)]
pub(crate) struct FunctionsArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// How to print them: `text`, or `json` for one object a line
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub(crate) output: AnswerFormat,
    /// The same as `--output json`
    #[arg(long, conflicts_with = "output")]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = exit::HELP)]
pub(crate) struct HealthArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// One pool of a server.
#[derive(Debug, Args)]
pub(crate) struct PoolArgs {
    /// The pool, if the server has several; `procpool functions` shows them
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub(crate) pool: String,
}

#[derive(Debug, Args)]
#[command(after_help = exit::HELP, args_conflicts_with_subcommands = true)]
pub(crate) struct WorkersArgs {
    #[command(subcommand)]
    pub(crate) command: Option<WorkersCommand>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) pool: PoolArgs,
    /// How to print it
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub(crate) output: WorkersOutput,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WorkersCommand {
    /// Show where a worker is at this moment: the stacks of its threads. It goes on undisturbed
    Dump(DumpArgs),
}

#[derive(Debug, Args)]
#[command(after_help = exit::HELP)]
pub(crate) struct DumpArgs {
    /// The worker, as `procpool workers` names it in the first column
    #[arg(value_name = "ID")]
    pub(crate) worker: u64,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) pool: PoolArgs,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum WorkersOutput {
    #[default]
    Table,
    Json,
}

/// How an answer is printed: as a sentence, or as one JSON object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum AnswerFormat {
    #[default]
    Text,
    Json,
}

#[derive(Debug, Args)]
#[command(after_help = exit::HELP)]
pub(crate) struct ResizeArgs {
    /// The number of workers, up to 4096
    #[arg(value_name = "N", value_parser = parse_positive)]
    pub(crate) slots: NonZeroU32,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) pool: PoolArgs,
    /// How to print the answer
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub(crate) output: AnswerFormat,
}

const RESTART_HELP: &str = "\
A worker is replaced between items, when its item is done, and while every other slot has a worker that is up. When the \
time is over the restart goes on; the error tells how many workers are left, and why the last new one did not start. \
With `--output text`, workers that become ready or do not are told on stderr meanwhile.";

#[derive(Debug, Args)]
#[command(
    after_help = format!("{RESTART_HELP}\n\n{}", exit::HELP),
    mut_arg("timeout", |arg| arg.default_value("5min").help("How long to wait for the new workers"))
)]
pub(crate) struct RestartArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// The pool. Default: all
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub(crate) pool: String,
    /// How to print the answer
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub(crate) output: AnswerFormat,
}

#[derive(Debug, Args)]
#[command(after_help = exit::HELP)]
pub(crate) struct DrainArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// How to print the answer
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub(crate) output: AnswerFormat,
}

fn parse_exec_function(text: &str) -> Result<ExecFunction, String> {
    let (name, command) = text.split_once('=').ok_or("it is NAME=COMMAND, such as 'count=wc -c'")?;
    if name.is_empty() || name.len() > 256 || name.contains(char::is_control) {
        return Err(format!("{name:?} is no name for a function: 1 to 256 bytes without control characters are"));
    }
    Ok(ExecFunction { name: name.to_owned(), command: command.to_owned() })
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
