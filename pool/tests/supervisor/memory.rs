//! Workers that hold too much memory, and what is known of a dead one.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use procpool_pool::WorkerExit;
use procpool_pool::supervisor::{MemoryLimits, SpawnConfig, WorkerCommand, WorkerEventKind};
use procpool_scheduler::ChunkId;
use rustix::process::Signal;

use crate::support::{Worker, is_gone, pid, wait_until};

/// More than the tests' own program has, and less than what the roles grow by.
const LIMIT: u64 = 60 << 20;
const GROWTH: u64 = 64 << 20;

fn limited(soft_bytes: Option<u64>, hard_bytes: Option<u64>) -> impl FnOnce(&mut SpawnConfig) {
    move |config| config.memory = MemoryLimits { soft_bytes, hard_bytes }
}

#[tokio::test]
async fn a_worker_that_grows_beyond_its_limit_is_killed_and_its_item_named() {
    let mut worker = Worker::start("grow", 64, limited(None, Some(LIMIT)));
    worker.ready().await;
    worker.run(1, &[b"a", b"b"]).await;
    let exited = worker.exited().await;
    let WorkerExit::MemoryLimit { rss_bytes, limit_bytes } = exited.exit else { panic!("{:?}", exited.exit) };
    assert_eq!(limit_bytes, LIMIT);
    assert!(rss_bytes > LIMIT && rss_bytes < LIMIT + 2 * GROWTH, "{rss_bytes}");
    assert_eq!(exited.running, Some((ChunkId(1), 0)));
}

#[tokio::test]
async fn what_a_worker_has_started_counts_and_dies_with_it() {
    let mut worker = Worker::start("grow_child", 64, limited(None, Some(LIMIT)));
    worker.ready().await;
    worker.run(1, &[b"a"]).await;
    let exited = worker.exited().await;
    assert!(matches!(exited.exit, WorkerExit::MemoryLimit { rss_bytes, .. } if rss_bytes > LIMIT), "{:?}", exited.exit);
}

#[tokio::test]
async fn a_worker_that_is_too_large_before_it_is_ready_is_killed_too() {
    let worker = Worker::start("not_a_word", 64, limited(None, Some(1 << 10)));
    let exited = worker.exited().await;
    assert!(matches!(exited.exit, WorkerExit::MemoryLimit { .. }), "{:?}", exited.exit);
    assert_eq!(exited.running, None);
}

#[tokio::test]
async fn a_large_worker_is_said_to_be_one_once() {
    let mut worker = Worker::start("echo", 64, limited(Some(1 << 10), Some(1 << 40)));
    worker.ready().await;
    worker.run(1, &[b"a"]).await;
    // It is read while the item runs, or after it.
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.push(match worker.next().await {
            WorkerEventKind::Results(_) => "results",
            WorkerEventKind::MemoryHigh => "high",
            other => panic!("{other:?}"),
        });
    }
    seen.sort_unstable();
    assert_eq!(seen, ["high", "results"]);
    for chunk in 2..=200 {
        worker.run(chunk, &[b"a"]).await;
        assert_eq!(worker.results().await.chunk, ChunkId(chunk));
    }
    worker.command(WorkerCommand::Shutdown).await;
    assert_eq!(worker.exited().await.exit, WorkerExit::Code(0));
}

#[tokio::test]
async fn a_dead_worker_leaves_its_peak_and_its_processor_time() {
    let mut worker = Worker::in_role("grow");
    let worker_pid = worker.ready().await;
    worker.run(1, &[b"a"]).await;
    worker.mark("running").await;
    rustix::process::kill_process(pid(worker_pid), Signal::KILL).unwrap();
    let exited = worker.exited().await;
    assert_eq!(exited.exit, WorkerExit::Signal(9), "nobody ran out of memory");
    let peak = exited.usage.peak_rss_bytes.unwrap();
    assert!(peak > GROWTH && peak < 8 * GROWTH, "{peak}");
    // Touching that much memory takes longer than a clock tick.
    let cpu_time = exited.usage.cpu_time.unwrap();
    assert!(cpu_time > Duration::from_millis(1) && cpu_time < Duration::from_secs(60), "{cpu_time:?}");
}

#[tokio::test]
async fn a_kill_by_the_kernel_is_told_from_a_kill_by_anybody_else() {
    // Only root can make one, and containers often have it read-only.
    let Some(cgroup) = MemoryCgroup::make(LIMIT) else {
        eprintln!("SKIPPED: this machine lets us make no memory cgroup");
        return;
    };
    for by_kernel in [true, false] {
        let role = if by_kernel { "grow" } else { "begin" };
        let mut worker = Worker::start(role, 64, |config| {
            let script = format!("echo $$ >{} && exec \"$0\" \"$@\"", cgroup.0.join("cgroup.procs").display());
            let args = std::mem::take(&mut config.args);
            let program = std::mem::replace(&mut config.program, "sh".into());
            config.args = [["-c".into(), script.into(), program].to_vec(), args].concat();
        });
        let worker_pid = worker.ready().await;
        worker.run(1, &[b"a"]).await;
        if !by_kernel {
            worker.mark("running").await;
            rustix::process::kill_process(pid(worker_pid), Signal::KILL).unwrap();
        }
        let exited = worker.exited().await;
        let expected = if by_kernel { WorkerExit::KernelOom } else { WorkerExit::Signal(9) };
        assert_eq!(exited.exit, expected);
        assert_eq!(exited.running, Some((ChunkId(1), 0)));
        wait_until("the worker is reaped", || is_gone(worker_pid));
    }
}

/// A memory cgroup of our own; it goes with the value.
struct MemoryCgroup(PathBuf);

impl MemoryCgroup {
    fn make(limit_bytes: u64) -> Option<Self> {
        let name = format!("procpool-test-{}", std::process::id());
        let roots = [("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")];
        roots.into_iter().find_map(|(root, limit)| {
            let cgroup = PathBuf::from(root).join(&name);
            std::fs::create_dir(&cgroup).ok()?;
            let cgroup = Self(cgroup);
            // Without a controller there is no such file, and it must not be made.
            let limit = std::fs::File::options().write(true).open(cgroup.0.join(limit));
            limit.and_then(|mut file| file.write_all(limit_bytes.to_string().as_bytes())).ok()?;
            Some(cgroup)
        })
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        // What is left of it would be empty.
        let _ = std::fs::remove_dir(&self.0);
    }
}
