//! One run: a pool, callers, somebody who resizes and restarts it, and the peace in the end.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use procpool_pool::{JobReport, PoolConfig, PoolHandle, PoolSnapshot, Readiness, WorkerState};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::caller::{Caller, fill_the_pool};
use crate::ledger::Ledger;
use crate::random::Random;
use crate::upset::Upsets;
use crate::worker::SimSpawner;

/// Longer than the pool takes to come to rest or to end.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Longer than anything that runs on for nobody.
const REST_PATIENCE: Duration = Duration::from_secs(70);

/// Runs the world of a seed; returns what befell its workers. `has_upsets`: sessions panic, and the like.
pub(crate) async fn run(seed: u64, is_traced: bool, has_upsets: bool) -> Upsets {
    let mut random = Random::new(seed.wrapping_add(1));
    let slots = 1 + random.below(4) as u32;
    let config = PoolConfig {
        max_queued_items: 300 + random.below(300) as u32,
        max_result_bytes: 100_000 + random.below(300_000) as u32,
        item_timeout: random.maybe(|random| Duration::from_millis(100 + random.below(1000))),
        worker_start_timeout: Duration::from_millis(200),
        cancel_grace_period: Duration::from_millis(random.below(300)),
        kill_grace_period: Duration::from_millis(random.below(300)),
        max_items_per_worker: random.maybe(|random| NonZeroU32::new(1 + random.below(50) as u32).unwrap()),
        max_worker_age: random.maybe(|random| Duration::from_millis(50 + random.below(2000))),
        idle_timeout: random.maybe(|random| Duration::from_millis(50 + random.below(2000))),
        jitter_seed: seed,
        ..PoolConfig::new(NonZeroU32::new(slots).unwrap())
    };
    let ledger = Ledger::default();
    ledger.allow_workers(slots);
    ledger.set_cancel_grace_period(config.cancel_grace_period);
    if is_traced {
        ledger.start_trace();
    }
    let bad_slot = (random.below(4) == 0).then(|| random.below(slots.into()) as u32);
    let spawner = Arc::new(SimSpawner { seed, ledger: ledger.clone(), bad_slot, has_upsets });
    let (handle, task) = PoolHandle::start(config.clone(), spawner);
    ledger.set_readiness(handle.readiness());
    let watcher = tokio::spawn(watch_readiness(handle.readiness(), ledger.clone()));
    let last_job = Arc::new(AtomicU64::new(0));
    let callers: Vec<_> = (0..=random.below(5))
        .map(|_| {
            let caller = Caller {
                handle: handle.clone(),
                ledger: ledger.clone(),
                random: Random::new(random.below(u64::MAX)),
                last_job: Arc::clone(&last_job),
            };
            tokio::spawn(caller.run(1 + random.below(4)))
        })
        .collect();
    let operator = tokio::spawn(operate(handle.clone(), ledger.clone(), Random::new(random.below(u64::MAX))));
    let ends_early = random.below(5) == 0;
    if ends_early {
        let time = Duration::from_micros(random.below(1_000_000));
        sleep(time).await;
        ledger.drain();
        if random.below(2) == 0 { handle.drain() } else { handle.stop_now() }
    }
    for caller in callers {
        caller.await.unwrap();
    }
    operator.await.unwrap();
    if !ends_early {
        ledger.trace(|| format!("calm: {config:?}"));
        ledger.calm_down();
        // What is broken already shows, and is mended.
        sleep(Duration::from_secs(1)).await;
        timeout(REST_PATIENCE, come_to_rest(&handle)).await.expect("the pool heals and holds nothing");
        timeout(PATIENCE, become_whole(&handle)).await.expect("every slot has a worker again");
        ledger.trace(|| "the pool is at rest".to_owned());
        fill_the_pool(&handle, &ledger, &config).await;
        ledger.drain();
        handle.drain();
    }
    timeout(PATIENCE, task.join()).await.expect("the pool ends");
    watcher.await.unwrap();
    assert_eq!(ledger.live_workers(), 0, "no worker is left");
    ledger.upsets()
}

/// Has the ledger look at the readiness whenever that changes, until the pool has ended.
async fn watch_readiness(mut readiness: watch::Receiver<Readiness>, ledger: Ledger) {
    while readiness.changed().await.is_ok() {
        ledger.look_at_readiness();
    }
}

/// Resizes, restarts, looks and cancels what it sees, for a while.
async fn operate(handle: PoolHandle, ledger: Ledger, mut random: Random) {
    for _ in 0..random.below(4) {
        let pause = Duration::from_micros(random.below(500_000));
        sleep(pause).await;
        match random.below(3) {
            0 => {
                let slots = 1 + random.below(5) as u32;
                ledger.allow_workers(slots);
                ledger.trace(|| format!("resize to {slots}"));
                // It may be draining.
                let _ = handle.resize(NonZeroU32::new(slots).unwrap()).await;
            }
            1 => {
                // A restart is mostly for new code.
                ledger.change_code();
                let patience = Duration::from_micros(random.below(1_000_000));
                ledger.trace(|| "restart".to_owned());
                let _ = timeout(patience, handle.restart_workers()).await;
            }
            _ => {
                let Ok(PoolSnapshot { jobs, .. }) = handle.snapshot().await else { continue };
                if let Some(JobReport { job, .. }) = random.pick(&jobs) {
                    ledger.trace(|| format!("cancel job {}", job.id));
                    ledger.operator_cancels(job.id.0);
                    handle.cancel_job(job.id.0).await;
                }
            }
        }
    }
}

/// Waits until the pool is ready and nothing is queued or runs, not even for calls that have ended.
async fn come_to_rest(handle: &PoolHandle) {
    loop {
        let pool = handle.snapshot().await.expect("it runs").pool;
        let is_busy = pool.workers.iter().any(|worker| worker.state == WorkerState::Busy);
        let held = (pool.num_jobs, pool.num_queued_items, pool.num_running_items);
        if pool.readiness == Readiness::Ready && !is_busy && held == (0, 0, 0) {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until every slot has a worker that is ready.
async fn become_whole(handle: &PoolHandle) {
    loop {
        let pool = handle.snapshot().await.expect("it runs").pool;
        let num_ready = pool.workers.iter().filter(|worker| worker.state == WorkerState::Ready).count();
        if num_ready == pool.num_slots as usize {
            return;
        }
        sleep(Duration::from_millis(501)).await;
    }
}
