//! Kills the server itself repeatedly, and looks for surviving processes.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fastrand::Rng;
use procpool_client::Client;
use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::plan::Language;
use crate::report::{print_server_kills, print_step};
use crate::server::{LOOK_INTERVAL, Programs, Server, pid, processes_of, slots};

/// How many servers run concurrently.
const NUM_SERVERS: usize = 3;
/// The time after which nothing may be left of a killed server.
const PROMISE: Duration = Duration::from_secs(1);

/// When a server is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// While its workers start.
    Starting,
    /// While its workers start children of their own.
    Working,
    /// When they have.
    Settled,
}

/// The processes left of a killed server.
#[derive(Debug)]
struct Remains {
    /// How long it took until nothing was left; `None` if something was left after [`PROMISE`].
    gone_after: Option<Duration>,
    /// The processes left then.
    left: Vec<String>,
}

/// Kills this many servers; returns whether nothing was left of any.
///
/// # Errors
///
/// If a server does not even start.
pub(crate) async fn run(programs: &Programs, kills: u64, seed: u64) -> Result<bool> {
    let mut rng = Rng::with_seed(seed);
    let mut rounds = JoinSet::new();
    let (mut num_done, mut num_with_remains, mut slowest) = (0, 0, Duration::ZERO);
    let mut moments = (0..kills).map(|_| match rng.u8(..4) {
        0 => Moment::Starting,
        1 => Moment::Working,
        _ => Moment::Settled,
    });
    loop {
        while rounds.len() < NUM_SERVERS {
            let Some(moment) = moments.next() else { break };
            let programs = programs.clone();
            rounds.spawn(async move { kill_one(&programs, moment).await });
        }
        let Some(round) = rounds.join_next().await else { break };
        let Remains { gone_after, left } = round??;
        num_done += 1;
        if let Some(time) = gone_after {
            slowest = slowest.max(time);
        } else {
            num_with_remains += 1;
            print_step(&format!("a second after a kill there were still {left:?}"));
        }
        if num_done % 100 == 0 {
            print_step(&format!("{num_done} servers killed, {num_with_remains} left something behind"));
        }
    }
    print_server_kills(seed, kills, num_with_remains, slowest);
    Ok(num_with_remains == 0)
}

async fn kill_one(programs: &Programs, moment: Moment) -> Result<Remains> {
    let directory = tempfile::Builder::new().prefix("procpool-chaos-").tempdir()?;
    let server = Server::start(programs, directory.path(), &[Language::Python], false).await?;
    let client = Client::connect(&server.address).await?;
    let items = vec![0; slots(Language::Python) as usize];
    let brood = client.map::<Vec<u32>>("python_brood", items).chunk_size(1).into_future();
    match moment {
        Moment::Starting => {}
        Moment::Working => {
            // In between: the first worker has reported that it starts children.
            let begun = directory.path().join("brood");
            let first_child = async {
                while !begun.exists() {
                    tokio::time::sleep(LOOK_INTERVAL).await;
                }
            };
            tokio::select! {
                () = first_child => {}
                families = brood => { families?; }
            }
        }
        Moment::Settled => {
            let families = brood.await.context("the workers could not start children")?;
            // Otherwise an empty result would prove nothing.
            let found = processes_of(directory.path())?;
            let missing: Vec<&u32> = families.iter().flatten().filter(|&process| !found.contains(process)).collect();
            ensure!(families.len() == slots(Language::Python) as usize, "{families:?}");
            ensure!(missing.is_empty(), "{missing:?} of {families:?} cannot be found");
        }
    }
    server.kill().await?;
    let killed = Instant::now();
    let mut left = processes_of(directory.path())?;
    while !left.is_empty() && killed.elapsed() < PROMISE {
        tokio::time::sleep(LOOK_INTERVAL).await;
        left = processes_of(directory.path())?;
    }
    let gone_after = left.is_empty().then(|| killed.elapsed());
    let described = left.iter().map(|&process| describe(process)).collect();
    for process in left {
        // They are identified by a folder that only this run uses.
        let _ = rustix::process::kill_process(pid(process)?, Signal::KILL);
    }
    Ok(Remains { gone_after, left: described })
}

fn describe(process: u32) -> String {
    let folder = Path::new("/proc").join(process.to_string());
    let read = |file: &str| std::fs::read(folder.join(file)).unwrap_or_default();
    // A dying process still has a name and a state, but no command line.
    let (stat, line) = (read("stat"), read("cmdline"));
    let stat: Vec<&[u8]> = stat.split(|byte| *byte == b' ').take(4).collect();
    format!("{}: {}", String::from_utf8_lossy(&stat.join(&b' ')), String::from_utf8_lossy(&line).replace('\0', " "))
}
