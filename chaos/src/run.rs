//! A run, from the start of the server to the verdict.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use procpool_client::Client;
use procpool_client::admin::WorkerState;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::checker::{self, Findings};
use crate::client::Clients;
use crate::history::{ClientHistory, read_executions, read_vices};
use crate::plan::{Language, Plan};
use crate::report::{Report, print_directory, print_step};
use crate::saboteur::{Sabotage, Saboteur, wait_until_gone};
use crate::server::{
    LOOK_INTERVAL, MAX_QUEUED_BYTES, MAX_QUEUED_ITEMS, Programs, Resources, Server, processes_of, slots, wait_until,
};
use crate::stopwatch::Stopwatch;

const NUM_CLIENTS: usize = 16;
/// The most items of the warm-up.
const MAX_WARM_UP_ITEMS: u64 = 1_000_000;
/// The largest overhead of a list of one item, in bytes.
const ITEM_OVERHEAD: usize = 1 << 10;
/// How long the server may take to release everything.
const QUIET_AFTER: Duration = Duration::from_secs(20);
/// The memory at rest may grow by a tenth, and after a short run, which has a short warm-up, by this much more, which is about a
/// thread's cache of the allocator.
const SHORT_RUN_ITEMS: u64 = 200_000;
const SHORT_RUN_TOLERANCE_KIB: u64 = 4 << 10;

/// Runs a plan; returns whether all promises were kept.
///
/// # Errors
///
/// If the run could not be finished.
pub(crate) async fn run(programs: &Programs, plan: Plan) -> Result<bool> {
    let directory = tempfile::Builder::new().prefix("procpool-chaos-").tempdir()?;
    let report = run_in(programs, plan, directory.path()).await;
    if report.as_ref().is_ok_and(Report::is_good) {
        directory.close()?;
    } else {
        print_directory(&directory.keep());
    }
    let report = report?;
    report.print();
    Ok(report.is_good())
}

async fn run_in(programs: &Programs, plan: Plan, directory: &Path) -> Result<Report> {
    print_step(&format!("seed {}: {} kills over {} items", plan.seed, plan.kills, plan.items));
    let server = Server::start(programs, directory, &Language::ALL, plan.is_idempotent).await?;
    let client = Client::connect(&server.address).await?;
    let stopwatch = Arc::new(Stopwatch::default());
    let mut watches = JoinSet::new();
    for language in Language::ALL {
        let (stopwatch, client) = (Arc::clone(&stopwatch), client.clone());
        watches.spawn(async move { stopwatch.watch(&client, language).await });
    }

    warm_up(&server, &client, plan).await?;
    let before = quiet(&server, &client, None).await?;
    let started = Instant::now();
    let (clients, sabotage) = play(&server, &client, plan).await?;
    let elapsed = started.elapsed();
    print_step(&format!("{elapsed:.1?} later all items have ended; the server is to come to rest"));
    wait_until_gone(server.pid, &sabotage.strikes).await?;
    let after = quiet(&server, &client, Some(&before)).await?;
    fill(&client).await.context("a pool at rest does not take as much as a new one")?;

    watches.shutdown().await;
    drop(client);
    server.stop().await?;
    wait_until("no process is left", async || Ok(processes_of(directory)?.is_empty())).await?;
    let (executions, vices) = (read_executions(directory)?, read_vices(directory)?);
    let mut findings = checker::check(&clients.history.take(), &executions, &sabotage.strikes, &vices);
    check_resources(plan, &before, &after, &mut findings);
    let times = Language::ALL.map(|language| stopwatch.times(&sabotage.strikes, language));
    let num_departures = clients.departures.load(Ordering::Relaxed);
    Ok(Report {
        plan,
        sabotage,
        num_departures,
        num_vices: vices.len() as u64,
        findings,
        before,
        after,
        elapsed,
        times,
    })
}

/// Runs a warm-up like the run, and drops its records. The allocator keeps some megabytes when idle, more the longer it
/// was busy, up to a limit, so the warm-up is as long as the run.
async fn warm_up(server: &Server, client: &Client, plan: Plan) -> Result<()> {
    let items = plan.items.min(MAX_WARM_UP_ITEMS);
    let kills = (plan.kills * items / plan.items).max(1);
    let (_, sabotage) = play(server, client, Plan { seed: plan.seed ^ 0xca1a, kills, items, ..plan }).await?;
    wait_until_gone(server.pid, &sabotage.strikes).await?;
    // Abandoned items may still run.
    quiet(server, client, None).await?;
    for name in ["history", "vices"] {
        // The workers go on at the new end.
        std::fs::File::options().write(true).open(server.directory.join(name))?.set_len(0)?;
    }
    Ok(())
}

