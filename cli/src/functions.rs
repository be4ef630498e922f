//! `procpool functions`

use std::io::Write as _;

use anyhow::anyhow;
use procpool_client::{FunctionInfo, Health};
use serde_json::json;

use crate::args::{AnswerFormat, FunctionsArgs};
use crate::call::connect;
use crate::exit::{Exit, Failure};
use crate::output::OutputError;

/// Lists the functions that the workers registered.
pub(crate) async fn run(args: FunctionsArgs) -> Result<Exit, Failure> {
    let client = connect(&args.server).await?;
    let functions = client.functions().await?;
    if functions.is_empty() && client.health().await? != Health::Serving {
        return Err(Failure::new(Exit::Unavailable, anyhow!("no worker is ready, so the functions are not known yet")));
    }
    let is_json = args.json || args.output == AnswerFormat::Json;
    let text = if is_json { as_json(&functions) } else { as_text(&functions) };
    std::io::stdout().write_all(text.as_bytes()).map_err(OutputError::from)?;
    Ok(Exit::Ok)
}

fn as_json(functions: &[FunctionInfo]) -> String {
    let lines = functions.iter().map(|FunctionInfo { name, signature, doc, example, idempotent, pool }| {
        let function = json!({
            "name": name, "signature": signature, "doc": doc, "example": example, "idempotent": idempotent, "pool": pool
        });
        function.to_string()
    });
    lines.flat_map(|line| [line, "\n".to_owned()]).collect()
}

/// Tells the pool of each only if there are several.
fn as_text(functions: &[FunctionInfo]) -> String {
    let has_pools = functions.iter().any(|function| function.pool != functions[0].pool);
    let pool_width = functions.iter().map(|function| function.pool.len()).max().unwrap_or(0);
    let titles = functions.iter().map(|function| {
        let parameters = if function.signature.is_empty() { "(…)" } else { &function.signature };
        format!("{}{parameters}", function.name)
    });
    let titles: Vec<String> = titles.collect();
    let width = titles.iter().map(|title| title.chars().count()).max().unwrap_or(0);
    let lines = titles.iter().zip(functions).map(|(title, function)| {
        let summary = function.doc.lines().next().unwrap_or_default();
        let pool = if has_pools { format!("{:pool_width$}  ", function.pool) } else { String::new() };
        format!("{}\n", format!("{pool}{title:width$}  {summary}").trim_end())
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_aligned() {
        let function = |name: &str, signature: &str, doc: &str| FunctionInfo {
            name: name.to_owned(),
            signature: signature.to_owned(),
            doc: doc.to_owned(),
            example: String::new(),
            idempotent: false,
            pool: "math".to_owned(),
        };
        let mut functions = [function("power", "(base, exponent)", "Raises.\nMore."), function("f", "", "")];
        assert_eq!(as_text(&functions), "power(base, exponent)  Raises.\nf(…)\n");
        assert_eq!(as_text(&[]), "");
        functions[1].pool = "f".to_owned();
        assert_eq!(as_text(&functions), "math  power(base, exponent)  Raises.\nf     f(…)\n");
    }
}
