//! What a program needs that starts a server of its own.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use procpool_test_workers::path;
use rustix::process::{Signal, kill_process};

use crate::serve::wait_for_file;
use crate::support::{LIMIT, Outcome, Server, is_gone, pid_of, procpool, procpool_after, run, wait};

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

/// A server on a Unix socket that tells through descriptor 3 that it listens, and prints what its workers print.
struct PrivateServer {
    child: Child,
    folder: tempfile::TempDir,
}

impl PrivateServer {
    fn start(args: &[&str], stdout: Stdio) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (socket, file) = (folder.path().join("socket"), |name: &str| folder.path().join(name));
        let mut command = procpool_after(r#"exec 3>"$READY""#, &["serve", "--ready-fd", "3", "--log-level", "error"]);
        command.args(["--worker-output", "inherit", "--listen", &format!("unix:{}", socket.display())]).args(args);
        let stderr = std::fs::File::create(file("stderr")).unwrap();
        let child = command.env("READY", file("ready")).stdout(stdout).stderr(stderr).spawn().unwrap();
        let server = Self { child, folder };
        let began = Instant::now();
        while server.read("ready") != format!("listening on {}\n", server.address()) {
            assert!(began.elapsed() < LIMIT, "{:?}: {}", server.read("ready"), server.read("stderr"));
            std::thread::sleep(Duration::from_millis(1));
        }
        server
    }

    fn address(&self) -> String {
        format!("unix:{}", self.folder.path().join("socket").display())
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    fn run(&self, args: &[&str]) -> Outcome {
        run(&[&args[..1], &["--server", &self.address()], &args[1..]].concat(), "")
    }

    /// Stops the server; returns what it wrote to stderr.
    fn stop(mut self) -> String {
        kill_process(pid_of(&self.child), Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
        self.read("stderr")
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        // It has ended, unless the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_workers_print_is_printed_complete_and_unchanged() {
    let worker = path("floods_stderr");
    let server = PrivateServer::start(&["--processes", "2", "--", worker.to_str().unwrap()], Stdio::null());
    server.run(&["map", "--chunk-size", "1", "flood_lines", "5000", "5000"]).expect(0);
    let stderr = server.stop();
    let mut lines: Vec<&str> = stderr.lines().collect();
    let expected = (0..5000).map(|index| format!("line {index}")).flat_map(|line| [line.clone(), line]);
    let mut expected: Vec<String> = expected.collect();
    lines.sort_unstable();
    expected.sort_unstable();
    assert_eq!(lines.len(), expected.len());
    assert!(lines.iter().eq(&expected), "a line is torn");
}

#[test]
fn a_worker_waits_for_whoever_reads_its_lines_and_nothing_else_does() {
    let worker = path("floods_stderr");
    let mut server = PrivateServer::start(&["--processes", "2", "--", worker.to_str().unwrap()], Stdio::piped());
    let mut stdout = server.child.stdout.take().unwrap();
    let address = server.address();
    let flood = procpool(&["map", "--server", &address, "flood", "10000000"]).stdout(Stdio::null()).spawn().unwrap();
    // Some of it is there, and so what is not read waits.
    stdout.read_exact(&mut [0; 1]).unwrap();
    server.run(&["map", "echo", "1"]).expect(0);
    server.run(&["health"]).expect(0);
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        stdout.read_to_end(&mut text).unwrap();
        text
    });
    assert!(wait(flood).success());
    let stderr = server.stop();
    let text = reader.join().unwrap();
    assert_eq!((text.len(), stderr.len()), (9_999_999, 10_000_000));
    assert!(text.iter().all(|&byte| byte == b'x'));
}

#[test]
fn the_last_words_of_a_worker_are_printed_and_told() {
    let script = r"echo one >&2; printf '\033[1mlast words' >&2; exit 3";
    let server = PrivateServer::start(&["--processes", "1", "--", "sh", "-c", script], Stdio::null());
    let refused = server.run(&["map", "echo", "1", "--no-retry"]).expect(3);
    assert!(refused.stderr.contains(r"exited with code 3: \u{1b}[1mlast words"), "{refused:?}");
    let stderr = server.stop();
    assert!(stderr.contains("one\n\x1b[1mlast words"), "{stderr:?}");
}

#[test]
fn the_descriptor_that_tells_that_it_listens_is_closed_then() {
    let folder = tempfile::tempdir().unwrap();
    let address = format!("unix:{}", folder.path().join("socket").display());
    let args = ["serve", "--processes", "1", "--listen", &address, "--ready-fd", "3"];
    let mut command = procpool_after("exec 3>&1 >&2", &args);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // To its end, though server, worker and watchdog live.
    let told = std::io::read_to_string(child.stdout.take().unwrap()).unwrap();
    assert_eq!(told, format!("listening on {address}\n"));
    run(&["map", "--server", &address, "echo", "1"], "").expect(0);
    kill_process(pid_of(&child), Signal::TERM).unwrap();
    assert!(wait(child).success());

    let refused = run(&["serve", "--listen", "127.0.0.1:0", "--ready-fd", "999"], "").expect(2);
    assert!(refused.stderr.contains("cannot use descriptor 999 (--ready-fd): "), "{refused:?}");
}

#[test]
fn a_process_to_follow_must_be_there() {
    let mut gone = command("true").spawn().unwrap();
    gone.wait().unwrap();
    let pid = gone.id().to_string();
    let refused = run(&["serve", "--listen", "127.0.0.1:0", "--exit-with", &pid], "").expect(4);
    assert!(refused.stderr.contains(&format!("procpool: cannot exit with process {pid}: ")), "{refused:?}");
}
