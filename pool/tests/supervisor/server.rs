//! The death of the server, and what workers leave behind. The server is a process of its own here: this program again.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Instant;

use procpool_pool::WorkerExit;
use procpool_pool::supervisor::{ProcessSpawner, WorkerCommand, WorkerEventKind, WorkerSpawner, kill_remains};
use procpool_scheduler::{SlotId, WorkerId};
use rustix::process::{Resource, Rlimit, Signal};
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::roles::{self, mark, path};
use crate::support::{config, is_gone, is_group_gone, pid, wait_for_file, wait_until};

/// The role of a server with one worker, a shell that runs the test's script. Ends the worker, and itself, when the test
/// says so.
pub(crate) fn serve(adopts_orphans: bool) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let directory = path("");
        let mut config = config("", &directory);
        config.program = "sh".into();
        config.args = vec!["-c".into(), std::fs::read_to_string(path("script")).unwrap().into()];
        let spawner = ProcessSpawner::new(config).unwrap();
        if adopts_orphans {
            spawner.adopt_orphans().unwrap();
        }
        let resident = status_kilobytes("VmRSS:");
        let (sender, mut events) = mpsc::channel(16);
        let commands = spawner.spawn(WorkerId { slot: SlotId(0), generation: 1 }, sender);
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

/// The role of a server whose workers come and go, also where there are no file descriptors left.
pub(crate) fn restart_many() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut config = config("", &path(""));
        config.program = "true".into();
        config.args.clear();
        let spawner = ProcessSpawner::new(config).unwrap();
        let mut generation = 0;
        assert_eq!(run_one(&spawner, &mut generation).await, WorkerExit::Code(0));
        let (before, threads) = (num_files(), num_threads());
        for _ in 0..300 {
            assert_eq!(run_one(&spawner, &mut generation).await, WorkerExit::Code(0));
        }
        let limit = rustix::process::getrlimit(Resource::Nofile);
        let mut failed = 0;
        for room in 0..24 {
            let current = Some(before as u64 + room);
            rustix::process::setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();
            match run_one(&spawner, &mut generation).await {
                WorkerExit::SpawnFailed { by_shortage: true, .. } => failed += 1,
                exit => assert_eq!(exit, WorkerExit::Code(0)),
            }
        }
        assert!((1..24).contains(&failed), "{failed} of 24 could not be started");
        rustix::process::setrlimit(Resource::Nofile, limit).unwrap();
        assert_eq!(run_one(&spawner, &mut generation).await, WorkerExit::Code(0), "it recovers by itself");
        // The runtime reaps those that were given up at once a moment later, at the next SIGCHLD.
        wait_until("files and children are gone", || num_files() <= before + 2 && children().is_empty());
        assert!(num_threads() <= threads, "no thread is left behind");
        spawner.closed().await;
        mark("done", "");
    });
}

/// Starts a worker that exits at once; returns how it ended.
async fn run_one(spawner: &ProcessSpawner, generation: &mut u64) -> WorkerExit {
    *generation += 1;
    let (sender, mut events) = mpsc::channel(16);
    let _commands = spawner.spawn(WorkerId { slot: SlotId(0), generation: *generation }, sender);
    match events.recv().await.unwrap().kind {
        WorkerEventKind::Exited { exit, .. } => exit,
        other => panic!("{other:?}"),
    }
}

