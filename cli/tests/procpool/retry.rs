//! Running again what failed, and nothing else.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{Server, procpool, wait};

/// Starts a server whose function `read` returns the content of a file in a folder, and fails if there is none.
fn server_of(folder: &Path) -> Server {
    let function = format!("read=cat {}/{{}}", folder.display());
    let binary = env!("CARGO_BIN_EXE_procpool");
    let mut command = procpool(&["serve", "--listen", "127.0.0.1:0", "--processes", "2", "--"]);
    command.args([binary, "worker", "exec", "--function", &function]);
    Server::start_command(command)
}

/// Runs `read` over the list, appending to what earlier runs printed; returns the new lines.
fn retry(server: &Server, command: &[&str], folder: &Path, code: i32) -> Vec<Value> {
    let (list, out) = (folder.join("list"), folder.join("out.jsonl"));
    let before = std::fs::read_to_string(&out).unwrap_or_default().lines().count();
    let stdout = File::options().append(true).create(true).open(&out).unwrap();
    let options = ["--output", "json", "--each-line", list.to_str().unwrap(), "--retry-failed", out.to_str().unwrap()];
    let mut command = server.command(&[command, &options, &["read"]].concat());
    let child = command.stdout(stdout).stderr(Stdio::null()).spawn().unwrap();
    assert_eq!(wait(child).code(), Some(code));
    let text = std::fs::read_to_string(&out).unwrap();
    let mut lines: Vec<Value> = text.lines().skip(before).map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.sort_by_key(|line| line["index"].as_u64());
    lines
}

fn ok(index: u64) -> Value {
    json!({"index": index, "status": "ok", "result": format!("text {index}")})
}

fn indexes(lines: &[Value], status: &str) -> Vec<u64> {
    lines.iter().filter(|line| line["status"] == status).map(|line| line["index"].as_u64().unwrap()).collect()
}

#[test]
fn failed_and_missing_items_run_again_until_all_are_ok() {
    for command in [&["map"][..], &["imap"], &["imap", "--unordered"]] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let server = server_of(folder);
        let write = |index: u64| std::fs::write(folder.join(index.to_string()), format!("text {index}")).unwrap();
        let remove = |index: u64| std::fs::remove_file(folder.join(index.to_string())).unwrap();
        let list: String = (0..10).flat_map(|index: u64| [index.to_string(), "\n".to_owned()]).collect();
        std::fs::write(folder.join("list"), list).unwrap();
        [0, 1, 2, 4, 5, 8].into_iter().for_each(write);

        let lines = retry(&server, command, folder, 1);
        assert_eq!(indexes(&lines, "ok"), [0, 1, 2, 4, 5, 8]);
        assert_eq!(indexes(&lines, "failed"), [3, 6, 7, 9]);

        // Those that were ok would fail now, if they ran again. One is missing, as after a kill in the middle of a line.
        [0, 1, 2, 4].into_iter().for_each(remove);
        let kept = lines.iter().filter(|line| line["index"] != 5);
        let kept: String = kept.flat_map(|line| [line.to_string(), "\n".to_owned()]).collect();
        std::fs::write(folder.join("out.jsonl"), kept).unwrap();
        [3, 6, 9].into_iter().for_each(write);
        let lines = retry(&server, command, folder, 1);
        assert_eq!(indexes(&lines, "ok"), [3, 5, 6, 9]);
        assert_eq!(indexes(&lines, "failed"), [7]);

        write(7);
        assert_eq!(retry(&server, command, folder, 0), [ok(7)]);
        assert_eq!(retry(&server, command, folder, 0), [] as [Value; 0]);

        let all = std::fs::read_to_string(folder.join("out.jsonl")).unwrap();
        let mut done: Vec<Value> = all.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        done.retain(|line: &Value| line["status"] == "ok");
        done.sort_by_key(|line| line["index"].as_u64());
        assert_eq!(done, (0..10).map(ok).collect::<Vec<_>>());
    }
}

