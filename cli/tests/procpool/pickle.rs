//! `procpool serve --allow-pickle`: who may register functions that run what clients send.

use procpool_test_workers::path;
use serde_json::Value;

use crate::support::{Server, run};

/// Starts a server whose workers register this function.
fn serve(function: &str, args: &[&str]) -> Server {
    let worker = path("registers");
    Server::start(&[&["--processes", "1"], args, &["--", worker.to_str().unwrap(), function]].concat())
}

fn environment(server: &Server, function: &str) -> Value {
    server.run(&["apply", function, "0"]).expect(0).values().remove(0)["environment"].take()
}

#[test]
fn workers_may_register_reserved_names_and_are_told_so() {
    let server = serve("procpool:map", &["--allow-pickle"]);
    assert_eq!(environment(&server, "procpool:map")["PROCPOOL_ALLOW_PICKLE"], "1");
    let server = serve("about_me", &[]);
    assert_eq!(environment(&server, "about_me").get("PROCPOOL_ALLOW_PICKLE"), None);
}

#[test]
fn without_it_a_worker_with_a_reserved_name_never_starts() {
    let server = serve("procpool:map", &["--environment", "PROCPOOL_ALLOW_PICKLE=1"]);
    let refused = server.run(&["map", "procpool:map", "1", "--no-retry"]).expect(3);
    assert!(refused.stderr.contains(r#"registered the function "procpool:map""#), "{refused:?}");
    assert!(refused.stderr.contains("(allow_pickle)"), "{refused:?}");
}

#[test]
fn a_call_by_value_to_a_server_without_it_says_how_to_allow_it() {
    let server = serve("about_me", &[]);
    let refused = server.run(&["map", "procpool:map", "1"]).expect(4);
    assert!(refused.stderr.contains("start the server with --allow-pickle"), "{refused:?}");
}

#[test]
fn it_is_refused_where_other_machines_can_call() {
    let args = ["serve", "--listen", "127.0.0.1:0", "--listen", "0.0.0.0:0", "--allow-pickle"];
    let refused = run(&args, "").expect(2);
    assert!(refused.stderr.contains("allow_pickle in [pools.default] (--allow-pickle): whoever can reach 0.0.0.0:0"));
    let refused = run(&["serve", "--listen", "0.0.0.0:0", "--allow-pickle=maybe"], "").expect(2);
    assert!(refused.stderr.contains(r#""maybe" is neither true nor false"#), "{refused:?}");
}

#[test]
fn one_pool_may_allow_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("procpool.toml");
    std::fs::write(&file, "[pools.a]\nallow_pickle = true\n[pools.b]\nallow_pickle = true\n").unwrap();
    let refused = run(&["serve", "--listen", "127.0.0.1:0", "--config", file.to_str().unwrap()], "").expect(2);
    assert!(refused.stderr.contains("[pools.b] allows pickles, too"), "{refused:?}");
}
