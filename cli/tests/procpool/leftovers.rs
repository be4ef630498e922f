//! The end of the server, however it comes, is the end of everything that its workers have started, and of its watchdog.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::support::{LIMIT, Server, is_gone, procpool};

/// Starts a server that leads its process group, with a worker whose child is in a session of its own and has nothing of
/// its environment; returns the child, too.
fn server_with_daemon() -> (Server, Pid) {
    let worker = procpool_test_workers::path("setsid_grandchild");
    let args = ["serve", "--listen", "127.0.0.1:0", "--processes", "1", "--", worker.to_str().unwrap()];
    let mut command = procpool(&args);
    command.process_group(0);
    let server = Server::start_command(command);
    let daemon = server.run(&["map", "fork", "1"]).expect(0).stdout;
    (server, Pid::from_raw(daemon.trim().parse().unwrap()).unwrap())
}

/// Returns the watchdog of a server: the process that was told the mark of its workers. The files of the server would tell,
/// too, but only to root. There may be none, or for a moment two, of which one is about to end.
fn find_watchdog(server: &Server) -> Option<Pid> {
    let worker = server.workers()[0].as_raw_nonzero();
    let limits = std::fs::read_to_string(format!("/proc/{worker}/limits")).unwrap();
    let mark = limits.lines().find_map(|line| line.strip_prefix("Max file locks")).unwrap();
    // The high bits are the server's.
    let tag = mark.split_ascii_whitespace().next().unwrap().parse::<u64>().unwrap() >> 24;
    let arguments = format!("\0serve-watchdog\0{tag}\0--stay\0");
    let is_watchdog =
        |process: &PathBuf| std::fs::read_to_string(process.join("cmdline")).unwrap_or_default().ends_with(&arguments);
    let process = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path()).find(is_watchdog)?;
    let name: OsString = process.file_name().unwrap().to_owned();
    Pid::from_raw(name.to_str().unwrap().parse().unwrap())
}

fn watchdog_of(server: &Server) -> Pid {
    find_watchdog(server).expect("every server has a watchdog")
}

#[track_caller]
fn expect_gone(processes: &[Pid]) {
    let since = Instant::now();
    while let Some(left) = processes.iter().find(|process| !is_gone(**process)) {
        assert!(since.elapsed() < LIMIT, "{left:?} of {processes:?} is alive");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn nothing_outlives_a_server_that_is_killed_with_its_group() {
    let (mut server, daemon) = server_with_daemon();
    let (workers, watchdog) = (server.workers(), watchdog_of(&server));
    // Whoever kills by name does not hit the watchdog.
    let name = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", watchdog.as_raw_nonzero())).unwrap();
    assert!(!name("cmdline").contains("procpool"), "{}", name("cmdline"));
    let began = Instant::now();
    while name("comm").contains("procpool") {
        assert!(began.elapsed() < LIMIT, "{}", name("comm"));
        std::thread::sleep(Duration::from_millis(1));
    }
    kill_process_group(server.pid(), Signal::KILL).unwrap();
    server.stop(Signal::KILL);
    expect_gone(&[&workers[..], &[daemon, watchdog]].concat());
}

#[test]
fn the_watchdog_goes_when_the_server_ends_in_order() {
    let (mut server, daemon) = server_with_daemon();
    let watchdog = watchdog_of(&server);
    assert!(server.stop(Signal::TERM).success());
    assert!(is_gone(daemon), "it ends before its server does");
    expect_gone(&[watchdog]);
}

#[test]
fn a_watchdog_that_is_killed_is_replaced_and_the_next_does_its_work() {
    let (mut server, daemon) = server_with_daemon();
    let workers = server.workers();
    let mut watchdog = watchdog_of(&server);
    for _ in 0..2 {
        kill_process(watchdog, Signal::KILL).unwrap();
        let killed = Instant::now();
        watchdog = loop {
            if let Some(next) = find_watchdog(&server).filter(|next| *next != watchdog) {
                break next;
            }
            assert!(killed.elapsed() < LIMIT, "there is no other watchdog:\n{}", server.log());
            std::thread::sleep(Duration::from_millis(1));
        };
    }
    assert_eq!(server.log().matches("the watchdog of the server was killed; starting another").count(), 2);
    // It serves as before.
    server.run(&["map", "fork", "1"]).expect(0);
    kill_process_group(server.pid(), Signal::KILL).unwrap();
    server.stop(Signal::KILL);
    expect_gone(&[&workers[..], &[daemon, watchdog]].concat());
}
