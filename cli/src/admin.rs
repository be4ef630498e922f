//! `procpool workers`, `jobs`, `cancel`, `resize`, `restart` and `drain`: what operators do.

mod jobs;
mod restart;
mod table;

use std::num::NonZeroU32;

use clap::{Args, Subcommand};
use procpool_client::ConnectError;
use procpool_client::admin::Admin;
use serde_json::{Value, json};

use crate::connect::{ServerArgs, connect};
use crate::exit::{self, Exit, Failure};
use crate::print::{AnswerFormat, TableFormat, json_value, print_stdout};
use crate::{quantity, text};

#[derive(Debug, Subcommand)]
pub(crate) enum AdminCommand {
    /// Show the pool and its workers
    Workers(WorkersArgs),
    /// Show the calls in progress
    Jobs(JobsArgs),
    /// End a call in progress; its client gets an error that says so
    Cancel(CancelArgs),
    /// Set the number of workers of a running server
    Resize(ResizeArgs),
    /// Replace every worker, one at a time and without a failed call, so that they pick up new code
    Restart(RestartArgs),
    /// Have a server take nothing new, finish what it has, and end
    Drain(DrainArgs),
}

/// Runs a command of an operator.
pub(crate) async fn run(command: AdminCommand) -> Result<Exit, Failure> {
    match command {
        AdminCommand::Workers(args) => workers(args).await,
        AdminCommand::Jobs(args) => jobs(args).await,
        AdminCommand::Cancel(args) => cancel(args).await,
        AdminCommand::Resize(args) => resize(args).await,
        AdminCommand::Restart(args) => restart(args).await,
        AdminCommand::Drain(args) => drain(args).await,
    }
}

/// One pool of a server.
#[derive(Debug, Args)]
struct PoolArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// The pool, if the server has several; `procpool functions` shows them
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pool: String,
}

impl PoolArgs {
    async fn admin(self) -> Result<Admin, ConnectError> {
        Ok(connect(&self.server).await?.admin().of_pool(self.pool))
    }
}

#[derive(Debug, Args)]
#[command(after_help = exit::HELP, args_conflicts_with_subcommands = true)]
pub(crate) struct WorkersArgs {
    #[command(subcommand)]
    command: Option<WorkersCommand>,
    #[command(flatten)]
    pool: PoolArgs,
    /// How to print it
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    output: TableFormat,
}

#[derive(Debug, Subcommand)]
enum WorkersCommand {
    /// Show where a worker is at this moment: the stacks of its threads. It goes on undisturbed
    Dump(DumpArgs),
}

#[derive(Debug, Args)]
#[command(after_help = exit::HELP)]
struct DumpArgs {
    /// The worker, as `procpool workers` names it in the first column
    #[arg(value_name = "ID")]
    worker: u64,
    #[command(flatten)]
    pool: PoolArgs,
}

const JOBS_HELP: &str = "\
A job is a call that the server has accepted. Its STATE is `running`; `queued`, when it waits for a worker; `paused`, \
when it waits for its reader to take results; or `idle`, when it waits for its client to send items. Of each pool, the \
oldest 100 are shown.";

#[derive(Debug, Args)]
#[command(after_help = format!("{JOBS_HELP}\n\n{}", exit::HELP))]
pub(crate) struct JobsArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// The pool. Default: all
    #[arg(long, value_name = "NAME")]
    pool: Option<String>,
    /// How to print them; `json` is one object for each pool
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    output: TableFormat,
}

#[derive(Debug, Args)]
#[command(after_help = exit::HELP)]
pub(crate) struct CancelArgs {
    /// The job, as `procpool jobs` names it in the first column
    #[arg(value_name = "JOB")]
    job: u64,
    #[command(flatten)]
    server: ServerArgs,
    /// How to print the answer
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    output: AnswerFormat,
}

#[derive(Debug, Args)]
#[command(after_help = exit::HELP)]
pub(crate) struct ResizeArgs {
    /// The number of workers, up to 4096
    #[arg(value_name = "N", value_parser = quantity::positive)]
    slots: NonZeroU32,
    #[command(flatten)]
    pool: PoolArgs,
    /// How to print the answer
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    output: AnswerFormat,
}

const RESTART_HELP: &str = "\
A worker is replaced between items, when its item is done, and while every other slot has a worker that is up. When the \
time is over the restart goes on; the error tells how many workers are left, and why the last new one did not start. \
With `--output text`, stderr names each worker that becomes ready or fails to start, meanwhile.";

#[derive(Debug, Args)]
#[command(
    after_help = format!("{RESTART_HELP}\n\n{}", exit::HELP),
    mut_arg("timeout", |arg| arg.default_value("5min").help("How long to wait for the new workers"))
)]
pub(crate) struct RestartArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// The pool. Default: all
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pool: String,
    /// How to print the answer
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    output: AnswerFormat,
}

#[derive(Debug, Args)]
#[command(after_help = exit::HELP)]
pub(crate) struct DrainArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// How to print the answer
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    output: AnswerFormat,
}

