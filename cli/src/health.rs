//! `procpool health`

use std::io::Write as _;

use procpool_client::Health;

use crate::args::HealthArgs;
use crate::call::connect;
use crate::exit::{Exit, Failure};
use crate::output::OutputError;

/// Tells whether the server takes calls.
pub(crate) async fn run(args: HealthArgs) -> Result<Exit, Failure> {
    let health = connect(&args.server).await?.health().await?;
    let (text, exit) = match health {
        Health::Serving => ("serving", Exit::Ok),
        Health::NotServing => ("not serving", Exit::Unavailable),
        Health::Unknown => ("unknown", Exit::Unavailable),
    };
    writeln!(std::io::stdout(), "{text}").map_err(OutputError::from)?;
    Ok(exit)
}
