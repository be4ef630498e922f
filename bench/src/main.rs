//! Measures a whole server under load, in separate processes: `cargo run --release -p procpool-bench -- overload`.
//!
//! Prints a table, and exits with 1 if a bound is violated that does not depend on the speed of the machine. The
//! program is its own server (`serve`) and its own worker (`worker`).

mod overload;
mod row;
mod server;
mod sleeping_reader;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use self::row::Row;

const USAGE: &str = "usage: procpool-bench overload [SECONDS] | sleeping-reader [ITEMS] [SECONDS]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|role| role == "worker") {
        return server::work();
    }
    match run(&arguments) {
        Ok(rows) => print_table(&rows),
        Err(error) => {
            print_line(&format!("{error:#}"));
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &[String]) -> Result<Vec<Row>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let number = |position: usize, default: u64| match arguments.get(position) {
        Some(text) => text.parse().with_context(|| format!("{text:?} is no number; {USAGE}")),
        None => Ok(default),
    };
    match arguments.first().map(String::as_str) {
        Some("serve") => runtime.block_on(server::serve()).map(|()| Vec::new()),
        Some("overload") => runtime.block_on(overload::run(Duration::from_secs(number(1, 30)?))),
        Some("sleeping-reader") => {
            runtime.block_on(sleeping_reader::run(number(1, 10_000_000)?, Duration::from_secs(number(2, 60)?)))
        }
        _ => bail!(USAGE),
    }
}

fn print_table(rows: &[Row]) -> ExitCode {
    let mut is_well = true;
    for Row { name, figure, bound } in rows {
        let bound = bound.as_ref().map_or(String::new(), |(bound, holds)| {
            is_well &= holds;
            format!("{} ({bound})", if *holds { "ok" } else { "BROKEN" })
        });
        print_line(&format!("{name:34} {figure:>24}   {bound}"));
    }
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::print_stdout, reason = "this is what was asked for")]
fn print_line(line: &str) {
    println!("{line}");
}
