//! Starting the binary, and a server of it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;

/// Nothing here takes so long, not even on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Returns a command of the binary, without what the environment of the tests may say.
#[expect(clippy::disallowed_methods, reason = "tests start processes")]
pub(crate) fn procpool(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_procpool"));
    command.args(args).env_remove("PROCPOOL_SERVER").env("NO_COLOR", "1");
    command
}

/// Returns a command of the binary that is run after this line of a shell.
#[expect(clippy::disallowed_methods, reason = "tests start processes")]
pub(crate) fn procpool_after(line: &str, args: &[&str]) -> Command {
    let mut command = Command::new("sh");
    let script = format!("{line} && exec \"$0\" \"$@\"");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_procpool")]).args(args);
    command.env_remove("PROCPOOL_SERVER").env("NO_COLOR", "1");
    command
}

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// Returns the lines of stdout as JSON.
    pub(crate) fn values(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Checks the code; shows everything if it is another.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }
}

/// Runs a command to its end.
pub(crate) fn run(args: &[&str], stdin: &str) -> Outcome {
    run_with_bytes(args, stdin.as_bytes())
}

pub(crate) fn run_with_bytes(args: &[&str], stdin: &[u8]) -> Outcome {
    let mut child = procpool(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Small enough for the pipe; a command that reads nothing closes it.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    let pid = pid_of(&child);
    let output = within_limit(move || child.wait_with_output().unwrap(), pid);
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

pub(crate) fn pid_of(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// Waits for a process to end.
pub(crate) fn wait(mut child: Child) -> ExitStatus {
    let pid = pid_of(&child);
    within_limit(move || child.wait().unwrap(), pid)
}

/// Tells whether a process has ended. Nobody may have reaped it yet: that is for the init process.
pub(crate) fn is_gone(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z")))
        || test_kill_process(pid).is_err()
}

/// Returns what `wait` returns; kills the process if that takes too long.
fn within_limit<T: Send + 'static>(wait: impl FnOnce() -> T + Send + 'static, pid: Pid) -> T {
    let (sender, receiver) = mpsc::channel();
    let waiter = std::thread::spawn(move || sender.send(wait()).unwrap());
    let result = receiver.recv_timeout(LIMIT);
    if result.is_err() {
        kill_process(pid, Signal::KILL).unwrap();
    }
    waiter.join().unwrap();
    result.expect("the process ends in time")
}

/// A running `procpool serve`.
#[derive(Debug)]
pub(crate) struct Server {
    child: Option<Child>,
    _stdout: BufReader<ChildStdout>,
    log: tempfile::NamedTempFile,
    pub(crate) address: String,
}

impl Server {
    /// Starts a server on a free port and waits until it listens.
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut all = vec!["serve", "--listen", "127.0.0.1:0"];
        all.extend(args);
        Self::start_command(procpool(&all))
    }

    pub(crate) fn start_command(mut command: Command) -> Self {
        let log = tempfile::NamedTempFile::new().unwrap();
        // Not a clone, which would share its position with whoever reads while the server writes.
        let stderr = log.reopen().unwrap();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("listening on ").unwrap_or_default().to_owned();
        let server = Self { child: Some(child), _stdout: stdout, log, address };
        assert!(!server.address.is_empty(), "the server said {line:?} and logged\n{}", server.log());
        server
    }

    pub(crate) fn pid(&self) -> Pid {
        pid_of(self.child.as_ref().unwrap())
    }

    /// Runs a client command against this server.
    pub(crate) fn run(&self, args: &[&str]) -> Outcome {
        self.run_with_stdin(args, "")
    }

    pub(crate) fn run_with_stdin(&self, args: &[&str], stdin: &str) -> Outcome {
        let mut all = vec![args[0], "--server", self.address.as_str()];
        all.extend(&args[1..]);
        run(&all, stdin)
    }

    /// Returns a command of the binary that calls this server.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = procpool(args);
        command.env("PROCPOOL_SERVER", &self.address);
        command
    }

    /// Returns what the server has logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }

    /// Returns the processes that this one started.
    pub(crate) fn workers(&self) -> Vec<Pid> {
        let is_child = |pid: &i32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
            parent == Some(self.pid().as_raw_nonzero().get())
        };
        let pids =
            std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
        pids.filter(is_child).filter_map(Pid::from_raw).collect()
    }

    /// Waits for the end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait(self.child.take().unwrap())
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn stop(&mut self, signal: Signal) -> ExitStatus {
        let child = self.child.take().unwrap();
        kill_process(pid_of(&child), signal).unwrap();
        wait(child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
