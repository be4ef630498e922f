//! The project's own chores: `cargo xtask test` sets up what the tests need and runs everything, cheap checks first.

mod command;
#[cfg(test)]
mod design_rules;
mod fuzz;
mod measure;
mod metadata;
mod msrv;
mod native;
mod simulate;
mod sources;
mod steps;
mod tools;
mod wheel;

use std::num::NonZeroUsize;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::simulate::Simulation;

#[derive(Parser)]
#[command(about = "The project's own chores")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Set up what the tests need, and run everything.
    Test {
        /// Run only these steps.
        #[arg(long = "only", value_name = "STEP")]
        only: Vec<String>,
        /// List the steps and stop.
        #[arg(long)]
        list: bool,
    },
    /// Kill the workers of a real server under load, and account for every item; `chaos -- --help` tells more.
    Chaos {
        /// What the chaos run is told, such as --kills 200 --items 20000 --seed 7 --idempotent.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Set up what the tests need: a virtual environment, grpcurl, buf, cargo-nextest.
    Setup,
    /// Fuzz each target for a while, from the corpus in `fuzz/corpus`; fails if one finds something.
    Fuzz {
        /// Only these targets.
        targets: Vec<String>,
        /// How long each.
        #[arg(long, default_value_t = 60, value_name = "SECONDS")]
        seconds: u32,
    },
    /// Count each crate's lines of product code, without comments, blanks and tests, and list the circles of imports
    /// among its modules.
    Measure {
        /// Fail if one of these crates has a circle.
        #[arg(long, value_name = "CRATE", num_args = 1..)]
        fail_on_circles: Vec<String>,
    },
    /// Write the generated Python code anew.
    Generate,
    /// Build the native module of the Python package, and put it into the package in the source tree.
    Native {
        /// Optimised, as in a release.
        #[arg(long)]
        release: bool,
    },
    /// Build the Python package as a wheel, and run the tests of the pool with it in an environment of its own.
    Wheel,
    /// Run the simulations of the scheduler and of the pool's driver, optimised and with their checks, for these seeds;
    /// those that fail do not stop the others.
    Simulate {
        /// FIRST..END. One seed alone is printed step by step.
        #[arg(long, value_name = "SEEDS", default_value = "0..1000000")]
        seeds: String,
        /// Only this one.
        #[arg(long)]
        only: Option<Simulation>,
        /// How many processes run at once; by default one for each CPU.
        #[arg(long, value_name = "N")]
        processes: Option<NonZeroUsize>,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().chore {
        Chore::Test { list: true, .. } => {
            steps::list();
            Ok(())
        }
        Chore::Test { only, list: false } => steps::run(&only),
        Chore::Chaos { arguments } => {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            steps::chaos_run(&tools::set_up()?, &arguments)
        }
        Chore::Setup => tools::set_up().map(drop),
        Chore::Fuzz { targets, seconds } => fuzz::run(&targets, seconds),
        Chore::Measure { fail_on_circles } => measure::run(&fail_on_circles),
        Chore::Generate => tools::set_up()?.generate_python(),
        Chore::Native { release } => native::build(release),
        Chore::Wheel => wheel::test(&tools::set_up()?),
        Chore::Simulate { seeds, only, processes } => {
            let processes = processes.or_else(|| std::thread::available_parallelism().ok());
            simulate::run(&seeds, only, processes.map_or(1, NonZeroUsize::get))
        }
    }
}
