//! `procpool serve --config`: files, several pools, what is printed and what is refused.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use procpool_test_workers::path;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;

use crate::support::{LIMIT, Outcome, Server, pid_of, procpool, run, wait};

/// A folder with a configuration file in it.
struct Folder {
    folder: tempfile::TempDir,
}

impl Folder {
    fn new(configuration: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("procpool.toml"), configuration).unwrap();
        Self { folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn file(&self) -> PathBuf {
        self.path().join("procpool.toml")
    }

    /// Starts a server with the file.
    fn serve(&self) -> Server {
        Server::start(&["--config", self.file().to_str().unwrap()])
    }

    /// Runs a server that does not come up.
    fn refused(&self, args: &[&str]) -> Outcome {
        let file = self.file();
        let mut all = vec!["serve", "--listen", "127.0.0.1:0", "--config", file.to_str().unwrap()];
        all.extend(args);
        run(&all, "")
    }
}

/// Returns a table of a pool whose workers register these functions.
fn pool(name: &str, functions: &[&str], more: &str) -> String {
    let words = [path("registers").to_str().unwrap()]
        .iter()
        .chain(functions)
        .map(|word| format!("{word:?}"))
        .collect::<Vec<_>>();
    format!("[pools.{name}]\ncommand = [{}]\n{more}\n", words.join(", "))
}

fn about(server: &Server, function: &str) -> Value {
    server.run(&["apply", function, "0", "--timeout", "30s"]).expect(0).values().remove(0)
}

/// Waits until the log has so many lines with this text.
fn wait_for_lines(server: &Server, text: &str, count: usize) {
    let began = Instant::now();
    while server.log().matches(text).count() < count {
        assert!(began.elapsed() < LIMIT, "the log has not said {text:?} {count} times: {}", server.log());
        std::thread::yield_now();
    }
}

#[test]
fn two_pools_serve_side_by_side() {
    let images =
        pool("images", &["resize"], "processes = 2\nenvironment = { MODEL = \"large\" }\nworking_directory = \"/\"");
    let text = pool("text", &["tokenize", "stem"], "processes = 1\npass_environment = [\"PASSED_*\"]");
    let folder = Folder::new(&format!("log_format = \"json\"\n{images}{text}"));
    let mut command = procpool(&["serve", "--listen", "127.0.0.1:0"]);
    command.env("PROCPOOL_CONFIG", folder.file()).env("PASSED_ON", "yes").env("HELD_BACK", "no");
    let mut server = Server::start_command(command);

    wait_for_lines(&server, "worker is ready", 3);

    let image_worker = about(&server, "resize");
    assert_eq!(image_worker["environment"]["MODEL"], "large");
    assert_eq!(image_worker["environment"]["PASSED_ON"], Value::Null);
    assert_eq!(image_worker["directory"], "/");
    let text_worker = about(&server, "tokenize");
    assert_eq!(text_worker["environment"]["PASSED_ON"], "yes");
    assert_eq!(text_worker["environment"]["HELD_BACK"], Value::Null);
    assert_eq!(text_worker["environment"]["MODEL"], Value::Null);
    assert_eq!(server.workers().len(), 3);

    let listed = server.run(&["functions"]).expect(0).stdout;
    assert_eq!(listed, "images  resize(…)\ntext    stem(…)\ntext    tokenize(…)\n");
    let pools: Vec<Value> = server.run(&["functions", "--json"]).expect(0).values();
    assert_eq!(pools.iter().map(|function| &function["pool"]).collect::<Vec<_>>(), ["images", "text", "text"]);
    let unknown = server.run(&["map", "tokenise", "1"]).expect(4);
    assert!(unknown.stderr.contains("\"tokenise\"") && unknown.stderr.contains("tokenize"), "{unknown:?}");
    let workers = server.run(&["workers", "--pool", "images"]).expect(0).stdout;
    assert!(workers.contains("2 slots"), "{workers}");
    let nameless = server.run(&["workers"]).expect(2);
    assert!(nameless.stderr.contains("images, text"), "{nameless:?}");

    assert!(server.stop(Signal::TERM).success());
    let log = server.log();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (pool, count) in [("images", 2), ("text", 1)] {
        let of_pool = |line: &&Value| line["message"] == "worker is ready" && line["span"]["pool"] == pool;
        assert_eq!(lines.iter().filter(of_pool).count(), count, "{pool}: {log}");
    }
}

#[test]
fn the_death_of_a_worker_concerns_its_own_pool_only() {
    let pools = pool("a", &["one"], "processes = 1") + &pool("b", &["two"], "processes = 1");
    let mut server = Folder::new(&pools).serve();
    let (one, two) = (about(&server, "one"), about(&server, "two"));
    let pid = |worker: &Value| Pid::from_raw(i32::try_from(worker["pid"].as_i64().unwrap()).unwrap()).unwrap();
    // Both are the first of their pool, with the same number: the care for orphans must tell them apart.
    assert_eq!(one["environment"]["PROCPOOL_WORKER_ID"], two["environment"]["PROCPOOL_WORKER_ID"]);
    for _ in 0..3 {
        let killed = pid(&about(&server, "two"));
        kill_process(killed, Signal::KILL).unwrap();
        let began = Instant::now();
        while test_kill_process(killed).is_ok() {
            assert!(began.elapsed() < LIMIT, "the dead worker was never reaped");
            std::thread::yield_now();
        }
        assert_ne!(pid(&about(&server, "two")), killed);
        assert_eq!(about(&server, "one")["pid"], one["pid"]);
    }
    assert!(server.stop(Signal::TERM).success(), "{}", server.log());
}

#[test]
fn sighup_replaces_the_workers_of_all_pools() {
    let pools = pool("a", &["one"], "processes = 1") + &pool("b", &["two"], "processes = 1");
    let mut server = Folder::new(&pools).serve();
    let before = ["one", "two"].map(|function| about(&server, function)["pid"].clone());
    kill_process(server.pid(), Signal::HUP).unwrap();
    wait_for_lines(&server, "workers have been replaced", 2);
    let after = ["one", "two"].map(|function| about(&server, function)["pid"].clone());
    assert!(before.iter().all(|pid| !after.contains(pid)), "{before:?} {after:?}");
    let replaced = server.run(&["restart"]).expect(0).stdout;
    assert_eq!(replaced, "2 workers replaced\n");
    assert!(server.stop(Signal::TERM).success());
}

#[test]
fn a_function_of_two_pools_is_an_error_at_the_start() {
    let pools = pool("a", &["one", "both"], "processes = 1") + &pool("b", &["both"], "processes = 1");
    let outcome = Folder::new(&pools).refused(&[]).expect(4);
    let last = outcome.stderr.lines().last().unwrap();
    insta::assert_snapshot!(last, @r#"procpool: the pools "a" and "b" both register the function "both": rename it in one of them, or leave it out"#);
}

/// A call that takes its time is not one that waits for a worker.
#[test]
fn a_long_call_to_one_of_two_pools_says_nothing_of_waiting() {
    let built_in =
        format!("[pools.built_in]\nprocesses = 1\ncommand = [{:?}, \"worker\"]\n", env!("CARGO_BIN_EXE_procpool"));
    let server = Folder::new(&(pool("a", &["one"], "processes = 1") + &built_in)).serve();
    wait_for_lines(&server, "worker is ready", 2);
    // Longer than a call goes before it asks why.
    let outcome = server.run(&["map", "sleep_ms", "3000"]).expect(0);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("3000\n", ""));
}

#[test]
fn a_call_that_waits_for_one_of_two_pools_says_for_which() {
    let slow = "[pools.slow]\nprocesses = 1\ncommand = [\"sleep\", \"600\"]\n";
    let server = Folder::new(&(pool("a", &["one"], "processes = 1") + slow)).serve();
    about(&server, "one");
    let mut waiting = procpool(&["map", "--server", &server.address, "two", "1"]);
    let mut waiting = waiting.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut notice = String::new();
    BufReader::new(waiting.stderr.as_mut().unwrap()).read_line(&mut notice).unwrap();
    kill_process(pid_of(&waiting), Signal::KILL).unwrap();
    wait(waiting);
    assert_eq!(notice, "procpool: the call waits: pool slow is starting: no worker has been ready yet\n");
    let health = server.run(&["health"]).expect(3);
    assert_eq!(health.stderr, "procpool: pool slow is starting: no worker has been ready yet\n");
}

#[test]
fn a_pool_that_cannot_start_leaves_the_others_at_work() {
    let broken = "[pools.broken]\nprocesses = 1\ncommand = [\"/no/such/program\"]\n";
    let server = Folder::new(&(pool("a", &["one"], "processes = 1") + broken)).serve();
    about(&server, "one");
    let unknown = server.run(&["map", "two", "1", "--timeout", "30s"]).expect(3);
    assert!(unknown.stderr.contains("pool \"broken\": ") && unknown.stderr.contains("/no/such/program"), "{unknown:?}");
    let health = server.run(&["health"]).expect(3);
    assert_eq!(health.stdout, "not serving\n", "a rollout stops here");
    assert!(health.stderr.starts_with("procpool: pool broken is "), "{health:?}");
    assert!(!health.stderr.contains("pool a is"), "{health:?}");
}

#[test]
fn the_effective_configuration_is_printed_without_secrets() {
    let folder = Folder::new(
        "drain_timeout = \"5s\"\n\n[pools.images]\ncommand = [\"python\", \"images.py\"]\nprocesses = 2\n\
         environment = { TOKEN = \"hunter2\" }\n\n[pools.text]\nprocesses = 1\n",
    );
    let mut command = procpool(&["serve", "--print-config", "--config", "procpool.toml", "--log-level", "warn"]);
    let output = command.current_dir(folder.path()).env("PROCPOOL_MAX_CONNECTIONS", "10").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    insta::assert_snapshot!("print_config", String::from_utf8(output.stdout).unwrap());
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn mistakes_end_the_server_before_it_starts() {
    let folder = Folder::new("lisen = []\n[pools.images]\nproceses = 2\n");
    let refused = folder.refused(&[]).expect(2);
    assert_eq!(refused.stdout, "");
    let text = refused.stderr.replace(folder.path().to_str().unwrap(), "…");
    insta::assert_snapshot!(text, @r#"
    procpool: unknown key "lisen" (…/procpool.toml:1); did you mean "listen"?
    procpool: unknown key "proceses" in [pools.images] (…/procpool.toml:3); did you mean "processes"?
    "#);
    let missing = run(&["serve", "--config", "/no/such.toml"], "").expect(2);
    assert_eq!(missing.stderr, "procpool: cannot read /no/such.toml: No such file or directory (os error 2)\n");
    let endless = run(&["serve", "--config", "/dev/zero"], "").expect(2);
    assert!(endless.stderr.contains("larger than 1 MiB"), "{endless:?}");
    let folder = Folder::new("[pools.a]\n[pools.b]\n");
    let refused = folder.refused(&["--processes", "2"]).expect(2);
    assert!(refused.stderr.contains("put \"processes\" into [pools.a] or [pools.b]"), "{refused:?}");
}
