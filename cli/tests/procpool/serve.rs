//! `procpool serve`: its life and its end.

use std::process::Stdio;
use std::time::{Duration, Instant};

use procpool_client::Client;
use rustix::process::{Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::Value;

use crate::support::{LIMIT, Server, is_gone, procpool, run, wait};

#[test]
fn it_listens_on_a_unix_socket_too() {
    let folder = tempfile::tempdir().unwrap();
    let address = format!("unix:{}", folder.path().join("pool.sock").display());
    let args = ["serve", "--processes", "1", "--listen", &address, "--listen", "127.0.0.1:0"];
    let server = Server::start_command(procpool(&args));
    assert_eq!(server.address, address);
    assert_eq!(server.run(&["map", "echo", "1"]).expect(0).stdout, "1\n");
}

#[test]
fn what_workers_print_becomes_log_lines_with_worker_and_job() {
    let mut server = Server::start(&["--processes", "1", "--log-format", "json"]);
    server.run(&["map", "analyze_match", "7"]).expect(0);
    assert!(server.stop(Signal::TERM).success());
    let log = server.log();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let line = lines.iter().find(|line| line["message"] == "Analyzing Match #7...").expect(&log);
    assert_eq!(line["target"], "procpool::worker_output");
    assert_eq!(line["stream"], "stdout");
    for field in ["worker", "job", "pid"] {
        assert!(line[field].is_u64(), "{field} in {line}");
    }
}

#[test]
fn sigterm_finishes_what_was_accepted_and_takes_nothing_new() {
    let mut server = Server::start(&["--processes", "2"]);
    let args = ["imap", "--server", &server.address, "--chunk-size", "1", "sleep_ms", "100", "1500", "1500"];
    let mut child = procpool(&args).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    assert_eq!(line, "100\n");
    let workers = server.workers();
    assert_eq!(workers.len(), 2);
    assert!(server.stop(Signal::TERM).success(), "{}", server.log());
    assert_eq!(std::io::read_to_string(stdout).unwrap(), "1500\n1500\n");
    assert!(wait(child).success());
    assert!(workers.iter().all(|worker| is_gone(*worker)));
}

#[test]
fn a_killed_worker_fails_its_item_alone_and_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let item = |begun: &str, awaited: &str| serde_json::to_string(&[file(begun), file(awaited)]).unwrap();
    let worker = procpool_test_workers::path("well_behaved");
    let server = Server::start(&["--processes", "1", "--", worker.to_str().unwrap()]);
    std::fs::write(file("released"), "").unwrap();
    let items = [item("first", "released"), item("second", "never"), item("third", "released")];
    let args = ["starmap", "--server", &server.address, "--chunk-size", "3", "--on-error", "collect", "touch_and_wait"];
    let client = procpool(&args).args(items).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_file(&file("second"));
    let [worker] = server.workers()[..] else { panic!("one worker") };
    kill_process(worker, Signal::KILL).unwrap();
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"null\nnull\nnull\n");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with("procpool: item 1: worker process"), "{stderr}");
    assert_eq!((stderr.matches("procpool: item ").count(), output.status.code()), (1, Some(1)), "{stderr}");
    assert!(std::path::Path::new(&file("third")).exists());
    server.run(&["map", "echo", "1"]).expect(0);
}

#[test]
fn no_worker_outlives_a_killed_server() {
    let mut server = Server::start(&["--processes", "2"]);
    server.run(&["map", "sleep_ms", "200", "200", "--chunk-size", "1"]).expect(0);
    let workers = server.workers();
    assert_eq!(workers.len(), 2);
    server.stop(Signal::KILL);
    let killed = Instant::now();
    while !workers.iter().all(|worker| is_gone(*worker)) {
        assert!(killed.elapsed() < LIMIT, "{workers:?} are alive");
        std::thread::yield_now();
    }
}

#[test]
fn a_call_to_a_server_that_is_killed_says_so() {
    let mut server = Server::start(&["--processes", "1"]);
    let args = ["imap", "--server", &server.address, "--chunk-size", "1", "sleep_ms", "1", "60000"];
    let mut child = procpool(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.as_mut().unwrap()), &mut line).unwrap();
    server.stop(Signal::KILL);
    let stderr = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    assert!(stderr.starts_with("procpool: the connection to the server broke: "), "{stderr}");
    assert!(stderr.ends_with("procpool: some items may have been executed\n"), "{stderr}");
    assert_eq!(wait(child).code(), Some(4));
}

#[test]
fn without_processes_there_is_a_slot_for_each_usable_cpu() {
    // A child has the affinity of the thread that starts it.
    let starter = std::thread::spawn(|| {
        let usable = sched_getaffinity(None).unwrap();
        let first = (0..CpuSet::MAX_CPU).find(|&cpu| usable.is_set(cpu)).unwrap();
        let mut one = CpuSet::new();
        one.set(first);
        sched_setaffinity(None, &one).unwrap();
        Server::start(&[])
    });
    let server = starter.join().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let limits = runtime.block_on(async { Client::connect(&server.address).await.unwrap().limits().await.unwrap() });
    assert_eq!(limits.num_slots, 1);
}

#[test]
fn a_command_that_is_no_worker_leaves_the_server_up_and_not_serving() {
    let server = Server::start(&["--processes", "1", "--", "/bin/false"]);
    let health = server.run(&["health"]).expect(3);
    assert_eq!(health.stdout, "not serving\n");
    assert!(health.stderr.starts_with("procpool: pool default is "), "{health:?}");
    let refused = server.run(&["map", "echo", "1", "--timeout", "20s"]).expect(3);
    assert!(refused.stderr.contains("no worker could be started"), "{refused:?}");
    let unknown = server.run(&["functions"]).expect(3);
    let expected = "procpool: no worker is ready, so the functions are not known yet: pool default is ";
    assert!(unknown.stderr.starts_with(expected), "{unknown:?}");
    // Now it is known why.
    let health = server.run(&["health"]).expect(3);
    let expected = "procpool: pool default is degraded: no worker can be started; the last one that was started: ";
    assert!(health.stderr.starts_with(expected) && health.stderr.contains("exited with code 1"), "{health:?}");
    assert!(server.log().contains(env!("CARGO_PKG_VERSION")), "the log says who writes it");
}

#[test]
fn a_server_whose_workers_never_start_can_be_told_to_give_up() {
    let args =
        ["serve", "--listen", "127.0.0.1:0", "--processes", "1", "--degraded-timeout", "1ms", "--", "/bin/false"];
    let outcome = run(&args, "").expect(4);
    let last = outcome.stderr.lines().last().unwrap();
    let expected = "procpool: the pool \"default\" could start no worker for 1ms: ";
    assert!(last.starts_with(expected) && last.contains("exited with code 1"), "{outcome:?}");
}

pub(crate) fn wait_for_file(path: &str) {
    let began = Instant::now();
    while !std::path::Path::new(path).exists() {
        assert!(began.elapsed() < LIMIT, "{path} never appeared");
        std::thread::sleep(Duration::from_millis(5));
    }
}
