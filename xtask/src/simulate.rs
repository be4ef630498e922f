//! The simulations of the scheduler and of the pool's driver, optimised and with their checks, over many seeds.
//!
//! The seeds are cut into pieces, which processes run side by side. A process ends with the first seed that fails; the
//! rest of its piece is run by another one, so that one command sees every seed.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use serde_json::Value;

use crate::command::{command, root, run as exec};

/// With so many seeds, the tests check as well that everything which can happen did.
const PIECE: u64 = 10_000;
/// No piece may take longer: what hangs is a failure, too.
const PIECE_LIMIT: &str = "2h";
/// What the tests say of a seed that fails, in front of its number.
const SEED_MARKS: [&str; 2] = ["replay it with the world of ", "replay it with: cargo xtask simulate --seeds "];

/// Which simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Simulation {
    /// The state machine alone, against a naive model.
    Scheduler,
    /// The driver and all that is between a caller and a worker.
    Driver,
}

impl Simulation {
    fn package(self) -> &'static str {
        match self {
            Self::Scheduler => "procpool-scheduler",
            Self::Driver => "procpool-pool",
        }
    }

    /// The test that takes its seeds from outside.
    fn test(self) -> &'static str {
        match self {
            Self::Scheduler => "short_runs_keep_every_promise",
            Self::Driver => "every_schedule_keeps_every_promise",
        }
    }
}

/// How a piece ended.
struct Report {
    seeds: Range<u64>,
    /// How many of them have passed.
    passed: u64,
    failure: Option<Failure>,
}

struct Failure {
    /// `None` if it is not one seed that failed.
    seed: Option<u64>,
    log: PathBuf,
}

/// Runs these simulations, or both, for the seeds `FIRST..END` on so many processes at once.
///
/// # Errors
///
/// If `seeds` is no range, a simulation can't be built, or a promise is broken; the output names the seeds.
#[expect(clippy::print_stderr, reason = "people watch this")]
pub(crate) fn run(seeds: &str, only: Option<Simulation>, processes: usize) -> Result<()> {
    let seeds = parse(seeds)?;
    let mut summary = String::new();
    let mut has_failed = false;
    for simulation in
        Simulation::value_variants().iter().copied().filter(|wanted| only.is_none_or(|only| only == *wanted))
    {
        let program = build(simulation)?;
        if seeds.end - seeds.start == 1 {
            // One is replayed, and looked at.
            exec(piece(&program, simulation, &seeds).stderr(Stdio::inherit()))?;
            continue;
        }
        let failures = run_pieces(simulation, &program, &seeds, processes)?;
        has_failed |= !failures.is_empty();
        writeln!(summary, "{simulation:?}: {} seeds, {} failures", seeds.end - seeds.start, failures.len())?;
        for Failure { seed, log } in failures {
            let what = seed.map_or_else(|| "no seed of its own".to_owned(), |seed| format!("seed {seed}"));
            writeln!(summary, "  {what}: {}", log.display())?;
        }
    }
    eprint!("{summary}");
    ensure!(!has_failed, "a promise is broken; replay a seed with: cargo xtask simulate --seeds SEED..NEXT");
    Ok(())
}

fn parse(seeds: &str) -> Result<Range<u64>> {
    let range = seeds.split_once("..").and_then(|(first, end)| Some(first.parse().ok()?..end.parse().ok()?));
    match range {
        Some(range) if !range.is_empty() => Ok(range),
        _ => bail!("{seeds:?} is no range of seeds such as 0..1000000"),
    }
}

/// Builds a simulation with the checks that the tests of the scheduler have, too, and returns the program.
fn build(simulation: Simulation) -> Result<PathBuf> {
    let mut build = command(env!("CARGO"));
    build.args(["test", "--release", "--locked", "--no-run", "--message-format", "json-render-diagnostics"]);
    build.args(["--package", simulation.package(), "--test", "simulation"]);
    build.args(["--config", "profile.release.debug-assertions=true"]).stderr(Stdio::inherit());
    let output = build.output()?;
    ensure!(output.status.success(), "the simulation of the {simulation:?} does not build");
    let messages = String::from_utf8(output.stdout)?;
    let mut programs =
        messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).filter_map(|message| {
            let is_simulation = message["target"]["name"] == "simulation";
            is_simulation.then(|| message["executable"].as_str().map(PathBuf::from)).flatten()
        });
    programs.next().context("cargo did not say where it built the simulation")
}

/// Returns what runs some seeds, with its output captured.
fn piece(program: &PathBuf, simulation: Simulation, seeds: &Range<u64>) -> std::process::Command {
    let mut piece = command("timeout");
    piece.args(["--kill-after=10s", PIECE_LIMIT]).arg(program).args(["--exact", simulation.test(), "--nocapture"]);
    piece.env("PROCPOOL_SEEDS", format!("{}..{}", seeds.start, seeds.end));
    piece
}

