//! What one event costs: the end of a chunk with the dispatch of the next, and what its results take, by the number of slots and of jobs.

use std::collections::VecDeque;
use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion};
use procpool_scheduler::{
    CallOptions, Dispatch, Effect, Event, FunctionId, JobId, JobSpec, PoolState, ResultSize, SchedulerConfig, Time,
};

const SLOTS: [u32; 3] = [2, 64, 4096];
const JOBS: [u64; 3] = [1, 1_000, 10_000];
const ITEM_TIME: Duration = Duration::from_millis(1);
/// More than are ever run.
const ITEMS: u64 = 1 << 40;
const FUNCTION: FunctionId = FunctionId(0);

/// A pool whose slots are all at work, and have work ahead.
struct World {
    state: PoolState,
    now: Time,
    /// How much time passes from one event to the next, so that an item takes [`ITEM_TIME`].
    step: Duration,
    running: VecDeque<Dispatch>,
    effects: Vec<Effect>,
}

impl World {
    fn new(slots: u32, jobs: u64) -> Self {
        let state = PoolState::new(SchedulerConfig { slots, max_result_bytes: u64::MAX, ..SchedulerConfig::default() });
        let (now, step) = (Time::ZERO, ITEM_TIME / slots);
        let mut world = Self { state, now, step, running: VecDeque::new(), effects: Vec::new() };
        world.apply(Event::TimePassed);
        for job in 0..jobs {
            world.apply(Event::JobSubmitted(job_spec(JobId(job))));
        }
        // Once around, so that the function's run time is known and every worker has a chunk ahead.
        for _ in 0..4 * slots {
            world.end_a_chunk();
        }
        world
    }

    fn apply(&mut self, event: Event) {
        self.state.apply(self.now, event, &mut self.effects);
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::SpawnWorker { worker } => {
                    self.apply(Event::WorkerReady { worker, functions: [FUNCTION].into_iter().collect() });
                }
                Effect::Dispatch(dispatch) => self.running.push_back(dispatch),
                _ => {}
            }
        }
    }

    fn end_a_chunk(&mut self) {
        let Dispatch { worker, chunk, job, count, .. } = self.running.pop_front().expect("there is always work");
        self.now = self.now.after(self.step);
        self.apply(Event::ItemsFinished {
            worker,
            chunk,
            first: 0,
            count,
            failed: Vec::new(),
            busy: ITEM_TIME * count,
            size: ResultSize { held: 200, answer: 10 },
        });
        // It was put together with those before it.
        self.apply(Event::ResultsRecounted { job, change: ResultSize { held: -190, answer: 0 } });
    }
}

fn job_spec(id: JobId) -> JobSpec {
    // What a chunk has does not change while it is measured.
    let options = CallOptions { chunk_size: NonZeroU32::new(1), ..CallOptions::default() };
    JobSpec { item_bytes: 8, options, ..JobSpec::new(id, FUNCTION, ITEMS) }
}

fn chunk_ends(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("chunk_ends");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(30);
    for slots in SLOTS {
        for jobs in JOBS {
            let mut world = World::new(slots, jobs);
            group.bench_function(BenchmarkId::new(format!("{slots} slots"), format!("{jobs} jobs")), |bencher| {
                bencher.iter(|| world.end_a_chunk());
            });
            black_box(&world.state);
        }
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    chunk_ends(&mut criterion);
    criterion.final_summary();
}
