//! What a program needs that starts a server of its own.

use std::process::{Command, Stdio};

use procpool_test_workers::path;
use rustix::process::{Signal, kill_process};

use crate::serve::wait_for_file;
use crate::support::{Server, is_gone, pid_of, procpool, run, wait};

#[expect(clippy::disallowed_methods, reason = "tests start processes")]
fn command(program: &str) -> Command {
    Command::new(program)
}

#[test]
fn it_ends_at_once_with_the_process_that_it_follows() {
    let folder = tempfile::tempdir().unwrap();
    let begun = folder.path().join("begun").to_str().unwrap().to_owned();
    let mut followed = command("sleep").arg("3600").spawn().unwrap();
    let (pid, worker) = (followed.id().to_string(), path("well_behaved"));
    let args = ["--processes", "2", "--drain-timeout", "1h", "--exit-with", &pid, "--", worker.to_str().unwrap()];
    let mut server = Server::start(&args);
    let item = serde_json::to_string(&[&begun, "/never"]).unwrap();
    let args = ["starmap", "--server", &server.address, "touch_and_wait", &item];
    let client = procpool(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for_file(&begun);
    let workers = server.workers();
    assert_eq!(workers.len(), 2);
    // It need not be reaped for that.
    kill_process(pid_of(&followed), Signal::KILL).unwrap();
    assert!(server.wait().success(), "{}", server.log());
    assert!(workers.iter().all(|worker| is_gone(*worker)));
    assert!(server.log().contains("--exit-with"), "{}", server.log());
    assert_eq!(wait(client).code(), Some(4), "the item had begun");
    followed.wait().unwrap();
}

#[test]
fn a_process_to_follow_must_be_there() {
    let mut gone = command("true").spawn().unwrap();
    gone.wait().unwrap();
    let pid = gone.id().to_string();
    let refused = run(&["serve", "--listen", "127.0.0.1:0", "--exit-with", &pid], "").expect(4);
    assert!(refused.stderr.contains(&format!("procpool: cannot exit with process {pid}: ")), "{refused:?}");
}
