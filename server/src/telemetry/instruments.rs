//! Every metric: its name, unit, help text and, for durations, its buckets. `docs/telemetry.md` tells what to make of
//! them.
//!
//! In Prometheus text a dot becomes an underscore, a unit of `s` becomes `_seconds`, and a counter ends in `_total`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Counter, Histogram, Meter};
use procpool_pool::Demand;
use procpool_proto::Reason;

use crate::listener::Connections;

/// In seconds: from what a frame costs to what a person waits for. (The library's own are for milliseconds.)
const DURATION_BUCKETS: [f64; 14] =
    [0.000_1, 0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0];

/// Reasons to refuse a call that a larger pool, or another one, could have accepted.
const CAPACITY_REASONS: [Reason; 4] =
    [Reason::QueueFull, Reason::DeadlineUnreachable, Reason::PoolDegraded, Reason::Draining];

/// The last demand that was read, by the names of the pools.
pub(super) type Demands = BTreeMap<String, Mutex<Demand>>;

/// The name, unit and help text of a gauge, and how it is read from the demand.
type Reading<T> = (&'static str, &'static str, &'static str, fn(&Demand) -> T);

/// The instruments that record events.
#[derive(Debug)]
pub(super) struct Instruments {
    pub(super) calls: Counter<u64>,
    pub(super) call_duration: Histogram<f64>,
    pub(super) refused: Counter<u64>,
    pub(super) items: Counter<u64>,
    pub(super) queue_wait: Histogram<f64>,
    pub(super) chunk_run: Histogram<f64>,
    pub(super) worker_starts: Counter<u64>,
    pub(super) worker_exits: Counter<u64>,
    pub(super) watchdog_restarts: Counter<u64>,
}

impl Instruments {
    pub(super) fn new(meter: &Meter) -> Self {
        let counter = |name, unit, help| meter.u64_counter(name).with_unit(unit).with_description(help).build();
        let histogram = |name, help| {
            let builder = meter.f64_histogram(name).with_unit("s").with_description(help);
            builder.with_boundaries(DURATION_BUCKETS.to_vec()).build()
        };
        let instruments = Self {
            calls: counter("procpool.calls", "{call}", "Calls that ended, by method and code"),
            call_duration: histogram(
                "procpool.call.duration",
                "From the start of a call to its end, by method and code",
            ),
            refused: counter(
                "procpool.refused",
                "{call}",
                "Calls that were refused for lack of room or of workers; nothing of them was run; by the error's reason",
            ),
            items: counter("procpool.items", "{item}", "Items that have their outcome, by function and outcome"),
            queue_wait: histogram(
                "procpool.queue_wait",
                "From when a call's first items are there to when a worker gets one, by function",
            ),
            chunk_run: histogram(
                "procpool.chunk_run",
                "How long workers ran the items of a chunk, together, by function; a slow function's chunk is one item",
            ),
            worker_starts: counter("procpool.worker_starts", "{worker}", "Worker processes that were started"),
            worker_exits: counter(
                "procpool.worker_exits",
                "{worker}",
                "Worker processes that ended, by reason; unless the pool shrinks or drains, another takes the slot",
            ),
            watchdog_restarts: counter(
                "procpool.watchdog_restarts",
                "{process}",
                "How often the server had to start its watchdog again, since somebody had killed it",
            ),
        };
        // A counter that is not there before the first refusal cannot be seen to rise.
        for reason in CAPACITY_REASONS {
            instruments.refused.add(0, &[KeyValue::new("reason", reason.as_str())]);
        }
        instruments.watchdog_restarts.add(0, &[]);
        instruments
    }
}

/// Adds gauges that read the last [`Demand`] of each pool whenever metrics are collected.
pub(super) fn observe_demand(meter: &Meter, demands: &Arc<Demands>) {
    let counts: [Reading<u64>; 4] = [
        ("procpool.jobs", "{job}", "Calls in progress", |demand| demand.num_jobs),
        ("procpool.queued_items", "{item}", "Items that are not at a worker", |demand| demand.num_queued_items),
        ("procpool.running_items", "{item}", "Items at workers", |demand| demand.num_running_items),
        (
            "procpool.slots_demanded",
            "{slot}",
            "How many slots the work at hand could use: those busy, and those that would do what is queued in 10 s",
            |demand| demand.slots_demanded,
        ),
    ];
    for (name, unit, help, read) in counts {
        let demands = Arc::clone(demands);
        let gauge = meter.u64_observable_gauge(name).with_unit(unit).with_description(help);
        gauge.with_callback(move |gauge| each(&demands, |pool, demand| gauge.observe(read(demand), &[pool]))).build();
    }
    let durations: [Reading<Duration>; 3] = [
        (
            "procpool.backlog",
            "s",
            "How long the present slots will take for what is queued, by the functions' run times",
            |demand| demand.backlog,
        ),
        (
            "procpool.oldest_queued",
            "s",
            "How long some call has had items waiting for a slot without a break, the longest of all",
            |demand| demand.oldest_queued,
        ),
        ("procpool.idle", "s", "How long no call has been in progress; 0 while one is", |demand| demand.idle),
    ];
    for (name, unit, help, read) in durations {
        let demands = Arc::clone(demands);
        let gauge = meter.f64_observable_gauge(name).with_unit(unit).with_description(help);
        gauge
            .with_callback(move |gauge| {
                each(&demands, |pool, demand| gauge.observe(read(demand).as_secs_f64(), &[pool]));
            })
            .build();
    }
    let demands = Arc::clone(demands);
    let gauge = meter
        .u64_observable_gauge("procpool.slots")
        .with_unit("{slot}")
        .with_description("Slots by the state of their workers");
    let observe = move |gauge: &dyn AsyncInstrument<u64>| {
        each(&demands, |pool, demand| {
            let slots = demand.slots;
            let states = [
                ("starting", slots.starting),
                ("ready", slots.ready),
                ("busy", slots.busy),
                ("stopping", slots.stopping),
                ("empty", slots.empty),
            ];
            for (state, count) in states {
                gauge.observe(count, &[pool.clone(), KeyValue::new("state", state)]);
            }
        });
    };
    gauge.with_callback(observe).build();
}

/// Adds the metrics of connections, read whenever metrics are collected.
pub(super) fn observe_connections(meter: &Meter, connections: Connections) {
    let open = connections.clone();
    let gauge = meter.u64_observable_gauge("procpool.connections").with_unit("{connection}");
    let gauge = gauge.with_description("Connections that are open");
    gauge.with_callback(move |gauge| gauge.observe(open.count() as u64, &[])).build();
    let counter = meter.u64_observable_counter("procpool.connections_delayed").with_unit("{connection}");
    let counter =
        counter.with_description("Connections that had to wait for another to end, since there were max_connections");
    counter.with_callback(move |counter| counter.observe(connections.num_delayed(), &[])).build();
}

fn each(demands: &Demands, mut observe: impl FnMut(KeyValue, &Demand)) {
    for (pool, demand) in demands {
        observe(KeyValue::new("pool", pool.clone()), &lock(demand));
    }
}

/// No code that holds the lock can panic half-way through a change.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