fn clients(server: &Server, client: &Client, plan: Plan, allowed: watch::Receiver<u64>) -> Result<Arc<Clients>> {
    Ok(Arc::new(Clients {
        plan,
        address: server.address.clone(),
        shared: client.clone(),
        history: Arc::new(ClientHistory::new(plan.items)?),
        next: Mutex::new((0, 0)),
        done: Arc::default(),
        allowed,
        refusals: AtomicU64::new(0),
        departures: AtomicU64::new(0),
    }))
}

async fn run_clients(clients: &Arc<Clients>) -> Result<()> {
    let mut tasks = JoinSet::new();
    for _ in 0..NUM_CLIENTS {
        tasks.spawn(Arc::clone(clients).run());
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

/// The run itself: clients and saboteur concurrently.
async fn play(server: &Server, client: &Client, plan: Plan) -> Result<(Arc<Clients>, Sabotage)> {
    let (allowed, receiver) = watch::channel(0);
    let clients = clients(server, client, plan, receiver)?;
    let saboteur = Saboteur {
        plan,
        server_pid: server.pid,
        directory: server.directory.clone(),
        client: client.clone(),
        done: Arc::clone(&clients.done),
        allowed,
    };
    let mut progress = tokio::time::interval(Duration::from_secs(30));
    progress.tick().await;
    let sabotage = saboteur.run();
    let work = run_clients(&clients);
    let both = async { tokio::try_join!(sabotage, work) };
    tokio::pin!(both);
    let (sabotage, ()) = loop {
        tokio::select! {
            result = &mut both => break result?,
            _ = progress.tick() => print_step(&format!("{} items so far", clients.done.load(Ordering::Relaxed))),
        }
    };
    let refusals = clients.refusals.load(Ordering::Relaxed);
    if refusals > 0 {
        print_step(&format!("{refusals} calls were refused before they began, and made again"));
    }
    Ok((Arc::clone(&clients), sabotage))
}

/// Waits until nothing runs, every slot has a working worker, and the server holds what it held `before`, or until the
/// time is over; returns what it holds.
async fn quiet(server: &Server, client: &Client, before: Option<&Resources>) -> Result<Resources> {
    for language in Language::ALL {
        wait_until("the pool has nothing to do and all its workers", async || {
            let pool = client.admin().of_pool(language.name()).pool().await?;
            let num_ready = pool.workers.iter().filter(|worker| worker.state() == WorkerState::Ready).count();
            let num_items = pool.num_queued_items + pool.num_running_items;
            Ok(pool.num_jobs == 0 && num_items == 0 && num_ready == slots(language) as usize)
        })
        .await?;
        let items = vec![100_u64; slots(language) as usize];
        let mut pids: Vec<u32> = client.map(format!("{}_pid", language.name()), items).chunk_size(1).await?;
        pids.sort_unstable();
        pids.dedup();
        ensure!(pids.len() == slots(language) as usize, "{} items ran on {pids:?}", slots(language));
    }
    let deadline = Instant::now() + QUIET_AFTER;
    loop {
        let now = server.resources().context("the server has gone")?;
        let is_as_before = before.is_none_or(|before| now.has_no_more_than(before));
        if now.zombies == 0 && is_as_before || Instant::now() > deadline {
            return Ok(now);
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Calls each pool with its maximum of items, and then of bytes, to show that no permit is missing.
async fn fill(client: &Client) -> Result<()> {
    for language in Language::ALL {
        let name = format!("{}_length", language.name());
        for items in [vec![Vec::new(); MAX_QUEUED_ITEMS], vec![vec![0; MAX_QUEUED_BYTES - ITEM_OVERHEAD]]] {
            let expected: Vec<_> = items.iter().map(|item| item.len().to_string().into_bytes()).collect();
            let lengths = client.map_bytes(&name, items).await?;
            ensure!(lengths.iter().eq(&expected), "{name} answers with {} other results", lengths.len());
        }
    }
    Ok(())
}

fn check_resources(plan: Plan, before: &Resources, after: &Resources, findings: &mut Findings) {
    if !after.has_no_more_than(before) {
        findings.add(format!("the server held {before:?} and holds {after:?}"));
    }
    let tolerance = if plan.items < SHORT_RUN_ITEMS { SHORT_RUN_TOLERANCE_KIB } else { 0 };
    if after.rss_kib > before.rss_kib + before.rss_kib / 10 + tolerance {
        findings.add(format!("the memory grew from {} to {} KiB", before.rss_kib, after.rss_kib));
    }
}

impl Resources {
    pub(crate) fn num_fds(&self) -> u64 {
        self.fds.values().sum()
    }

    /// Tells whether there is no leak, memory aside.
    fn has_no_more_than(&self, before: &Self) -> bool {
        self.num_fds() <= before.num_fds()
            && self.threads <= before.threads
            && self.children <= before.children
            && self.zombies == 0
    }
}
