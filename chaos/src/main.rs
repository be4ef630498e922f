//! The chaos run: a real server, many clients, and a saboteur; afterwards every item is accounted for.
//!
//! `cargo xtask chaos` builds everything and starts it. The seed determines all decisions, the machine their timing: a
//! seed gives the same jobs, faults and signals, but not at the same moments.

mod checker;
mod client;
mod history;
mod plan;
mod report;
mod run;
mod saboteur;
mod server;
mod server_kills;
mod stopwatch;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::plan::Plan;
use crate::server::Programs;

#[derive(Debug, Parser)]
#[command(about = "Kills the workers of a real server and counts what became of every item")]
struct Arguments {
    /// How many workers are killed, stopped, or made to die.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    kills: u64,
    /// How many items the clients send.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    items: u64,
    /// Where all decisions come from; a new one each time if it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// The functions may be executed up to three times for an item.
    #[arg(long)]
    idempotent: bool,
    /// Instead of all that: kill the server so many times, and look for what is left of it a second later.
    #[arg(long, value_name = "N", conflicts_with_all = ["kills", "items", "idempotent"])]
    server_kills: Option<u64>,
    /// The Python of the workers; it needs protobuf.
    #[arg(long, default_value = "python3")]
    python: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { kills, items, seed, idempotent: is_idempotent, server_kills, python } = Arguments::parse();
    let seed = seed.unwrap_or_else(|| fastrand::u64(1..1_000_000));
    let passed = match (Programs::find(python), server_kills) {
        (Err(error), _) => Err(error),
        (Ok(programs), Some(kills)) => server_kills::run(&programs, kills, seed).await,
        (Ok(programs), None) => run::run(&programs, Plan { seed, kills, items, is_idempotent }).await,
    };
    match passed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            report::print_error(seed, &error);
            ExitCode::FAILURE
        }
    }
}
