//! `procpool worker check`: the conformance kit as a command.

use std::io;
use std::process::ExitCode;

use procpool_conformance::{Options, check};
use procpool_pool::supervisor::SpawnConfig;

use crate::args::CheckArgs;
use crate::config;
use crate::exit::Exit;
use crate::output::print_stderr;

/// Runs all checks.
pub(crate) fn run(args: &CheckArgs) -> ExitCode {
    let environment = SpawnConfig::new(&args.command[0], config::environment()).worker_environment();
    let options = Options {
        command: args.command.clone(),
        environment,
        timeout: args.timeout,
        calls_examples: args.examples,
    };
    match check(&options, &mut io::stdout()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            print_stderr(&format!("procpool: the check cannot run: {error}\n"));
            Exit::Failed.into()
        }
    }
}
