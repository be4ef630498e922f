//! The life and death of the server, which is a process of its own here: this program again.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Child, Command};

use procpool_pool::WorkerExit;
use procpool_pool::supervisor::{ProcessSpawner, SpawnConfig, WorkerCommand, WorkerEventKind, WorkerSpawner};
use procpool_scheduler::{SlotId, WorkerId};
use rustix::process::{Resource, Rlimit, Signal};
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::roles::{self, mark, path};
use crate::support::{GRACE, config, is_gone, pid, wait_for_file, wait_until};

/// Enough to show a leak of one in a thousand; the chaos run has ten thousand.
const NUM_RESTARTS: u64 = 2_000;

/// The role of a server with one worker, a shell that runs the test's script. Ends the worker, and itself, when the test
/// says so.
pub(crate) fn serve(adopts_orphans: bool) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let spawner = ProcessSpawner::new(shell_config()).unwrap();
        if adopts_orphans {
            spawner.adopt_orphans().unwrap();
        }
        let resident = status_kilobytes("VmRSS:");
        let (sender, mut events) = mpsc::channel(16);
        let commands = spawner.spawn(WorkerId { slot: SlotId(0), generation: 1 }, GRACE, sender);
        let end = path("end_worker");
        tokio::task::spawn_blocking(move || wait_for_file(&end)).await.unwrap();
        commands.send(WorkerCommand::Kill).await.unwrap();
        while let Some(event) = events.recv().await {
            if matches!(event.kind, WorkerEventKind::Exited { .. }) {
                mark("worker_exited", "");
            }
        }
        let end = path("end_server");
        tokio::task::spawn_blocking(move || wait_for_file(&end)).await.unwrap();
        spawner.closed().await;
        mark("children", &children());
        mark("grown", &(status_kilobytes("VmHWM:") - resident).to_string());
    });
}

/// How a worker is started that is a shell and runs the test's script.
pub(crate) fn shell_config() -> SpawnConfig {
    let mut config = config("", &path(""));
    config.program = "sh".into();
    config.args = vec!["-c".into(), std::fs::read_to_string(path("script")).unwrap().into()];
    config
}

/// The role of a server whose workers come and go, also where there are no file descriptors left.
pub(crate) fn restart_many() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut config = config("", &path(""));
        config.program = "true".into();
        config.args.clear();
        let spawner = ProcessSpawner::new(config).unwrap();
        let mut generation = 0;
        // Before the first worker: after it they would have to be counted at the right moment.
        let (files, threads) = (num_files(), num_threads());
        // The last session gives its files back a moment after it has told of the end.
        let nothing_is_left = || {
            wait_until("files are closed and children reaped", || num_files() == files && children().is_empty());
            assert_eq!(num_threads(), threads);
        };
        for _ in 0..NUM_RESTARTS {
            assert_eq!(run_one(&spawner, &mut generation).await, WorkerExit::Code(0));
        }
        nothing_is_left();
        let limit = rustix::process::getrlimit(Resource::Nofile);
        let mut failed = 0;
        for room in 0..24 {
            let current = Some(files as u64 + room);
            rustix::process::setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();
            match run_one(&spawner, &mut generation).await {
                WorkerExit::SpawnFailed { by_shortage: true, .. } => failed += 1,
                exit => assert_eq!(exit, WorkerExit::Code(0)),
            }
        }
        assert!((1..24).contains(&failed), "{failed} of 24 could not be started");
        rustix::process::setrlimit(Resource::Nofile, limit).unwrap();
        assert_eq!(run_one(&spawner, &mut generation).await, WorkerExit::Code(0), "it recovers by itself");
        nothing_is_left();
        spawner.closed().await;
        mark("done", "");
    });
}

/// Starts a worker that exits at once; returns how it ended.
async fn run_one(spawner: &ProcessSpawner, generation: &mut u64) -> WorkerExit {
    *generation += 1;
    let (sender, mut events) = mpsc::channel(16);
    let _commands = spawner.spawn(WorkerId { slot: SlotId(0), generation: *generation }, GRACE, sender);
    loop {
        match events.recv().await.unwrap().kind {
            WorkerEventKind::Started { .. } => {}
            WorkerEventKind::Exited { exit, .. } => return exit,
            other => panic!("{other:?}"),
        }
    }
}