/// Shows the pool and its workers.
async fn workers(args: WorkersArgs) -> Result<Exit, Failure> {
    if let Some(WorkersCommand::Dump(args)) = args.command {
        return dump(args).await;
    }
    let pool = args.pool.admin().await?.pool().await.map_err(Failure::of_question)?;
    let text = match args.output {
        TableFormat::Table => table::of_pool(&pool, text::terminal_width()),
        TableFormat::Json => format!("{}\n", text::json(&json_value(&pool).to_string())),
    };
    print(&text)
}

/// Shows where a worker is.
async fn dump(args: DumpArgs) -> Result<Exit, Failure> {
    let stacks = args.pool.admin().await?.dump_worker(args.worker).await.map_err(Failure::of_question)?;
    print(&format!("{stacks}\n"))
}

/// Shows the jobs of all pools, or of one.
async fn jobs(args: JobsArgs) -> Result<Exit, Failure> {
    let client = connect(&args.server).await?;
    let names = match args.pool {
        Some(name) => vec![name],
        None => client.pools().await.map_err(Failure::of_question)?,
    };
    let mut pools = Vec::new();
    for name in names {
        pools.push(client.admin().of_pool(name).pool().await.map_err(Failure::of_question)?);
    }
    print(&match args.output {
        TableFormat::Table => jobs::as_table(&pools, text::terminal_width()),
        TableFormat::Json => jobs::as_json(&pools),
    })
}

/// Cancels a job.
async fn cancel(args: CancelArgs) -> Result<Exit, Failure> {
    connect(&args.server).await?.admin().cancel_job(args.job).await?;
    answer(args.output, &format!("job {} is cancelled", args.job), &json!({"job": args.job, "cancelled": true}))
}

/// Sets the number of slots.
async fn resize(args: ResizeArgs) -> Result<Exit, Failure> {
    let before = args.pool.admin().await?.resize(args.slots).await?;
    let text = format!("{before} → {} slots", args.slots);
    answer(args.output, &text, &json!({"previous_num_slots": before, "num_slots": args.slots}))
}

/// Replaces every worker, and tells on stderr how that goes on.
async fn restart(args: RestartArgs) -> Result<Exit, Failure> {
    let admin = connect(&args.server).await?.admin().of_pool(args.pool);
    let restart = admin.restart_workers(args.server.timeout);
    let replaced = match args.output {
        AnswerFormat::Text => restart::report_while(&admin, restart).await?,
        AnswerFormat::Json => restart.await?,
    };
    answer(args.output, &format!("{replaced} workers replaced"), &json!({"num_restarted": replaced}))
}

/// Has the server end in order.
async fn drain(args: DrainArgs) -> Result<Exit, Failure> {
    connect(&args.server).await?.admin().drain().await?;
    answer(args.output, "the server is draining", &json!({"draining": true}))
}

fn answer(format: AnswerFormat, text: &str, json: &Value) -> Result<Exit, Failure> {
    match format {
        AnswerFormat::Text => print(&format!("{text}\n")),
        AnswerFormat::Json => print(&format!("{json}\n")),
    }
}

fn print(text: &str) -> Result<Exit, Failure> {
    print_stdout(text)?;
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use procpool_client::admin::{
        Duration, MemoryEnforcement, PoolLimits, PoolSnapshot, PoolState, Worker, WorkerState,
    };

    use super::*;

    #[test]
    fn json_has_words_for_states_and_seconds_for_durations() {
        let time = |seconds, nanos| Some(Duration { seconds, nanos });
        let limits = PoolLimits { crash_limit: 3, cancel_grace_period: time(0, 250_000_000), ..PoolLimits::default() };
        let (age, cpu_time) = (time(4, 250_000_000), time(1, 0));
        let pool = PoolSnapshot {
            state: PoolState::Ready.into(),
            memory_enforcement: MemoryEnforcement::Monitor.into(),
            limits: Some(limits),
            workers: vec![
                Worker { state: WorkerState::Busy.into(), age, cpu_time, ..Worker::default() },
                Worker { state: 99, ..Worker::default() },
            ],
            ..PoolSnapshot::default()
        };
        let pool = json_value(&pool);
        assert_eq!((&pool["state"], &pool["memory_enforcement"]), (&json!("ready"), &json!("monitor")));
        assert_eq!((&pool["counts"], &pool["server_version"]), (&Value::Null, &json!("")));
        let limits = &pool["limits"];
        assert_eq!((&limits["cancel_grace_period_seconds"], &limits["crash_limit"]), (&json!(0.25), &json!(3)));
        assert_eq!((&limits["item_timeout_seconds"], &limits["max_items_per_worker"]), (&Value::Null, &Value::Null));
        let times_of = |worker: &Value| ["state", "age_seconds", "cpu_seconds"].map(|key| worker[key].clone());
        assert_eq!(times_of(&pool["workers"][0]), [json!("busy"), json!(4.25), json!(1.0)]);
        let later = times_of(&pool["workers"][1]);
        assert_eq!(later, [json!("unknown"), Value::Null, Value::Null], "a state of a later version");
    }
}
