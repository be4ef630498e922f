//! What workers leave behind, whatever they do to get rid of us: it ends with them, or with the server.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::sync::Arc;

use procpool_items::value::{NonFinite, list_from_bytes, list_to_bytes};
use procpool_items::{ItemKind, ItemSlab};
use procpool_pool::supervisor::{ProcessSpawner, ServerTag, SpawnConfig, WorkerCommand, WorkerSpawner, kill_orphans};
use procpool_pool::{Call, CallError, ItemFailure, PoolConfig, PoolHandle, WorkerExit};
use procpool_scheduler::{SlotId, WorkerId};
use rustix::process::Signal;
use tokio::sync::mpsc;

use crate::roles::{mark, path};
use crate::server::{Server, children, is_zombie, shell_config, shell_mark};
use crate::support::{GRACE, Worker, is_gone, pid, wait_for_file, wait_until};

const NUM_ORPHANS: usize = 10_000;

/// A line of a script that starts a daemon, with this before its command.
fn daemon(name: &str, before: &str) -> String {
    let mark = shell_mark(name, "\\$\\$");
    format!("({before} setsid sh -c \"{}; sleep 1000; :\" </dev/null >/dev/null 2>&1 &)", mark.replace('"', "\\\""))
}

/// The start of a command that gets no more of the worker's environment than it needs for its mark.
const CLEAN: &str = "env -i PATH=$PATH PROCPOOL_TEST_DIRECTORY=$PROCPOOL_TEST_DIRECTORY";

#[test]
fn daemons_of_a_dead_worker_are_killed_and_reaped() {
    // Only one that sets this limit cannot be told from the child of a server that a worker has started.
    let foreign = format!("{CLEAN} prlimit --locks=12345:");
    let script =
        [daemon("daemon", ""), daemon("clean", CLEAN), daemon("foreign", &foreign), shell_mark("worker", "$$")];
    let mut server = Server::start("reaping_server", &format!("{}; while :; do sleep 1000; done", script.join("; ")));
    let [daemon, clean, foreign] = ["daemon", "clean", "foreign"].map(|name| server.pid_of(name));
    server.pid_of("worker");
    assert!(!is_gone(daemon) && !is_gone(clean), "as long as their worker lives, so do they");
    server.tell("end_worker");
    server.mark("worker_exited");
    wait_until("the daemons are reaped", || is_gone(daemon) && is_gone(clean));
    assert!(!is_gone(foreign));
    server.tell("end_server");
    assert_eq!(server.mark("children"), "", "nothing is left, dead or alive, whosever it is");
    assert!(is_gone(foreign));
    assert!(server.process.wait().unwrap().success());
}

#[test]
fn what_a_killed_server_leaves_is_killed_and_nothing_else() {
    #[expect(clippy::disallowed_methods, reason = "somebody has to be killed")]
    let start = |program: &[&str], variable: Option<u64>| {
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).env_clear().envs(variable.map(|tag| ("PROCPOOL_TAG", tag.to_string())));
        command.spawn().unwrap()
    };
    let server: ServerTag = "7001".parse().unwrap();
    let (first, last, foreign) = (7001 << 24, (7002 << 24) - 1, 7002 << 24);
    let limited = |tag: u64| start(&["prlimit", &format!("--locks={tag}:"), "sleep", "1000"], None);
    let named = |tag: u64| start(&["sleep", "1000"], Some(tag));
    let mut ours = [limited(first), limited(last), named(first), named(last)];
    let mut others = [limited(foreign), named(foreign), named(7001)];
    for child in ours.iter().chain(&others) {
        let name = format!("/proc/{}/comm", child.id());
        wait_until("it has its limit", || std::fs::read_to_string(&name).unwrap() == "sleep\n");
    }
    assert_eq!(kill_orphans(server).unwrap(), ours.len());
    for child in &mut ours {
        assert_eq!(child.wait().unwrap().signal(), Some(15), "it was asked to end, and did");
    }
    for child in &mut others {
        assert_eq!(child.try_wait().unwrap(), None, "another server's are not touched");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

/// The role of a server whose worker leaves thousands of orphans behind that exit at once.
pub(crate) fn adopt_many() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let spawner = ProcessSpawner::new(shell_config()).unwrap();
        spawner.adopt_orphans().unwrap();
        let (sender, mut events) = mpsc::channel(16);
        let commands = spawner.spawn(WorkerId { slot: SlotId(0), generation: 1 }, GRACE, sender);
        let all_started = path("all_started");
        tokio::task::spawn_blocking(move || {
            wait_for_file(&all_started);
            wait_until("only the worker is left", || children().split_ascii_whitespace().count() == 1);
        })
        .await
        .unwrap();
        commands.send(WorkerCommand::Kill).await.unwrap();
        while events.recv().await.is_some() {}
        spawner.closed().await;
        mark("children", &children());
        mark("server", &std::process::id().to_string());
    });
}

/// A script that forks its orphans without a program for them: thousands take a second or two.
fn orphans_script() -> String {
    let batch = ": & ".repeat(100);
    let num_batches = NUM_ORPHANS / 100;
    let done = shell_mark("all_started", "$$");
    format!("i=0; while [ $i -lt {num_batches} ]; do ({batch}); i=$((i+1)); done; {done}; exec sleep 1000")
}

#[test]
fn ten_thousand_orphans_leave_no_zombie() {
    let mut server = Server::start("adopt_many", &orphans_script());
    assert!(server.process.wait().unwrap().success());
    assert_eq!(server.mark("children"), "");
}

