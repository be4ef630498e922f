//! A correct worker whose functions misbehave on request.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use procpool_test_workers::{resident_bytes, start_watchdog, wait_until};
use procpool_worker::{Common, Function, Worker, cancelled};
use rustix::process::Signal;
use serde_json::Value;

fn main() -> ExitCode {
    start_watchdog();
    Worker::new()
        .register(
            Function::new("echo", |item: Value| item)
                .doc("Returns what it is given.")
                .signature("(item)")
                .example(r#"{"function":"echo","values":[1,2,3]}"#)
                .idempotent(),
        )
        .register(Function::new("power", |base: f64, exponent: f64| base.powf(exponent)).signature("(base, exponent)"))
        .function("pair", |common: Common<Value>, item: Value| ((*common).clone(), item))
        .function("analyze_match", |id: u64| format!("Result for Match #{id}: Analysis Clear"))
        .function("repeat", |count: usize| "x".repeat(count))
        .function("repeat_or_measure", |count: usize| match count {
            0 => Value::from(resident_bytes(std::process::id())),
            count => Value::from("x".repeat(count)),
        })
        .function("nan", |_: Value| f64::NAN)
        .function("pid", |_: Value| std::process::id())
        .function("environment", |_: Value| environment())
        .try_function("open_files", |_: Value| open_files())
        .try_function("raise", |message: String| -> Result<(), String> { Err(message) })
        .try_function("raise_error", |message: String| -> Result<(), String> { Err(message) })
        .function("panic", |message: String| -> () { panic!("{message}") })
        .function("sleep_ms", |milliseconds: u64| thread::sleep(Duration::from_millis(milliseconds)))
        .try_function("append_line", |path: String, line: String| append_line(&path, &line))
        .try_function("count_to_file", |path: String| append_line(&path, &std::process::id().to_string()))
        .try_function("touch", |path: String| std::fs::write(path, b""))
        .function("wait_for_file", |path: String| wait_for_file(&path))
        .try_function("touch_and_wait", |touched: String, awaited: String| {
            std::fs::write(touched, b"").map(|()| wait_for_file(&awaited))
        })
        .function("wait_until_cancelled", |_: Value| wait_until("it is cancelled", cancelled))
        .try_function("touch_and_wait_until_cancelled", |path: String| {
            std::fs::write(path, b"").map(|()| wait_until("it is cancelled", cancelled))
        })
        .function("print", |text: String| print(&text))
        .function("crash", |_: Value| die_by(Signal::KILL))
        .function("crash_with", |_: Common<Value>, _: Value| die_by(Signal::KILL))
        .function("crash_if", |is_poison: bool| {
            if is_poison {
                die_by(Signal::KILL);
            }
        })
        .function("segfault", |_: Value| die_by(Signal::SEGV))
        .function("abort", |_: Value| -> () { std::process::abort() })
        .function("exit", |code: i32| exit(code))
        .function("exit_zero", |_: Value| exit(0))
        .function("grow", |_: Value| -> () {
            let mut held = Vec::new();
            loop {
                // Not zeros: those would take no memory.
                held.push(vec![1_u8; 16 << 20]);
                thread::sleep(Duration::from_millis(10));
            }
        })
        .function("hang", |_: Value| -> () {
            loop {
                thread::sleep(Duration::from_secs(1));
            }
        })
        .bytes_function("reverse", |blob: Bytes| Ok::<_, String>(blob.iter().rev().copied().collect::<Vec<u8>>()))
        .bytes_function("echo_bytes", Ok::<Bytes, String>)
        .main()
}

fn environment() -> BTreeMap<String, String> {
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect()
}

/// Returns what each open descriptor refers to, by its number.
fn open_files() -> std::io::Result<BTreeMap<String, String>> {
    let paths: Vec<_> =
        std::fs::read_dir("/proc/self/fd")?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    let mut files = BTreeMap::new();
    for path in paths {
        // The descriptor of the directory itself is closed by now.
        if let (Ok(target), Some(number)) = (std::fs::read_link(&path), path.file_name()) {
            files.insert(number.to_string_lossy().into_owned(), target.to_string_lossy().into_owned());
        }
    }
    Ok(files)
}

fn append_line(path: &str, line: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    // One write, so that lines of several workers do not mix.
    file.write_all(format!("{line}\n").as_bytes())
}

fn wait_for_file(path: &str) {
    wait_until(path, || std::fs::exists(path).unwrap_or(false));
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "stdout and stderr belong to the function")]
fn print(text: &str) {
    println!("{text}");
    eprintln!("{text}");
}

fn die_by(signal: Signal) {
    // The first SIGSEGV goes to a handler of Rust's that looks for a stack overflow and lets the next one kill.
    wait_until("the signal ends the process", || {
        rustix::process::kill_process(rustix::process::getpid(), signal).expect("a process may end itself");
        false
    });
}

#[expect(clippy::exit, reason = "a function that exits is what the pool must survive")]
fn exit(code: i32) {
    std::process::exit(code)
}
