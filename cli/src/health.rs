//! `procpool health`, and why a server takes no calls.

use clap::Args;
use procpool_client::admin::{PoolSnapshot, PoolState};
use procpool_client::{Client, Health};

use crate::connect::{ServerArgs, connect};
use crate::exit::{self, Exit, Failure};
use crate::print::{print_message, print_stdout};

#[derive(Debug, Args)]
#[command(after_help = exit::HELP)]
pub(crate) struct HealthArgs {
    #[command(flatten)]
    server: ServerArgs,
}

/// Prints to stdout whether the server takes calls, and to stderr why not.
pub(crate) async fn run(args: HealthArgs) -> Result<Exit, Failure> {
    let client = connect(&args.server).await?;
    let (text, exit) = match client.health().await.map_err(Failure::of_question)? {
        Health::Serving => ("serving\n", Exit::Ok),
        Health::NotServing => ("not serving\n", Exit::Unavailable),
        Health::Unknown => ("unknown\n", Exit::Unavailable),
    };
    print_stdout(text)?;
    if exit != Exit::Ok {
        why_not_ready(&client).await.iter().for_each(|reason| print_message(reason));
    }
    Ok(exit)
}

/// Returns a reason for each pool that does not run items now. Empty if all do, or if the server does not say.
pub(crate) async fn why_not_ready(client: &Client) -> Vec<String> {
    pools(client).await.iter().filter_map(reason_of).collect()
}

/// Returns why an accepted call waits: no worker that may have the function has been ready yet. `None` if that is not the
/// cause, or if the server does not say.
pub(crate) async fn why_it_waits(client: &Client, function: &str) -> Option<String> {
    let pools = pools(client).await;
    let starting = pools.iter().filter(|pool| pool.state() == PoolState::Starting);
    let reasons: Vec<String> = starting.filter_map(reason_of).collect();
    if reasons.is_empty() || client.functions().await.ok()?.iter().any(|known| known.name == function) {
        return None;
    }
    Some(reasons.join("; "))
}

/// Returns the state of the pools that the server lists and shows.
async fn pools(client: &Client) -> Vec<PoolSnapshot> {
    let mut names = client.pools().await.unwrap_or_default();
    if names.is_empty() {
        // A server that does not list them may have only one, which needs no name.
        names.push(String::new());
    }
    let mut pools = Vec::new();
    for name in names {
        pools.extend(client.admin().of_pool(name).pool().await);
    }
    pools
}

fn reason_of(pool: &PoolSnapshot) -> Option<String> {
    let PoolSnapshot { name, last_start_failure: failure, .. } = pool;
    let failed = if failure.is_empty() { String::new() } else { format!("; the last one that was started: {failure}") };
    match pool.state() {
        PoolState::Ready => None,
        PoolState::Starting => Some(format!("pool {name} is starting: no worker has been ready yet{failed}")),
        PoolState::Degraded => Some(format!("pool {name} is degraded: no worker can be started{failed}")),
        PoolState::Draining | PoolState::Stopped => Some(format!("pool {name} is shutting down")),
        PoolState::Unspecified => Some(format!("pool {name} is in a state that this version does not know")),
    }
}