#[test]
fn what_an_earlier_run_printed_is_checked() {
    let server = Server::start(&["--processes", "1"]);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.jsonl");
    let name = out.to_str().unwrap();
    let ok = |index| format!("{{\"index\":{index},\"status\":\"ok\"}}\n");
    let failed = "{\"status\":\"failed\",\"index\":2}\n";
    let torn = "{\"index\":1,\"sta";
    for (text, code, stdout, stderr) in [
        (String::new(), 0, "10\n11\n12\n", String::new()),
        (ok(0) + "\n" + &ok(2), 0, "11\n", String::new()),
        (ok(1) + failed, 0, "10\n12\n", String::new()),
        (failed.to_owned() + &ok(2), 0, "10\n11\n", String::new()),
        (ok(2) + failed, 0, "10\n11\n", String::new()),
        (ok(0) + &ok(2) + torn, 0, "11\n", String::new()),
        (ok(0) + torn + "\n" + &ok(2), 0, "11\n", String::new()),
        (
            ok(0) + torn + &ok(2),
            2,
            "",
            format!("line 2 of {name} is no line of --output json: expected `:` at column 18"),
        ),
        (
            "1\n".to_owned(),
            2,
            "",
            format!(
                "line 1 of {name} is no line of --output json: invalid type: integer `1`, expected an object with index and status at \
                 column 1"
            ),
        ),
        (
            ok(0) + &ok(3),
            2,
            "",
            format!("{name} names item 3, but the list has 3 items, counted from 0; is it the right list?"),
        ),
    ] {
        std::fs::write(&out, &text).unwrap();
        let outcome = server.run(&["map", "echo", "10..12", "--retry-failed", name]).expect(code);
        let expected = if stderr.is_empty() { stderr } else { format!("procpool: {stderr}\n") };
        assert_eq!((outcome.stdout.as_str(), outcome.stderr), (stdout, expected), "{text:?}");
    }
    // More than one, and beside --only.
    let other = folder.path().join("other.jsonl");
    std::fs::write(&out, ok(0)).unwrap();
    std::fs::write(&other, ok(1)).unwrap();
    let both = ["--retry-failed", name, "--retry-failed", other.to_str().unwrap()];
    let outcome = server.run(&[&["imap", "echo", "10..13"][..], &both].concat()).expect(0);
    assert_eq!(outcome.stdout, "12\n13\n");
    let outcome = server.run(&[&["imap", "echo", "10..13", "--only", "0-2"][..], &both].concat()).expect(0);
    assert_eq!(outcome.stdout, "12\n");
}

#[test]
fn what_is_appended_begins_a_line() {
    let server = Server::start(&["--processes", "1"]);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.jsonl");
    let new = "{\"index\":1,\"status\":\"ok\",\"result\":11}\n";
    for (before, after) in [
        ("{\"index\":0,\"status\":\"ok\"}\n", ""),
        ("{\"index\":0,\"status\":\"ok\"}", "\n"),
        ("{\"index\":0,\"status\":\"ok\"}\n{\"index\":1,\"st", "\n"),
    ] {
        std::fs::write(&out, before).unwrap();
        let stdout = File::options().append(true).open(&out).unwrap();
        let args = ["imap", "echo", "10", "11", "--output", "json", "--retry-failed", out.to_str().unwrap()];
        assert_eq!(wait(server.command(&args).stdout(stdout).spawn().unwrap()).code(), Some(0));
        assert_eq!(std::fs::read_to_string(&out).unwrap(), format!("{before}{after}{new}"));
    }
}

#[test]
fn an_output_that_empties_what_it_is_to_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.jsonl");
    let stdout = File::create(&out).unwrap();
    let mut command = procpool(&["map", "echo", "1", "--retry-failed", out.to_str().unwrap()]);
    let output = command.stdout(stdout).stderr(Stdio::piped()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    let name = out.display();
    let expected = format!(
        "procpool: the shell has emptied {name} before this command could read it, since stdout goes there: what was in it is \
         gone. Append with `>> {name}`, or with `--output-file {name}`\n"
    );
    assert_eq!(stderr, expected);
    // Not emptied, but written over.
    std::fs::write(&out, "{\"index\":0,\"status\":\"ok\"}\n").unwrap();
    let stdout = File::options().write(true).open(&out).unwrap();
    let mut command = procpool(&["map", "echo", "1", "--retry-failed", out.to_str().unwrap()]);
    let output = command.stdout(stdout).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("is what stdout goes to, from its start"));
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "{\"index\":0,\"status\":\"ok\"}\n");
}

#[test]
fn an_output_file_is_appended_to_and_never_emptied() {
    let server = Server::start(&["--processes", "1"]);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.jsonl");
    let out = out.to_str().unwrap();
    // The same command the first time, when there is no file, and again.
    let output = ["--output", "json", "--output-file", out, "--retry-failed", out];
    for command in ["map", "imap"] {
        let outcome = server.run(&[&[command, "echo", "10..12", "--only", "0,2"][..], &output].concat()).expect(0);
        assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", ""));
        let lines = std::fs::read_to_string(out).unwrap();
        assert_eq!(lines.lines().count(), 2, "{lines}");
        std::fs::write(out, lines.trim_end()).unwrap();
        server.run(&[&[command, "echo", "10..12"][..], &output].concat()).expect(0);
        let lines = std::fs::read_to_string(out).unwrap();
        let last = r#"{"index":1,"status":"ok","result":11}"#;
        assert!(lines.lines().count() == 3 && lines.ends_with(&format!("\n{last}\n")), "{lines}");
        std::fs::remove_file(out).unwrap();
    }
    let nowhere = server.run(&["map", "echo", "1", "--output-file", "/no/such/folder/out"]).expect(2);
    assert_eq!(
        nowhere.stderr,
        "procpool: cannot write to /no/such/folder/out: No such file or directory (os error 2)\n"
    );
}
