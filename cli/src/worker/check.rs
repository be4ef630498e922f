//! `procpool worker check`: the conformance kit as a command.

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use procpool_conformance::{Options, check};
use procpool_pool::supervisor::SpawnConfig;

use crate::exit::Exit;
use crate::print::print_stderr;
use crate::{config, quantity};

const HELP: &str = "\
The worker is started some thirty times. Its function `echo`, which returns its argument, is called; without one, every \
function with an example is, with that. Functions `fail`, `sleep_ms`, `echo_bytes` and `pair` add a few checks.

Exit codes:
    0  no check failed
    1  a check failed
    2  wrong usage";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct CheckArgs {
    /// How long to wait for what a worker must do; ten times as long for its start
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = quantity::duration)]
    timeout: Duration,
    /// Call every function with its example once, too, to see whether it leaves processes behind. The SDK for Python makes
    /// examples up where the function has none
    #[arg(long)]
    examples: bool,
    /// The worker, as it stands behind `procpool serve --`
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs all checks.
pub(crate) fn run(args: CheckArgs) -> ExitCode {
    let environment = SpawnConfig::new(&args.command[0], config::environment()).worker_environment();
    let CheckArgs { command, timeout, examples: calls_examples } = args;
    match check(&Options { command, environment, timeout, calls_examples }, &mut io::stdout()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            print_stderr(&format!("procpool: the check cannot run: {error}\n"));
            Exit::Failed.into()
        }
    }
}
