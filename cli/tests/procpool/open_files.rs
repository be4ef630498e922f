//! The limit of open files: connections cannot take what workers need.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use procpool_client::Client;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{LIMIT, Server, is_gone, procpool_after};

fn start(line: &str, args: &[&str]) -> Server {
    let serve = ["serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--processes", "2"];
    Server::start_command(procpool_after(line, &[&serve[..], args].concat()))
}

/// Returns the soft and the hard limit of a process.
fn limits(process: Pid) -> [String; 2] {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.as_raw_nonzero())).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let mut fields = line.split_whitespace().map(str::to_owned);
    [fields.next().unwrap(), fields.next().unwrap()]
}

fn num_sockets(process: Pid) -> usize {
    let files = std::fs::read_dir(format!("/proc/{}/fd", process.as_raw_nonzero())).unwrap().flatten();
    let targets = files.filter_map(|file| std::fs::read_link(file.path()).ok());
    targets.filter(|target| target.as_os_str().as_encoded_bytes().starts_with(b"socket:")).count()
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < LIMIT, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn silent_connections_leave_files_for_workers() {
    let mut server = start("ulimit -n 64", &["--first-byte-timeout", "1h"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = runtime.block_on(Client::connect(&server.address)).unwrap();
    let echo = || runtime.block_on(client.map::<u32>("sleep_ms", [1, 2]).into_future());
    assert_eq!(echo().unwrap(), [1, 2]);

    let warning: Value = server
        .log()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .find(|line: &Value| line["level"] == "WARN")
        .unwrap();
    let connections = warning["connections"].as_u64().unwrap_or_else(|| panic!("{warning}"));
    let sockets = num_sockets(server.pid());
    let address = server.address.clone();
    let silent: Vec<TcpStream> = (0..80).map(|_| TcpStream::connect(&address).unwrap()).collect();
    // The client has one, and one more is accepted and waits for its place.
    let full = sockets + usize::try_from(connections).unwrap();
    wait_until("there are as many connections as there may be", || num_sockets(server.pid()) == full);

    let workers = server.workers();
    assert_eq!(workers.len(), 2);
    for &worker in &workers {
        kill_process(worker, Signal::KILL).unwrap();
    }
    wait_until("the workers are gone", || workers.iter().all(|&worker| is_gone(worker)));
    assert_eq!(echo().unwrap(), [1, 2]);
    assert!(!server.log().contains("could not be started"), "{}", server.log());
    drop(silent);
    server.stop(Signal::KILL);
}

#[test]
fn the_server_takes_the_hard_limit_and_its_workers_keep_the_soft_one() {
    let server = start("ulimit -Sn 200 && ulimit -Hn 500", &[]);
    server.run(&["map", "sleep_ms", "1"]).expect(0);
    assert_eq!(limits(server.pid()), ["500", "500"]);
    let workers = server.workers();
    assert!(!workers.is_empty());
    for worker in workers {
        assert_eq!(limits(worker), ["200", "500"]);
    }
}