fn num_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn num_threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// Lists the children of this process, dead ones included.
fn children() -> String {
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
struct Server {
    process: Child,
    directory: TempDir,
}

impl Server {
    #[expect(clippy::disallowed_methods, reason = "the server is what is tested")]
    fn start(role: &str, script: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("script"), script).unwrap();
        let config = config(role, directory.path());
        let mut command = Command::new(config.program);
        let process = command.args(config.args).envs(config.variables).env(roles::ROLE, role).spawn().unwrap();
        Self { process, directory }
    }

    fn mark(&self, name: &str) -> String {
        wait_for_file(&self.directory.path().join(name))
    }

    fn pid_of(&self, name: &str) -> u32 {
        self.mark(name).trim().parse().unwrap()
    }

    fn tell(&self, name: &str) {
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
fn shell_mark(name: &str, content: &str) -> String {
    format!(
        "echo {content} >$PROCPOOL_TEST_DIRECTORY/{name}.new; mv $PROCPOOL_TEST_DIRECTORY/{name}.new $PROCPOOL_TEST_DIRECTORY/{name}"
    )
}

/// A line of a script that starts a daemon, with this before its command.
fn daemon(name: &str, before: &str) -> String {
    let mark = shell_mark(name, "\\$\\$");
    format!("({before} setsid sh -c \"{}; sleep 1000; :\" </dev/null >/dev/null 2>&1 &)", mark.replace('"', "\\\""))
}

#[test]
fn no_worker_outlives_a_killed_server() {
    // A worker that does not care about its channel.
    let script = format!("{}; exec sleep 1000", shell_mark("worker", "$$"));
    let mut server = Server::start("server", &script);
    let worker = server.pid_of("worker");
    rustix::process::kill_process(pid(server.process.id()), Signal::KILL).unwrap();
    let died = Instant::now();
    server.process.wait().unwrap();
    wait_until("the worker is gone", || is_gone(worker) || is_zombie(worker));
    assert!(died.elapsed().as_millis() < 1_000, "{:?}", died.elapsed());
}

#[test]
fn daemons_of_a_dead_worker_are_killed_and_reaped() {
    let foreign = daemon("foreign", "PROCPOOL_SERVER_ID=another");
    let script =
        format!("{}; {foreign}; {}; while :; do sleep 1000; done", daemon("daemon", ""), shell_mark("worker", "$$"));
    let mut server = Server::start("reaping_server", &script);
    let (daemon, foreign) = (server.pid_of("daemon"), server.pid_of("foreign"));
    server.pid_of("worker");
    assert!(!is_gone(daemon), "as long as its worker lives, so does it");
    server.tell("end_worker");
    server.mark("worker_exited");
    wait_until("the daemon is reaped", || is_gone(daemon));
    assert!(!is_gone(foreign), "another server's are not touched");
    rustix::process::kill_process_group(pid(foreign), Signal::KILL).unwrap();
    wait_until("the foreign daemon is reaped", || is_group_gone(foreign));
    server.tell("end_server");
    assert_eq!(server.mark("children"), "", "nothing is left, dead or alive");
    assert!(server.process.wait().unwrap().success());
}

#[test]
fn what_a_killed_server_leaves_is_killed_and_nothing_else() {
    let start = |owner: &str| {
        #[expect(clippy::disallowed_methods, reason = "somebody has to be killed")]
        let mut command = Command::new("sleep");
        command.arg("1000").env("PROCPOOL_SERVER_ID", owner).spawn().unwrap()
    };
    let (mut one, mut another, mut foreign) = (start("7-1-2/0"), start("7-1-2/1"), start("7-1-23/0"));
    assert_eq!(kill_remains("7-1-2").unwrap(), 2);
    for child in [&mut one, &mut another] {
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }
    assert_eq!(foreign.try_wait().unwrap(), None, "another server's are not touched");
    foreign.kill().unwrap();
    foreign.wait().unwrap();
}

#[test]
fn many_orphans_leave_no_zombie() {
    let script = format!(
        "i=0; while [ $i -lt 200 ]; do (setsid true &); i=$((i+1)); done; {}; sleep 1000",
        shell_mark("worker", "$$")
    );
    let mut server = Server::start("reaping_server", &script);
    server.mark("worker");
    server.tell("end_worker");
    server.mark("worker_exited");
    server.tell("end_server");
    assert_eq!(server.mark("children"), "");
    assert!(server.process.wait().unwrap().success());
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
        let commands = spawner.spawn(WorkerId { slot: SlotId(3), generation: u64::MAX }, sender);
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

fn is_zombie(number: u32) -> bool {
    let status =
        std::fs::read_to_string(Path::new("/proc").join(number.to_string()).join("status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && line.contains('Z'))
}
