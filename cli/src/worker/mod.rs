//! `procpool worker`: the workers that are in this program, and the check of any other.

mod builtin;
mod check;
mod exec;

use std::process::ExitCode;

pub(crate) use self::builtin::analysis_checksum;
pub(crate) use self::exec::guard as exec_guard;
use crate::args::{WorkerArgs, WorkerCommand};

/// Runs the worker that was asked for until its server is done with it, or the check.
pub(crate) fn run(args: WorkerArgs) -> ExitCode {
    match args.command {
        None => builtin::run(),
        Some(WorkerCommand::Exec(args)) => exec::run(args),
        Some(WorkerCommand::ExecGuard) => exec_guard::run(),
        Some(WorkerCommand::Check(args)) => check::run(&args),
    }
}
