//! `procpool workers`, `resize`, `restart` and `drain`: what operators do.

mod progress;
mod snapshot;

use serde_json::{Value, json};

use crate::args::{
    AnswerFormat, DrainArgs, DumpArgs, ResizeArgs, RestartArgs, WorkersArgs, WorkersCommand, WorkersOutput,
};
use crate::call::connect;
use crate::exit::{Exit, Failure};
use crate::output::print_stdout;
use crate::text;

/// Shows the pool and its workers.
pub(crate) async fn workers(args: WorkersArgs) -> Result<Exit, Failure> {
    if let Some(WorkersCommand::Dump(args)) = args.command {
        return dump(args).await;
    }
    let admin = connect(&args.server).await?.admin().of_pool(args.pool.pool);
    let pool = admin.pool().await.map_err(Failure::of_question)?;
    let text = match args.output {
        WorkersOutput::Table => snapshot::as_table(&pool, text::terminal_width()),
        WorkersOutput::Json => format!("{}\n", text::json(&snapshot::as_json(&pool).to_string())),
    };
    print(&text)
}

/// Shows where a worker is.
async fn dump(args: DumpArgs) -> Result<Exit, Failure> {
    let admin = connect(&args.server).await?.admin().of_pool(args.pool.pool);
    let stacks = admin.dump_worker(args.worker).await.map_err(Failure::of_question)?;
    print(&format!("{stacks}\n"))
}

/// Sets the number of slots.
pub(crate) async fn resize(args: ResizeArgs) -> Result<Exit, Failure> {
    let before = connect(&args.server).await?.admin().of_pool(args.pool.pool).resize(args.slots).await?;
    let text = format!("{before} → {} slots", args.slots);
    answer(args.output, &text, &json!({"previous_num_slots": before, "num_slots": args.slots}))
}

/// Replaces every worker, and tells on stderr how that goes on.
pub(crate) async fn restart(args: RestartArgs) -> Result<Exit, Failure> {
    let admin = connect(&args.server).await?.admin().of_pool(args.pool);
    let restart = admin.restart_workers(args.server.timeout);
    let replaced = match args.output {
        AnswerFormat::Text => progress::tell_while(&admin, restart).await?,
        AnswerFormat::Json => restart.await?,
    };
    answer(args.output, &format!("{replaced} workers replaced"), &json!({"num_restarted": replaced}))
}

/// Has the server end in order.
pub(crate) async fn drain(args: DrainArgs) -> Result<Exit, Failure> {
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
