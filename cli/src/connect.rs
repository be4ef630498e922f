//! The server that a command calls.

use std::time::Duration;

use clap::Args;
use procpool_client::{Client, ClientBuilder, ConnectError};

use crate::{config, quantity};

/// The server to call.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// The server: http://HOST:PORT, HOST:PORT or unix:PATH
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "PROCPOOL_SERVER",
        hide_env_values = true,
        default_value = "http://127.0.0.1:50051"
    )]
    pub(crate) server: String,
    /// The longest time for the call as a whole. Default: no limit
    #[arg(long, value_name = "DURATION", value_parser = quantity::duration)]
    pub(crate) timeout: Option<Duration>,
}

/// Connects to the server of the command line.
pub(crate) async fn connect(args: &ServerArgs) -> Result<Client, ConnectError> {
    connect_with(args, Client::builder()).await
}

/// Connects with settings of the client.
pub(crate) async fn connect_with(args: &ServerArgs, builder: ClientBuilder) -> Result<Client, ConnectError> {
    let builder = match args.timeout {
        None => builder,
        Some(timeout) => builder.default_timeout(timeout),
    };
    let client = builder.connect(&args.server).await?;
    // OpenTelemetry's convention for the trace that a process continues.
    let variable = |name| config::variable(name).unwrap_or_default();
    Ok(client.with_trace_context(&variable("TRACEPARENT"), &variable("TRACESTATE")))
}
