//! Every metric: its name, unit, help text and, for durations, its buckets. `docs/telemetry.md` tells what to make of
//! them.
//!
//! In Prometheus text a dot becomes an underscore, a unit of `s` becomes `_seconds`, and a counter ends in `_total`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

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

/// A metric.
struct Metric {
    name: &'static str,
    unit: &'static str,
    help: &'static str,
}

const CALLS: Metric = Metric { name: "procpool.calls", unit: "{call}", help: "Calls that ended, by method and code" };
const CALL_DURATION: Metric = Metric {
    name: "procpool.call.duration",
    unit: "s",
    help: "From the start of a call to its end, by method and code",
};
const REFUSED: Metric = Metric {
    name: "procpool.refused",
    unit: "{call}",
    help: "Calls that were refused for lack of room or of workers; nothing of them was run; by the error's reason",
};
const ITEMS: Metric =
    Metric { name: "procpool.items", unit: "{item}", help: "Items that have their outcome, by function and outcome" };
const QUEUE_WAIT: Metric = Metric {
    name: "procpool.queue_wait",
    unit: "s",
    help: "From when a call's first items are there to when a worker gets one, by function",
};
const CHUNK_RUN: Metric = Metric {
    name: "procpool.chunk_run",
    unit: "s",
    help: "How long workers ran the items of a chunk, together, by function; a slow function's chunk is one item",
};
const WORKER_STARTS: Metric =
    Metric { name: "procpool.worker_starts", unit: "{worker}", help: "Worker processes that were started" };
const WORKER_EXITS: Metric = Metric {
    name: "procpool.worker_exits",
    unit: "{worker}",
    help: "Worker processes that ended, by reason; unless the pool shrinks or drains, another takes the slot",
};
const SLOTS: Metric = Metric { name: "procpool.slots", unit: "{slot}", help: "Slots by the state of their workers" };
const JOBS: Metric = Metric { name: "procpool.jobs", unit: "{job}", help: "Calls in progress" };
const QUEUED_ITEMS: Metric =
    Metric { name: "procpool.queued_items", unit: "{item}", help: "Items that are not at a worker" };
const RUNNING_ITEMS: Metric = Metric { name: "procpool.running_items", unit: "{item}", help: "Items at workers" };
const SLOTS_DEMANDED: Metric = Metric {
    name: "procpool.slots_demanded",
    unit: "{slot}",
    help: "How many slots the work at hand could use: those busy, and those that would do what is queued in 10 s",
};
const BACKLOG: Metric = Metric {
    name: "procpool.backlog",
    unit: "s",
    help: "How long the present slots will take for what is queued, by the functions' run times",
};
const OLDEST_QUEUED: Metric = Metric {
    name: "procpool.oldest_queued",
    unit: "s",
    help: "How long some call has had items waiting for a slot without a break, the longest of all",
};
const IDLE: Metric =
    Metric { name: "procpool.idle", unit: "s", help: "How long no call has been in progress; 0 while one is" };

const CONNECTIONS: Metric =
    Metric { name: "procpool.connections", unit: "{connection}", help: "Connections that are open" };
const CONNECTIONS_DELAYED: Metric = Metric {
    name: "procpool.connections_delayed",
    unit: "{connection}",
    help: "Connections that had to wait for another to end, since there were max_connections",
};
const WATCHDOG_RESTARTS: Metric = Metric {
    name: "procpool.watchdog_restarts",
    unit: "{process}",
    help: "How often the server had to start its watchdog again, since somebody had killed it",
};
/// The last demand that was read, by the names of the pools.
pub(super) type Demands = BTreeMap<String, Mutex<Demand>>;

/// A gauge, and how it is read from the demand.
type Reading<T> = (&'static Metric, fn(&Demand) -> T);

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
        let instruments = Self {
            calls: counter(meter, &CALLS),
            call_duration: histogram(meter, &CALL_DURATION),
            refused: counter(meter, &REFUSED),
            items: counter(meter, &ITEMS),
            queue_wait: histogram(meter, &QUEUE_WAIT),
            chunk_run: histogram(meter, &CHUNK_RUN),
            worker_starts: counter(meter, &WORKER_STARTS),
            worker_exits: counter(meter, &WORKER_EXITS),
            watchdog_restarts: counter(meter, &WATCHDOG_RESTARTS),
        };
        // A counter that is not there before the first refusal cannot be seen to rise.
        for reason in CAPACITY_REASONS {
            instruments.refused.add(0, &[KeyValue::new("reason", reason.as_str())]);
        }
        instruments.watchdog_restarts.add(0, &[]);
        instruments
    }
}

fn counter(meter: &Meter, metric: &Metric) -> Counter<u64> {
    meter.u64_counter(metric.name).with_unit(metric.unit).with_description(metric.help).build()
}

fn histogram(meter: &Meter, metric: &Metric) -> Histogram<f64> {
    let builder = meter.f64_histogram(metric.name).with_unit(metric.unit).with_description(metric.help);
    builder.with_boundaries(DURATION_BUCKETS.to_vec()).build()
}

/// Adds gauges that read the last [`Demand`] of each pool whenever metrics are collected.
pub(super) fn observe_demand(meter: &Meter, demands: &Arc<Demands>) {
    let counts: [Reading<u64>; 4] = [
        (&JOBS, |demand| demand.num_jobs),
        (&QUEUED_ITEMS, |demand| demand.num_queued_items),
        (&RUNNING_ITEMS, |demand| demand.num_running_items),
        (&SLOTS_DEMANDED, |demand| demand.slots_demanded),
    ];
    for (metric, read) in counts {
        let demands = Arc::clone(demands);
        let gauge = meter.u64_observable_gauge(metric.name).with_unit(metric.unit).with_description(metric.help);
        gauge.with_callback(move |gauge| each(&demands, |pool, demand| gauge.observe(read(demand), &[pool]))).build();
    }
    let durations: [Reading<f64>; 3] = [
        (&BACKLOG, |demand| demand.backlog.as_secs_f64()),
        (&OLDEST_QUEUED, |demand| demand.oldest_queued.as_secs_f64()),
        (&IDLE, |demand| demand.idle.as_secs_f64()),
    ];
    for (metric, read) in durations {
        let demands = Arc::clone(demands);
        let gauge = meter.f64_observable_gauge(metric.name).with_unit(metric.unit).with_description(metric.help);
        gauge.with_callback(move |gauge| each(&demands, |pool, demand| gauge.observe(read(demand), &[pool]))).build();
    }
    let demands = Arc::clone(demands);
    let gauge = meter.u64_observable_gauge(SLOTS.name).with_unit(SLOTS.unit).with_description(SLOTS.help);
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
    let Metric { name, unit, help } = CONNECTIONS;
    let open = connections.clone();
    let gauge = meter.u64_observable_gauge(name).with_unit(unit).with_description(help);
    gauge.with_callback(move |gauge| gauge.observe(open.count() as u64, &[])).build();
    let Metric { name, unit, help } = CONNECTIONS_DELAYED;
    let counter = meter.u64_observable_counter(name).with_unit(unit).with_description(help);
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
