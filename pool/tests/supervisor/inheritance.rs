//! What a worker inherits: four files, an environment from a list, and nothing else.

use std::ffi::OsString;

use procpool_pool::WorkerExit;
use procpool_pool::supervisor::{LimitedResource, WorkerCommand};
use rustix::fs::{Mode, OFlags};

use crate::support::Worker;

/// Returns the value of a line like `Name:   value` or `Name value …`.
fn field<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
    line.split_whitespace().collect()
}

#[tokio::test]
async fn a_worker_has_four_files_and_a_listed_environment() {
    // A file that some other code opened and forgot to mark.
    let leaked = rustix::fs::open("/dev/zero", OFlags::RDONLY, Mode::empty()).unwrap();
    let home = tempfile::tempdir().unwrap();
    let server =
        [("PATH", "/usr/bin:/bin"), ("LC_TIME", "C"), ("AWS_SECRET_ACCESS_KEY", "hush"), ("OMP_NUM_THREADS", "2")];
    let worker = Worker::start("inventory", 64, |config| {
        config.server_environment = server.map(|(name, value)| (OsString::from(name), OsString::from(value))).to_vec();
        config.variables.push(("PROCPOOL_SLOT".into(), "mine".into()));
        config.working_directory = Some(home.path().to_owned());
    });
    let descriptors = worker.mark("descriptors").await;
    let environment = worker.mark("environment").await;
    let status = worker.mark("status").await;
    let limits = worker.mark("limits").await;
    assert_eq!(worker.mark("directory").await, home.path().canonicalize().unwrap().display().to_string());
    let worker_id = worker.id.generation.to_string();
    let directory = worker.directory.path().display().to_string();
    assert_eq!(worker.exited().await.exit, WorkerExit::Code(0));
    drop(leaked);

    let kinds: Vec<(&str, &str)> = descriptors.lines().filter_map(|line| line.split_once(' ')).collect();
    let [("0", "/dev/null"), ("1", stdout), ("2", stderr), ("3", channel)] = kinds[..] else { panic!("{descriptors}") };
    assert!(stdout.starts_with("pipe:") && stderr.starts_with("pipe:") && channel.starts_with("socket:"));

    let mut variables: Vec<(&str, &str)> = environment.lines().filter_map(|line| line.split_once('=')).collect();
    variables.sort_unstable();
    let tag = variables.iter().position(|(name, _)| *name == "PROCPOOL_TAG").expect("the worker's tag");
    let (_, tag) = variables.remove(tag);
    let expected = [
        ("LC_TIME", "C"),
        ("MKL_NUM_THREADS", "1"),
        ("OMP_NUM_THREADS", "2"),
        ("OPENBLAS_NUM_THREADS", "1"),
        ("PATH", "/usr/bin:/bin"),
        ("PROCPOOL_FD", "3"),
        ("PROCPOOL_SLOT", "3"),
        ("PROCPOOL_TEST_DIRECTORY", &directory),
        ("PROCPOOL_TEST_ROLE", "inventory"),
        ("PROCPOOL_WORKER_ID", &worker_id),
    ];
    assert_eq!(variables, expected);

    assert_eq!(field(&status, "NoNewPrivs:"), ["1"]);
    assert_eq!(field(&status, "SigBlk:"), ["0000000000000000"]);
    let ignored = u64::from_str_radix(field(&status, "SigIgn:")[0], 16).unwrap();
    // The standard library ignores SIGPIPE (13) when it starts, and nobody can touch the two that libc keeps (32, 33).
    let expected = 1 << 12;
    assert_eq!(ignored & !(3 << 31), expected, "{ignored:x}");
    assert_eq!(field(&limits, "Max core file size")[..2], ["0", "0"]);
    assert_eq!(field(&limits, "Max file locks")[..2], [tag, "unlimited"]);
}

#[tokio::test]
async fn the_kernel_kills_a_worker_before_the_server() {
    let score_of = |process: &str| -> i32 {
        std::fs::read_to_string(format!("/proc/{process}/oom_score_adj")).unwrap().trim().parse().unwrap()
    };
    let mut worker = Worker::in_role("echo");
    let pid = worker.ready().await;
    assert_eq!(score_of(&pid.to_string()), (score_of("self") + 500).min(1000));
    worker.command(WorkerCommand::Shutdown).await;
    assert_eq!(worker.exited().await.exit, WorkerExit::Code(0));
}

#[tokio::test]
async fn a_worker_has_the_limits_that_were_asked_for_or_what_the_server_may_set() {
    let worker = Worker::start("inventory", 64, |config| {
        config.rlimits = vec![
            (LimitedResource::AddressSpace, 8 << 30),
            (LimitedResource::Core, 4096),
            (LimitedResource::Data, 4 << 30),
            (LimitedResource::FileSize, 1 << 30),
            (LimitedResource::OpenFiles, u64::MAX),
        ];
    });
    let limits = worker.mark("limits").await;
    assert_eq!(worker.exited().await.exit, WorkerExit::Code(0));
    assert_eq!(field(&limits, "Max address space")[..2], ["8589934592"; 2]);
    assert_eq!(field(&limits, "Max core file size")[..2], ["4096"; 2]);
    assert_eq!(field(&limits, "Max data size")[..2], ["4294967296"; 2]);
    assert_eq!(field(&limits, "Max file size")[..2], ["1073741824"; 2]);
    let own = std::fs::read_to_string("/proc/self/limits").unwrap();
    let own_most = field(&own, "Max open files")[1];
    assert_eq!(field(&limits, "Max open files")[..2], [own_most; 2]);
}

#[tokio::test]
async fn the_immortal_thread_is_the_one_that_forks() {
    let mut worker = Worker::in_role("echo");
    let worker_pid = worker.ready().await.to_string();
    // The kernel keeps children by the thread that made them, and the parent-death signal is bound to that thread.
    let parent = std::fs::read_dir("/proc/self/task").unwrap().flatten().find(|thread| {
        let children = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        children.split_whitespace().any(|child| child == worker_pid)
    });
    let name = std::fs::read_to_string(parent.expect("a thread that forked it").path().join("comm")).unwrap();
    assert_eq!(name.trim(), "procpool-spawn");
    worker.commands = None;
    worker.exited().await;
}
