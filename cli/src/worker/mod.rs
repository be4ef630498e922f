//! `procpool worker`: the workers that are in this program, and the check of any other.

mod builtin;
mod check;
mod exec;

use std::process::ExitCode;

use clap::{Args, Subcommand};

pub(crate) use self::builtin::analysis_checksum;
use self::check::CheckArgs;
use self::exec::ExecArgs;
pub(crate) use self::exec::watchdog as exec_watchdog;

/// Without a command: be the built-in worker, which a server starts as its child.
#[derive(Debug, Args)]
pub(crate) struct WorkerArgs {
    #[command(subcommand)]
    command: Option<WorkerCommand>,
}

#[derive(Debug, Subcommand)]
enum WorkerCommand {
    /// Be a worker that runs a command for each item; a server starts this as its child
    Exec(ExecArgs),
    /// Watch over an exec worker
    #[command(name = exec_watchdog::COMMAND, hide = true)]
    ExecWatchdog,
    /// Start a worker and check that it keeps the protocol
    Check(CheckArgs),
}

/// Runs the worker that was asked for until its server is done with it, or the check.
pub(crate) fn run(args: WorkerArgs) -> ExitCode {
    match args.command {
        None => builtin::run(),
        Some(WorkerCommand::Exec(args)) => exec::run(args),
        Some(WorkerCommand::ExecWatchdog) => exec_watchdog::run(),
        Some(WorkerCommand::Check(args)) => check::run(args),
    }
}