/// Runs every seed, and returns what failed.
fn run_pieces(simulation: Simulation, program: &PathBuf, seeds: &Range<u64>, processes: usize) -> Result<Vec<Failure>> {
    let (total, started) = (seeds.end - seeds.start, Instant::now());
    let length = PIECE.min(total.div_ceil(processes as u64));
    let cut = |first: u64| first..seeds.end.min(first + length);
    let starts = (seeds.start..seeds.end).step_by(usize::try_from(length)?);
    let queue = Mutex::new(starts.map(cut).collect::<VecDeque<_>>());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    std::thread::scope(|scope| {
        let (sender, reports) = channel();
        for _ in 0..processes {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while let Some(mut seeds) = next() {
                    while !seeds.is_empty() {
                        let report = run_piece(simulation, program, &seeds);
                        seeds.start = report.as_ref().map_or(seeds.end, |report| report.seeds.end);
                        if sender.send(report).is_err() {
                            return;
                        }
                    }
                }
            });
        }
        drop(sender);
        watch(simulation, &reports, total, started)
    })
}

/// Prints how far it has come, until every piece has ended; returns what failed.
#[expect(clippy::print_stderr, reason = "people watch this")]
#[expect(clippy::cast_precision_loss, reason = "people read this")]
fn watch(
    simulation: Simulation,
    reports: &Receiver<Result<Report>>,
    total: u64,
    started: Instant,
) -> Result<Vec<Failure>> {
    let (mut done, mut failures) = (0, Vec::new());
    for report in reports {
        let Report { seeds, passed, failure } = report?;
        done += seeds.end - seeds.start;
        if let Some(Failure { seed, log }) = &failure {
            let seed = seed.map_or_else(|| "?".to_owned(), |seed| seed.to_string());
            eprintln!("{simulation:?}: seed {seed} FAILED after {passed} of its piece: {}", log.display());
        }
        failures.extend(failure);
        let rate = done as f64 / started.elapsed().as_secs_f64();
        let left = (total - done) as f64 / rate;
        eprintln!(
            "{simulation:?}: {done} of {total} seeds, {rate:.0} a second, {left:.0} s left, {} failures",
            failures.len()
        );
    }
    ensure!(done == total, "only {done} of {total} seeds were run");
    Ok(failures)
}

/// Runs seeds up to the first that fails.
fn run_piece(simulation: Simulation, program: &PathBuf, seeds: &Range<u64>) -> Result<Report> {
    let Output { status, mut stdout, stderr } = piece(program, simulation, seeds).output()?;
    if status.success() {
        return Ok(Report { seeds: seeds.clone(), passed: seeds.end - seeds.start, failure: None });
    }
    stdout.extend(stderr);
    let seed = failed_seed(&String::from_utf8_lossy(&stdout)).filter(|seed| seeds.contains(seed));
    let folder = root().join("target/simulate");
    fs::create_dir_all(&folder)?;
    let log = folder.join(format!("{simulation:?}-{}.log", seed.unwrap_or(seeds.start)).to_lowercase());
    fs::write(&log, stdout)?;
    let end = seed.map_or(seeds.end, |seed| seed + 1);
    let passed = seed.map_or(0, |seed| seed - seeds.start);
    Ok(Report { seeds: seeds.start..end, passed, failure: Some(Failure { seed, log }) })
}

/// Returns the seed that the output names.
fn failed_seed(output: &str) -> Option<u64> {
    let rest = SEED_MARKS.iter().find_map(|mark| output.split_once(mark)).map(|(_, rest)| rest)?;
    rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Simulation, failed_seed, parse, root, run_pieces};

    #[test]
    fn what_fails_does_not_stop_the_other_seeds() {
        let program = root().join("xtask/testdata/simulation.sh");
        let mut failures = run_pieces(Simulation::Scheduler, &program, &(0..60), 3).unwrap();
        failures.sort_by_key(|failure| failure.seed);
        assert_eq!(failures.iter().map(|failure| failure.seed).collect::<Vec<_>>(), [None, Some(13)]);
        let log = std::fs::read_to_string(&failures[1].log).unwrap();
        assert_eq!(log, "replay it with the world of 13 and 150 steps\n");
    }

    #[test]
    fn the_seed_is_read_off_what_either_simulation_says() {
        assert_eq!(failed_seed("thread panicked:\nreplay it with the world of 4711 and 150 steps\n"), Some(4711));
        assert_eq!(failed_seed("replay it with: cargo xtask simulate --seeds 17..18\n"), Some(17));
        assert_eq!(failed_seed("[Lost] never happened"), None);
    }

    #[test]
    fn a_range_has_a_first_and_an_end() {
        assert_eq!(parse("3..7").unwrap(), 3..7);
        for wrong in ["", "3", "7..3", "3..3", "a..b", "3..=7"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
