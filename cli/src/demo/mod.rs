//! `procpool demo`: what a pool does, shown on a server of its own.
//!
//! The server runs in this process on a private Unix socket, the workers are its children, and the calls go through the
//! real client. The exit code is 0 only if all that was promised held.

mod screen;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use procpool_client::Client;
use procpool_pool::PoolConfig;
use procpool_pool::supervisor::ProcessSpawner;
use procpool_server::{App, ListenAddress, NamedPool, ServerConfig, Shutdown};

use self::screen::Screen;
use crate::config::{DEFAULT_POOL, PoolSettings};
use crate::exit::{Exit, Failure};
use crate::processes::{self, Process};
use crate::serve::cannot_run;
use crate::{config, signal, worker};

const NUM_WORKERS: NonZeroU32 = NonZeroU32::new(4).expect("4 is not 0");
const NUM_MATCHES: u64 = 10;

/// Shows a pool at work and its end.
pub(crate) async fn run() -> Result<Exit, Failure> {
    let screen = Screen::new();
    screen.show_worker_output();
    let folder = tempfile::Builder::new().prefix("procpool-demo-").tempdir().map_err(cannot_run)?;
    let address = ListenAddress::Unix(folder.path().join("pool.sock"));

    screen.heading("A pool as a service");
    let max_message_bytes = ServerConfig::default().max_message_bytes;
    let spawn_config = PoolSettings::default().spawn_config(config::environment(), max_message_bytes);
    let spawner = Arc::new(ProcessSpawner::new(spawn_config.map_err(cannot_run)?).map_err(cannot_run)?);
    spawner.adopt_orphans().map_err(cannot_run)?;
    let server_config = ServerConfig {
        listen: vec![address.clone()],
        drain_timeout: Duration::from_secs(5),
        ..ServerConfig::default()
    };
    let pool = NamedPool::new(DEFAULT_POOL, PoolConfig::new(NUM_WORKERS), spawner.clone());
    let app = App::bind(server_config, vec![pool]).await?;
    screen.fact("server", format_args!("in this process, at {address}"));
    screen.fact("workers", format_args!("{NUM_WORKERS} processes of the built-in worker"));
    screen.fact("CPUs", format_args!("{} that this process may use", config::available_cpus()));

    let (shutdown_handle, shutdown) = Shutdown::with_handle();
    let mut server = tokio::task::JoinSet::new();
    server.spawn(app.serve(shutdown));
    let show = async {
        let client = Client::connect(&address.to_string()).await?;
        show_calls(&screen, &client).await.map_err(|error| Failure::new(Exit::Failed, error))
    };
    let mut workers = Vec::new();
    let shown = signal::until_interrupted(async {
        show.await?;
        workers = processes::children().map_err(cannot_run)?;
        Ok(Exit::Ok)
    })
    .await;

    // Whatever happened, the pool is closed in order.
    let began = Instant::now();
    if matches!(shown, Ok(Exit::Ok)) {
        shutdown_handle.drain();
    } else {
        shutdown_handle.now();
    }
    if let Some(served) = server.join_next().await {
        served.map_err(|error| Failure::new(Exit::Failed, error))??;
    }
    spawner.closed().await;
    let exit = shown?;
    if exit == Exit::Ok {
        show_end(&screen, &workers, began.elapsed()).map_err(|error| Failure::new(Exit::Failed, error))?;
    }
    Ok(exit)
}

async fn show_calls(screen: &Screen, client: &Client) -> anyhow::Result<()> {
    show_matches(screen, client).await?;
    show_starmap(screen, client).await?;
    show_unordered(screen, client).await
}