fn num_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn num_threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// Lists the children of this process, dead ones included.
pub(crate) fn children() -> String {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    threads.map(|thread| std::fs::read_to_string(thread.path().join("children")).unwrap_or_default()).collect()
}

/// Returns an amount of this process's memory.
fn status_kilobytes(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let amount = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    amount.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A server process.
pub(crate) struct Server {
    pub(crate) process: Child,
    directory: TempDir,
}

impl Server {
    pub(crate) fn start(role: &str, script: &str) -> Self {
        Self::start_by(&[], role, script)
    }

    /// Starts a server by a program that takes the rest of its arguments for a command.
    #[expect(clippy::disallowed_methods, reason = "the server is what is tested")]
    pub(crate) fn start_by(wrapper: &[&str], role: &str, script: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("script"), script).unwrap();
        let config = config(role, directory.path());
        let mut line = wrapper.iter().map(OsString::from).chain([config.program]).chain(config.args);
        let mut command = Command::new(line.next().unwrap());
        let process = command.args(line).envs(config.variables).env(roles::ROLE, role).spawn().unwrap();
        Self { process, directory }
    }

    pub(crate) fn mark(&self, name: &str) -> String {
        wait_for_file(&self.directory.path().join(name))
    }

    pub(crate) fn pid_of(&self, name: &str) -> u32 {
        self.mark(name).trim().parse().unwrap()
    }

    pub(crate) fn tell(&self, name: &str) {
        std::fs::write(self.directory.path().join(name), "").unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already dead if the test has got through.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A line of a script that makes a file appear with its content.
pub(crate) fn shell_mark(name: &str, content: &str) -> String {
    format!(
        "echo {content} >$PROCPOOL_TEST_DIRECTORY/{name}.new; mv $PROCPOOL_TEST_DIRECTORY/{name}.new $PROCPOOL_TEST_DIRECTORY/{name}"
    )
}

#[test]
fn no_worker_outlives_a_killed_server() {
    // A worker that does not care about its channel.
    let script = format!("{}; exec sleep 1000", shell_mark("worker", "$$"));
    let mut server = Server::start("server", &script);
    let worker = server.pid_of("worker");
    rustix::process::kill_process(pid(server.process.id()), Signal::KILL).unwrap();
    server.process.wait().unwrap();
    wait_until("the worker is gone", || is_gone(worker) || is_zombie(worker));
}

#[test]
fn restarts_leave_nothing_behind() {
    let mut server = Server::start("restart_many", "");
    assert!(server.process.wait().unwrap().success());
    server.mark("done");
}

#[test]
fn the_workers_of_a_runtime_that_ends_are_killed() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (sender, _events) = mpsc::channel(16);
    let (spawner, _commands) = runtime.block_on(async {
        let spawner = ProcessSpawner::new(config("not_a_word", directory.path())).unwrap();
        let commands = spawner.spawn(WorkerId { slot: SlotId(3), generation: u64::MAX }, GRACE, sender);
        (spawner, commands)
    });
    wait_for_file(&directory.path().join("connected"));
    let worker = wait_for_file(&directory.path().join("pid")).parse().unwrap();
    drop(runtime);
    drop(spawner);
    wait_until("the worker is gone", || is_gone(worker) || is_zombie(worker));
}

#[test]
fn a_flood_costs_no_memory() {
    let flood = "head -c 500000000 /dev/zero | tr '\\0' x";
    let script = format!("{flood}; {flood} >&2; {}; exec sleep 1000", shell_mark("worker", "$$"));
    let mut server = Server::start("server", &script);
    // It is through: nothing was held up.
    server.mark("worker");
    server.tell("end_worker");
    server.mark("worker_exited");
    server.tell("end_server");
    let grown: u64 = server.mark("grown").parse().unwrap();
    assert!(grown < 4 << 10, "a gigabyte without a newline took {grown} KiB");
    assert!(server.process.wait().unwrap().success());
}

pub(crate) fn is_zombie(number: u32) -> bool {
    let status =
        std::fs::read_to_string(Path::new("/proc").join(number.to_string()).join("status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && line.contains('Z'))
}