#[test]
fn ten_thousand_orphans_leave_no_zombie_of_process_1() {
    let own = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    // Where only root may make a namespace, everybody may be root in one of their own.
    let mapped = [&own[..], &["--user", "--map-root-user"]].concat();
    let Some(unshare) = [&own[..], &mapped].into_iter().find(|unshare| can_run(unshare)) else {
        eprintln!("SKIPPED: this machine lets us make no namespace of process ids");
        return;
    };
    let mut server = Server::start_by(unshare, "adopt_many", &orphans_script());
    assert!(server.process.wait().unwrap().success());
    assert_eq!(server.mark("server"), "1");
    assert_eq!(server.mark("children"), "");
}

#[expect(clippy::disallowed_methods, reason = "a namespace can only be tried")]
fn can_run(wrapper: &[&str]) -> bool {
    Command::new(wrapper[0]).args(&wrapper[1..]).arg("true").status().is_ok_and(|status| status.success())
}

/// The role of a server with a pool of one slot for each vice: the slot is free at once, and nobody is left.
pub(crate) fn free_slots() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let config = |program| SpawnConfig::new(procpool_test_workers::path(program), std::env::vars_os().collect());
        let bystander = Arc::new(ProcessSpawner::new(config("setsid_grandchild")).unwrap());
        bystander.adopt_orphans().unwrap();
        let others = ["forks_grandchild", "setsid_grandchild", "holds_pipe_open"];
        let others = others.map(|program| Arc::new(bystander.another(config(program))));
        let start = |spawner| PoolHandle::start(PoolConfig::new(1.try_into().unwrap()), spawner);

        let (living, living_task) = start(bystander.clone());
        let spared = call(&living, "fork").await.unwrap();
        for (spawner, has_fork) in others.into_iter().zip([true, true, false]) {
            let (pool, task) = start(spawner);
            pool.started(None).await.unwrap();
            // It starts one by itself, or must be told.
            let grandchild = if has_fork { call(&pool, "fork").await.unwrap() } else { newest_grandchild() };
            assert!(!is_gone(grandchild));
            let failed = call(&pool, "crash").await;
            let Err(CallError::ItemFailed(error)) = failed else { panic!("{failed:?}") };
            let died_of_it = matches!(error.failure, ItemFailure::WorkerCrashed { exit: WorkerExit::Signal(9), .. });
            assert!(died_of_it, "{error:?}");
            assert_eq!(call(&pool, "echo").await.unwrap(), 7);
            tokio::task::spawn_blocking(move || wait_until("the grandchild is gone", || is_gone(grandchild)))
                .await
                .unwrap();
            pool.stop_now();
            task.join().await;
        }
        assert!(!is_gone(spared), "its worker lives");
        living.stop_now();
        living_task.join().await;
        bystander.closed().await;
        assert!(is_gone(spared));
        assert_eq!(children(), "");
        mark("done", "");
    });
}

/// Calls a function with the item 7; returns the result.
async fn call(pool: &PoolHandle, function: &str) -> Result<u32, CallError> {
    let items = list_to_bytes([7], NonFinite::Error).unwrap();
    let output = pool.map(Call::new(function), ItemSlab::parse(ItemKind::Values, items).unwrap()).await?;
    Ok(list_from_bytes::<u32>(&output.parts.concat()).unwrap()[0])
}

/// Returns the child of this process's youngest child.
fn newest_grandchild() -> u32 {
    let worker = children().split_ascii_whitespace().map(|pid| pid.parse::<u32>().unwrap()).max().unwrap();
    let grandchildren = std::fs::read_to_string(format!("/proc/{worker}/task/{worker}/children")).unwrap();
    grandchildren.trim().parse().unwrap()
}

#[test]
fn a_slot_is_free_at_once_whatever_its_worker_leaves_behind() {
    let mut server = Server::start("free_slots", "");
    assert!(server.process.wait().unwrap().success());
    server.mark("done");
}

/// A line of a script that starts a helper as Python has one for its shared memory: it does not heed SIGTERM, waits until
/// all are dead that hold the other end of its pipe, and tidies up after them.
const HELPER: &str = "cd $PROCPOOL_TEST_DIRECTORY; mkfifo pipe; echo >segment; \
    (trap '' TERM INT; read x <pipe; rm segment) </dev/null >/dev/null 2>&1 & exec 7>pipe";

#[tokio::test]
async fn a_helper_that_ends_by_itself_may_tidy_up_however_its_worker_ends() {
    let ends = ["in order", "killed by us", "terminated by us", "killed by another"];
    for end in ends {
        let rest = if end == "in order" { "exit 0" } else { "exec sleep 1000" };
        let mut worker = Worker::shell(&format!("{HELPER}; echo $$ >new; mv new pid; {rest}"));
        let number = worker.started().await;
        worker.mark("pid").await;
        match end {
            "killed by us" => worker.command(WorkerCommand::Kill).await,
            "terminated by us" => worker.command(WorkerCommand::Terminate).await,
            "killed by another" => rustix::process::kill_process(pid(number), Signal::KILL).unwrap(),
            _ => {}
        }
        let segment = worker.file("segment");
        let directory = worker.exited_and_gone().await;
        assert!(!segment.exists(), "{end}");
        drop(directory);
    }
}

#[tokio::test]
async fn a_helper_that_does_not_end_is_killed() {
    let script = "cd $PROCPOOL_TEST_DIRECTORY; (trap '' TERM; exec sleep 1000) & echo $! >new; mv new helper; \
        echo $$ >new; mv new pid; wait";
    let worker = Worker::shell(script);
    let helper = worker.mark("helper").await.trim().parse().unwrap();
    worker.mark("pid").await;
    worker.command(WorkerCommand::Kill).await;
    worker.exited_and_gone().await;
    wait_until("the helper is gone", || is_gone(helper) || is_zombie(helper));
}
