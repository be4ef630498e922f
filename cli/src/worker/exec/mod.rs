//! `procpool worker exec`: a worker whose functions are commands, for programs without an SDK.
//!
//! `template` is the command line, `item` what goes in and comes out, `process` one run of it, and `watchdog` sees to it
//! that no command outlives the worker. `docs/exec.md` tells the rules.

mod item;
#[cfg(test)]
mod item_tests;
mod process;
mod template;
pub(crate) mod watchdog;

use std::io::{self, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitCode};
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;
use procpool_worker::{Failure, Function, Input, Worker, current};

use self::item::CommandInput;
use self::process::{CancelEvent, Finished, KillReason};
use self::template::Template;
use self::watchdog::GroupWatchdog;
use crate::config;

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct ExecArgs {
    /// A function and the command that it runs; may be given more than once
    #[arg(long = "function", value_name = "NAME=COMMAND", required = true, value_parser = parse_function)]
    functions: Vec<ExecFunction>,
}

const HELP: &str = "\
A command is split into words as a shell does, and runs without a shell. Each {} takes the next argument of the call, or \
{1} the first, {2} the second and so on; a string is passed bare, anything else as JSON. Without {}, the item is on \
stdin. What the command prints is the result: JSON if it is JSON, else a string. Any exit code but 0 fails the item.

  procpool serve -- procpool worker exec --function 'count=wc -c' --function 'add=expr {} + {}'";

/// A function of an exec worker.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ExecFunction {
    name: String,
    command: String,
}

/// What the functions of a worker share.
struct Shared {
    watchdog: Mutex<GroupWatchdog>,
    cancel_event: CancelEvent,
}

/// Runs the worker until its server is done with it.
pub(crate) fn run(args: ExecArgs) -> ExitCode {
    match worker(args.functions) {
        Ok(worker) => worker.main(),
        Err(error) => {
            // Without stderr there is nobody to tell.
            let _ = writeln!(io::stderr(), "procpool: {error}");
            ExitCode::from(2)
        }
    }
}

fn worker(functions: Vec<ExecFunction>) -> Result<Worker, String> {
    let mut templates: Vec<(ExecFunction, Template)> = Vec::new();
    for function in functions {
        let problem = |problem: String| format!("--function {}: {problem}", function.name);
        let template = Template::parse(&function.command).map_err(problem)?;
        if !config::has_program(template.program()) {
            return Err(problem(format!("there is no program {:?}", template.program())));
        }
        if templates.iter().any(|(other, _)| other.name == function.name) {
            return Err(problem("there are two of this name".to_owned()));
        }
        templates.push((function, template));
    }
    let cannot_start = |error: io::Error| format!("cannot start the watchdog process: {error}");
    let watchdog = Mutex::new(GroupWatchdog::start().map_err(cannot_start)?);
    let shared = Arc::new(Shared { watchdog, cancel_event: CancelEvent::new().map_err(cannot_start)? });
    let mut worker = Worker::new().on_cancel({
        let shared = shared.clone();
        move || shared.cancel_event.set()
    });
    for (function, template) in templates {
        let shared = shared.clone();
        let doc = format!("Runs the command: {}", function.command);
        let signature = signature(template.num_arguments());
        let dynamic = Function::dynamic(function.name, move |input, buffer| call(&template, &shared, &input, buffer));
        worker = worker.register(dynamic.doc(doc).signature(signature));
    }
    Ok(worker)
}

fn parse_function(text: &str) -> Result<ExecFunction, String> {
    let (name, command) = text.split_once('=').ok_or("it is NAME=COMMAND, such as 'count=wc -c'")?;
    if name.is_empty() || name.len() > 256 || name.contains(char::is_control) {
        return Err(format!("{name:?} is no name for a function: 1 to 256 bytes without control characters are"));
    }
    Ok(ExecFunction { name: name.to_owned(), command: command.to_owned() })
}

fn signature(num_arguments: usize) -> String {
    match num_arguments {
        0 => "(stdin)".to_owned(),
        1 => "(argument)".to_owned(),
        count => {
            let names: Vec<String> = (1..=count).map(|number| format!("argument{number}")).collect();
            format!("({})", names.join(", "))
        }
    }
}

/// Runs the command for one item.
fn call(template: &Template, shared: &Shared, input: &Input<'_>, buffer: &mut Vec<u8>) -> Result<(), Failure> {
    let payload = item::decode(input, template.num_arguments())?;
    let (command, stdin) = match &payload {
        CommandInput::Arguments(arguments) => (command(template, arguments), None),
        CommandInput::Stdin(stdin) => (command(template, &[]), Some(stdin.as_slice())),
        CommandInput::CommonAndStdin(common, stdin) => (command(template, common), Some(stdin.as_slice())),
    };
    let mut watchdog = shared.watchdog.lock().unwrap_or_else(PoisonError::into_inner);
    let finished = process::run(command, stdin, input.max_result_bytes, &shared.cancel_event, &mut watchdog);
    let finished = finished.map_err(|error| not_started(template.program(), &error))?;
    if let Some(failure) = failure(&finished, input.max_result_bytes) {
        return Err(failure);
    }
    item::encode(input.encoding, &finished.stdout, buffer)
}

#[expect(clippy::disallowed_methods, reason = "a worker that runs commands is what starts processes here")]
fn command(template: &Template, arguments: &[Vec<u8>]) -> Command {
    let mut command = Command::new(template.program());
    command.args(template.fill(arguments));
    // The channel is this worker's.
    command.env_remove("PROCPOOL_FD").env_remove("PROCPOOL_SOCKET");
    // The convention of OpenTelemetry for the trace that a process is to continue.
    let (traceparent, tracestate) = current().map(|item| (item.traceparent, item.tracestate)).unwrap_or_default();
    for (name, value) in [("TRACEPARENT", traceparent), ("TRACESTATE", tracestate)] {
        if value.is_empty() {
            command.env_remove(name);
        } else {
            command.env(name, value);
        }
    }
    command
}

fn not_started(program: &str, error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::ArgumentListTooLong {
        return Failure::invalid_item("it is too long for an argument of a command; stdin takes more");
    }
    Failure::raised_as("NotStarted", format!("the command {program:?} could not be run: {error}"), "")
}

/// Returns why the command gave no result, if it gave none.
fn failure(finished: &Finished, max_result_bytes: usize) -> Option<Failure> {
    let stderr = String::from_utf8_lossy(&finished.stderr_tail).into_owned();
    match finished.killed {
        Some(KillReason::TooMuchOutput) => {
            let problem = format!("the command printed more than the {max_result_bytes} bytes that a frame holds");
            return Some(Failure::not_encodable(problem));
        }
        Some(KillReason::Cancelled) => {
            let message = "the command was killed: nobody waits for it any more";
            return Some(Failure::raised_as("Cancelled", message, stderr));
        }
        None if finished.status.success() => return None,
        None => {}
    }
    let (type_name, ended) = match (finished.status.code(), finished.status.signal()) {
        (Some(code), _) => (format!("ExitCode({code})"), format!("the command ended with exit code {code}")),
        (None, signal) => {
            let signal = signal.unwrap_or_default();
            (format!("Signal({signal})"), format!("the command was ended by signal {signal}"))
        }
    };
    let last_words = stderr.lines().rev().map(str::trim).find(|line| !line.is_empty());
    let message = last_words.map_or(ended, str::to_owned);
    Some(Failure::raised_as(type_name, message, stderr))
}
