//! Fuzzing: every target for a while, from the corpus in the repository.
//!
//! cargo-fuzz wants a nightly toolchain for the flags of the sanitizer and the coverage counters. The stable one has
//! both, and takes the flags when `RUSTC_BOOTSTRAP` says so.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::command::{command, root, run as exec};

const TARGETS: [&str; 4] = ["frame_decoder", "item_slab", "request_validator", "worker_session"];
const CARGO_FUZZ: &str = "0.13.2";
/// No input may take longer than this, nor more memory.
const INPUT_SECONDS: u32 = 10;
const MEMORY_MIB: u32 = 1024;

/// Runs these targets, or all, for so many seconds each. What is new stays in the corpus, for the next run.
///
/// # Errors
///
/// If a target does not build, or with the first that finds something; libFuzzer has said what by then, and
/// `fuzz/artifacts` has the input.
#[expect(clippy::print_stderr, reason = "people watch this")]
pub(crate) fn run(targets: &[String], seconds: u32) -> Result<()> {
    for target in targets {
        ensure!(TARGETS.contains(&target.as_str()), "there is no target {target:?}, only {}", TARGETS.join(", "));
    }
    let cargo_fuzz = install()?;
    let wanted = |target: &str| targets.is_empty() || targets.iter().any(|wanted| wanted == target);
    for target in TARGETS.into_iter().filter(|target| wanted(target)) {
        eprintln!("\n=== {target}: {seconds} s");
        let limits = [
            format!("-max_total_time={seconds}"),
            format!("-timeout={INPUT_SECONDS}"),
            format!("-rss_limit_mb={MEMORY_MIB}"),
        ];
        // Looking for leaks takes ptrace, which containers forbid; that tasks end is for the harnesses to see.
        let mut fuzz = command(&cargo_fuzz);
        fuzz.args(["run", target, "--", "-print_final_stats=1", "-detect_leaks=0"]).args(limits);
        // Its own folder: other flags would have everything else built anew.
        fuzz.env("ASAN_OPTIONS", "detect_leaks=0")
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_TARGET_DIR", root().join("target/fuzz"));
        exec(&mut fuzz).with_context(|| {
            format!(
                "{target} found something; run it again with: cargo xtask fuzz {target}, or the input alone as \
                     libFuzzer said above, with RUSTC_BOOTSTRAP=1"
            )
        })?;
    }
    Ok(())
}

/// Compiles the targets as far as types are checked, without sanitizer, libFuzzer and linking: that is what a change of
/// the code that they call breaks.
///
/// # Errors
///
/// If one does not compile, or `fuzz/Cargo.lock` lags behind.
pub(crate) fn check() -> Result<()> {
    let arguments = ["check", "--locked", "--no-default-features", "--manifest-path", "fuzz/Cargo.toml"];
    let mut check = command(env!("CARGO"));
    // Its own folder: with other flags, everything else would be built anew.
    check.args(arguments).env("RUSTFLAGS", "--cfg fuzzing -D warnings");
    exec(check.env("CARGO_TARGET_DIR", root().join("target/fuzz-check"))).context(
        "a target does not compile; if its lock is out of date: cargo metadata --manifest-path fuzz/Cargo.toml",
    )
}

/// Installs cargo-fuzz below `target/` if it is not there, and returns where it is.
fn install() -> Result<PathBuf> {
    let tools = root().join("target/tools");
    let program = tools.join("bin/cargo-fuzz");
    if !is_installed(&program) {
        exec(
            command(env!("CARGO"))
                .args(["install", "--locked", "--version", CARGO_FUZZ, "--root"])
                .arg(&tools)
                .arg("cargo-fuzz"),
        )?;
    }
    Ok(program)
}

fn is_installed(program: &Path) -> bool {
    let output = command(program).arg("--version").output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(CARGO_FUZZ))
}
