//! Ten times as many calls as the pool can process: refused calls get a time to retry, accepted ones are done in time,
//! throughput stays at its peak, and memory is bounded.
//!
//! The peak is measured first, with enough callers to keep every slot busy, each waiting for its response. Then calls
//! with a deadline are sent at ten times that rate, independent of their outcome (an open loop).

use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use procpool_items::value::{NonFinite, list_to_bytes};
use procpool_proto::google::rpc;
use procpool_proto::v1::MapRequest;
use procpool_proto::v1::map_request::Items;
use procpool_proto::v1::pool_service_client::PoolServiceClient;
use prost::Message as _;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::row::Row;
use crate::server::{SLOTS, Server, mebibytes, most_growth};

/// How long a call's item takes: long compared with the cost of ten calls and with scheduling delays on a busy machine,
/// so that the slots are the bottleneck.
const ITEM: Duration = Duration::from_millis(100);
const DEADLINE: Duration = Duration::from_secs(2);
const PEAK_TIME: Duration = Duration::from_secs(10);
const OVERLOAD: u64 = 10;
/// Calls share a few connections, below the limit of streams of each.
const CONNECTIONS: usize = 8;
const MOST_MEMORY: u64 = 64 << 20;

/// The outcomes of the calls.
#[derive(Debug, Default)]
struct Outcomes {
    done: u64,
    /// How many of these while calls were being sent.
    done_in_time: u64,
    refused: u64,
    refused_without_delay: u64,
    late: u64,
    failed: u64,
    first_failure: Option<String>,
    done_times: Vec<Duration>,
    refused_times: Vec<Duration>,
}

impl Outcomes {
    fn add(&mut self, result: Result<(), Status>, took: Duration) {
        match result {
            Ok(()) => {
                self.done += 1;
                self.done_times.push(took);
            }
            Err(status) if status.code() == Code::ResourceExhausted => {
                self.refused += 1;
                self.refused_without_delay += u64::from(!has_retry_info(&status));
                self.refused_times.push(took);
            }
            Err(status) if status.code() == Code::DeadlineExceeded => self.late += 1,
            // The client's own clock says so.
            Err(status) if status.code() == Code::Cancelled => self.late += 1,
            Err(status) => {
                self.failed += 1;
                self.first_failure.get_or_insert_with(|| status.to_string());
            }
        }
    }
}

fn has_retry_info(status: &Status) -> bool {
    let details = rpc::Status::decode(status.details()).map(|status| status.details).unwrap_or_default();
    details.iter().any(|detail| detail.type_url.ends_with("google.rpc.RetryInfo"))
}

/// Measures; returns the table.
pub(crate) async fn run(time: Duration) -> Result<Vec<Row>> {
    let server = Server::start().await?;
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(server.client().await?);
    }
    let items = list_to_bytes([u64::try_from(ITEM.as_millis())?], NonFinite::Error)?;
    let peak = measure_peak(&clients[0], &items).await?;
    let rate = peak * OVERLOAD;
    let (outcomes, grown) = most_growth(&server, overload(&clients, &items, rate, time)).await?;
    let goodput = outcomes.done_in_time * 1000 / u64::try_from(time.as_millis())?;
    let percent = goodput * 100 / peak.max(1);
    let accepted = outcomes.done + outcomes.late + outcomes.failed;
    let late_percent = outcomes.late * 1000 / accepted.max(1);
    Ok(vec![
        Row::new("peak", format!("{peak} calls/s")),
        Row::new("offered", format!("{rate} calls/s for {time:?}")),
        Row::bounded("goodput", format!("{goodput} calls/s, {percent} %"), "95 % of the peak", percent >= 95),
        Row::new("accepted: done, p50 / p99", percentiles(outcomes.done_times)),
        Row::bounded(
            "accepted: too late",
            format!("{} of {accepted}", outcomes.late),
            "under 1 %, on a busy machine",
            late_percent < 10,
        ),
        Row::bounded("failed otherwise", outcomes.failed.to_string(), "none", outcomes.failed == 0),
        Row::new("the first of these", outcomes.first_failure.unwrap_or_default()),
        Row::new("refused", outcomes.refused.to_string()),
        Row::new("refused after, p50 / p99", percentiles(outcomes.refused_times)),
        Row::bounded(
            "refused without RetryInfo",
            outcomes.refused_without_delay.to_string(),
            "none",
            outcomes.refused_without_delay == 0 && outcomes.refused > 0,
        ),
        Row::bounded("memory of the server", format!("+{}", mebibytes(grown)), "64 MiB", grown <= MOST_MEMORY),
    ])
}

/// Makes a call; returns its outcome and duration.
async fn call(mut client: PoolServiceClient<Channel>, items: Bytes) -> (Result<(), Status>, Duration) {
    let request =
        MapRequest { function: "sleep_ms".to_owned(), items: Some(Items::Values(items)), ..MapRequest::default() };
    let mut request = Request::new(request);
    request.set_timeout(DEADLINE);
    let started_at = Instant::now();
    let result = client.map(request).await.map(|_| ());
    (result, started_at.elapsed())
}

/// Returns the pool's peak rate, in calls per second.
async fn measure_peak(client: &PoolServiceClient<Channel>, items: &Bytes) -> Result<u64> {
    let end = Instant::now() + PEAK_TIME;
    let mut callers = JoinSet::new();
    for _ in 0..2 * SLOTS {
        let (client, items) = (client.clone(), items.clone());
        callers.spawn(async move {
            let mut done = 0;
            while Instant::now() < end {
                call(client.clone(), items.clone()).await.0?;
                done += u64::from(Instant::now() < end);
            }
            Ok::<u64, Status>(done)
        });
    }
    let mut done = 0;
    while let Some(caller) = callers.join_next().await {
        done += caller??;
    }
    Ok(done / PEAK_TIME.as_secs())
}

/// Makes calls at this rate for this time, and waits for the last responses.
async fn overload(
    clients: &[PoolServiceClient<Channel>],
    items: &Bytes,
    rate: u64,
    time: Duration,
) -> Result<Outcomes> {
    let mut outcomes = Outcomes::default();
    let mut calls = JoinSet::new();
    let started_at = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut sent = 0;
    while started_at.elapsed() < time {
        tick.tick().await;
        let due = u64::try_from(started_at.elapsed().as_micros())? * rate / 1_000_000;
        while sent < due {
            let client = clients[usize::try_from(sent)? % CONNECTIONS].clone();
            calls.spawn(call(client, items.clone()));
            sent += 1;
        }
        while let Some(ended) = calls.try_join_next() {
            let (result, took) = ended?;
            outcomes.add(result, took);
        }
    }
    outcomes.done_in_time = outcomes.done;
    while let Some(ended) = calls.join_next().await {
        let (result, took) = ended?;
        outcomes.add(result, took);
    }
    Ok(outcomes)
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
    format!("{:.1?} / {:.1?}", at(50), at(99))
}