/// The main job: ten matches.
async fn show_matches(screen: &Screen, client: &Client) -> anyhow::Result<()> {
    screen.heading(&format!("imap(analyze_match, 1..={NUM_MATCHES}): results in order, each as soon as it is there"));
    let bar = screen.bar(NUM_MATCHES);
    let began = Instant::now();
    let mut stream = client.imap::<String>("analyze_match", 1..=NUM_MATCHES).chunk_size(1).await?;
    let mut results = Vec::new();
    while let Some(item) = stream.try_next().await? {
        results.push(item.result?);
        bar.inc(1);
    }
    let pool_time = began.elapsed();
    drop(bar);
    screen.line("");
    for result in &results {
        screen.line(&format!("  {result}"));
    }
    let expected = (1..=NUM_MATCHES).map(|id| format!("Result for Match #{id}: Analysis Clear"));
    ensure!(results == expected.collect::<Vec<_>>(), "the results are not those of the {NUM_MATCHES} matches in order");

    screen.heading("The same in one process, one after another, without a pool");
    let bar = screen.bar(NUM_MATCHES);
    let began = Instant::now();
    let alone = tokio::task::spawn_blocking(move || {
        (0..NUM_MATCHES).for_each(|_| {
            std::hint::black_box(worker::analysis_checksum());
            bar.inc(1);
        });
    });
    alone.await.context("the comparison did not end")?;
    let one_process_time = began.elapsed();

    let speed_up = one_process_time.as_secs_f64() / pool_time.as_secs_f64();
    let num_cpus = config::available_cpus();
    let limit = NUM_WORKERS.min(num_cpus);
    screen.fact("one process", format_args!("{:6.2} s", one_process_time.as_secs_f64()));
    screen.fact("four workers", format_args!("{:6.2} s", pool_time.as_secs_f64()));
    let times = screen.strong(&format!("{speed_up:6.2} times as fast"));
    screen.fact("speed-up", format_args!("{times}; four workers on {num_cpus} CPUs can be {limit} times as fast"));
    if speed_up < 0.8 * f64::from(limit.get()) {
        let load = config::load_average().unwrap_or_default();
        screen
            .fact("", format_args!("other programs may be using the CPUs: the load of the last minute was {load:.1}"));
    }
    Ok(())
}

async fn show_starmap(screen: &Screen, client: &Client) -> anyhow::Result<()> {
    screen.heading("starmap(power, …): each item is a list of arguments");
    let items = [(2, 10), (3, 3), (10, 6), (7, 2)];
    let powers: Vec<u64> = client.starmap("power", items).await?;
    for ((base, exponent), power) in items.iter().zip(&powers) {
        screen.line(&format!("  power({base}, {exponent}) = {power}"));
    }
    ensure!(powers == [1024, 27, 1_000_000, 49], "the powers are wrong: {powers:?}");
    Ok(())
}

async fn show_unordered(screen: &Screen, client: &Client) -> anyhow::Result<()> {
    screen.heading("imap_unordered(sleep_ms, …): each result as soon as it is there, whatever the order");
    let items = [400, 300, 200, 100];
    let began = Instant::now();
    let mut stream = client.imap_unordered::<u64>("sleep_ms", items).chunk_size(1).await?;
    let mut indexes = Vec::new();
    while let Some(item) = stream.try_next().await? {
        let slept = item.result?;
        let elapsed = began.elapsed().as_millis();
        screen.line(&format!("  after {elapsed:>4} ms   item {} slept {slept:>3} ms", item.index));
        indexes.push(item.index);
    }
    // In which order is for the machine to say: a busy one may start the shortest last.
    indexes.sort_unstable();
    ensure!(indexes == [0, 1, 2, 3], "there was not one result for each item, but these: {indexes:?}");
    Ok(())
}

/// Checks that no process is left.
fn show_end(screen: &Screen, workers: &[Process], elapsed: Duration) -> anyhow::Result<()> {
    screen.heading("The pool is closed");
    let count = workers.len();
    let all_seen = count == NUM_WORKERS.get() as usize;
    let left = processes::left_of(workers).context("cannot read /proc")?;
    let pids: Vec<String> = workers.iter().map(|worker| worker.pid.to_string()).collect();
    screen.check(all_seen, &format!("{count} workers were alive: pids {}", pids.join(", ")));
    screen.check(true, &format!("closed in {} ms", elapsed.as_millis()));
    let is_clean = left.is_empty();
    screen.check(is_clean, "/proc has none of them, nobody of their process groups, and no child of ours");
    screen.line("");
    ensure!(all_seen, "the pool had {count} workers, not {NUM_WORKERS}");
    ensure!(is_clean, "processes are left: {left:?}");
    Ok(())
}
