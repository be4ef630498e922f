//! `procpool health`, and why a server takes no calls.

use clap::Args;
use procpool_client::admin::{PoolSnapshot, PoolState};
use procpool_client::{CallError, Client, Health};

use crate::connect::{ServerArgs, connect};
use crate::exit::{self, Exit, Failure};
use crate::output::{print_message, print_stdout};

#[derive(Debug, Args)]
#[command(after_help = exit::HELP)]
pub(crate) struct HealthArgs {
    #[command(flatten)]
    server: ServerArgs,
}

/// Tells on stdout whether the server takes calls, and on stderr why not.
pub(crate) async fn run(args: HealthArgs) -> Result<Exit, Failure> {
    let client = connect(&args.server).await?;
    let (text, exit) = match client.health().await.map_err(Failure::of_question)? {
        Health::Serving => ("serving\n", Exit::Ok),
        Health::NotServing => ("not serving\n", Exit::Unavailable),
        Health::Unknown => ("unknown\n", Exit::Unavailable),
    };
    print_stdout(text)?;
    if exit != Exit::Ok
        && let Some(reason) = why_not_ready(&client).await
    {
        print_message(&reason);
    }
    Ok(exit)
}

/// Returns why the pool of a server does not run items now; `None` if it does, or nobody says.
pub(crate) async fn why_not_ready(client: &Client) -> Option<String> {
    match client.admin().pool().await {
        Ok(pool) => reason_of(&pool),
        // Which are there is in the message.
        Err(CallError::InvalidArgument { message, .. }) => {
            Some(format!("a pool is not ready; `procpool workers --pool NAME` tells why ({message})"))
        }
        Err(_) => None,
    }
}

/// Returns why a call that the server has taken waits: no worker has been ready yet. `None` if that is not so, or nobody
/// says; of several pools none can be asked for without a name.
pub(crate) async fn why_it_waits(client: &Client) -> Option<String> {
    let pool = client.admin().pool().await.ok()?;
    if pool.state() == PoolState::Starting { reason_of(&pool) } else { None }
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
