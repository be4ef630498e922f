//! procpool, the one binary: a server, its built-in worker, and a client.

mod admin;
mod args;
mod call;
mod config;
mod connect;
mod demo;
mod exit;
mod exit_with;
mod functions;
mod health;
mod input;
mod list_args;
mod logging;
mod open_files;
mod output;
mod print;
mod processes;
mod progress;
mod quantity;
mod ready;
mod selection;
mod serve;
mod signal;
mod telemetry;
mod text;
mod watchdog;
mod worker;

use std::process::ExitCode;

use tokio::runtime::{Builder, Runtime};

use self::args::{Command, CommandLine};
use self::exit::{Exit, Failure};

/// A client needs one thread for the connection; the main thread prints.
const CLIENT_THREADS: usize = 1;

fn main() -> ExitCode {
    let command = CommandLine::of(std::env::args_os()).command;
    let result = match command {
        // The worker's thread belongs to the functions; it has no runtime.
        Command::Worker(args) => return worker::run(args),
        Command::ServeWatchdog(args) => return watchdog::run(&args),
        Command::Serve(args) => {
            // Before the runtime has descriptors of its own.
            ready::target(args.ready_fd)
                .and_then(|ready| run(Builder::new_multi_thread().enable_all().build(), serve::run(args, ready)))
        }
        Command::Demo => run(Builder::new_multi_thread().enable_all().build(), demo::run()),
        Command::Map(args) => run_client(call::map::map(args)),
        Command::Starmap(args) => run_client(call::map::starmap(args)),
        Command::Imap(args) => run_client(call::imap::run(args)),
        Command::Apply(args) => run_client(call::apply::run(args)),
        Command::Functions(args) => run_client(functions::run(args)),
        Command::Admin(command) => run_client(admin::run(command)),
        Command::Health(args) => run_client(health::run(args)),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => failure.report().into(),
    }
}

fn run_client(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = Builder::new_multi_thread().worker_threads(CLIENT_THREADS).enable_all().build();
    run(runtime, signal::until_interrupted(command))
}

fn run(
    runtime: std::io::Result<Runtime>,
    command: impl Future<Output = Result<Exit, Failure>>,
) -> Result<Exit, Failure> {
    // On the heap: the future of a command is large.
    runtime.map_err(serve::cannot_run)?.block_on(Box::pin(command))
}
