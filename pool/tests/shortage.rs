//! F21: the system has nothing to start a worker with, for a while. It is a program of its own, since it leaves itself
//! without file descriptors.

#![expect(clippy::unwrap_used, reason = "what should not happen fails the test")]

#[path = "modes/support.rs"]
#[expect(dead_code, reason = "this test is a program of its own and uses a part of this")]
mod support;

use std::time::Duration;

use procpool_pool::{PoolSnapshot, Readiness};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::support::{Accounts, TestPool};

const SLOTS: u32 = 4;
/// How long there is nothing.
const FAMINE: Duration = Duration::from_secs(3);

fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).expect("it starts at 0")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f21_without_file_descriptors_the_pool_does_not_spin_and_is_whole_soon_after_there_are_some() {
    let pool = TestPool::start(SLOTS, "well_behaved").await;
    // No number is left for another, also not those that the dead give back: 0 is in use.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(1), ..limit }).unwrap();
    for worker in pool.snapshot().await.workers {
        kill_process(Pid::from_raw(worker.pid.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
    }
    let is_starved = |pool: &PoolSnapshot| {
        pool.pool.readiness == Readiness::Degraded && pool.last_start_failure.contains("Too many open files")
    };
    pool.until("no worker can be started", is_starved).await;

    let (spawns, cpu) = (Accounts::of(&pool.accounts.workers_started), cpu_time());
    tokio::time::sleep(FAMINE).await;
    let spawns = Accounts::of(&pool.accounts.workers_started) - spawns;
    // Each slot looks every 400 ms, give or take a fifth: that is how soon it knows. A busy machine looks less often.
    let expected = u64::from(SLOTS)..u64::from(SLOTS) * 12;
    assert!(expected.contains(&spawns), "{spawns} starts in {FAMINE:?}");
    let cpu = cpu_time().saturating_sub(cpu);
    assert!(cpu < FAMINE / 4, "{cpu:?} of processor time in {FAMINE:?}");

    setrlimit(Resource::Nofile, limit).unwrap();
    pool.assert_whole_again().await;
}
