//! `procpool functions`

use anyhow::anyhow;
use clap::Args;
use procpool_client::{FunctionInfo, Health};

use crate::connect::{ServerArgs, connect};
use crate::exit::{self, Exit, Failure};
use crate::health::why_not_ready;
use crate::print::{AnswerFormat, json_value, print_stdout};
use crate::text::{self, shorten, terminal_width};

#[derive(Debug, Args)]
#[command(after_help = exit::HELP)]
pub(crate) struct FunctionsArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// How to print them: `text`, or `json` for one object a line
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    output: AnswerFormat,
    /// The same as `--output json`
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

/// Lists the functions that the workers registered.
pub(crate) async fn run(args: FunctionsArgs) -> Result<Exit, Failure> {
    let client = connect(&args.server).await?;
    let functions = client.functions().await.map_err(Failure::of_question)?;
    if functions.is_empty() && client.health().await.map_err(Failure::of_question)? != Health::Serving {
        let reasons = why_not_ready(&client).await.join("; ");
        let separator = if reasons.is_empty() { "" } else { ": " };
        let message = anyhow!("no worker is ready, so the functions are not known yet{separator}{reasons}");
        return Err(Failure::new(Exit::Unavailable, message));
    }
    let is_json = args.json || args.output == AnswerFormat::Json;
    let text = if is_json { as_json(&functions) } else { as_text(&functions, terminal_width()) };
    print_stdout(&text)?;
    Ok(Exit::Ok)
}

fn as_json(functions: &[FunctionInfo]) -> String {
    let lines = functions.iter().map(|function| text::json(&json_value(function).to_string()).into_owned());
    lines.flat_map(|line| [line, "\n".to_owned()]).collect()
}

/// Returns a line for each function, at most `max_width` columns wide, with the pool if there are several.
fn as_text(functions: &[FunctionInfo], max_width: Option<usize>) -> String {
    let has_pools = functions.iter().any(|function| function.pool != functions[0].pool);
    let pool_width = functions.iter().map(|function| function.pool.len()).max().unwrap_or(0);
    let titles = functions.iter().map(|function| {
        let parameters = if function.signature.is_empty() { "(…)" } else { &function.signature };
        text::one_line(&format!("{}{parameters}", function.name)).into_owned()
    });
    let titles: Vec<String> = titles.collect();
    let width = titles.iter().map(|title| title.chars().count()).max().unwrap_or(0);
    let lines = titles.iter().zip(functions).map(|(title, function)| {
        let summary = text::one_line(function.doc.lines().next().unwrap_or_default());
        let pool = if has_pools { format!("{:pool_width$}  ", function.pool) } else { String::new() };
        let line = format!("{pool}{title:width$}  {summary}");
        format!("{}\n", shorten(line.trim_end(), max_width.unwrap_or(usize::MAX)))
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
            pool: "math".to_owned(),
            ..FunctionInfo::default()
        };
        let mut functions = [function("power", "(base, exponent)", "Raises.\nMore."), function("f", "", "")];
        assert_eq!(as_text(&functions, None), "power(base, exponent)  Raises.\nf(…)\n");
        assert_eq!(as_text(&functions, Some(25)), "power(base, exponent)  R…\nf(…)\n");
        assert_eq!(as_text(&[], None), "");
        functions[1].pool = "f".to_owned();
        assert_eq!(as_text(&functions, None), "math  power(base, exponent)  Raises.\nf     f(…)\n");
    }

    #[test]
    fn what_a_function_says_of_itself_takes_one_line_and_does_nothing() {
        let function = FunctionInfo {
            name: "f".to_owned(),
            signature: "(a='\u{1b}[31m',\n  b=1)".to_owned(),
            doc: "Red \u{9b}31m.\r\nMore.".to_owned(),
            ..FunctionInfo::default()
        };
        let functions = [function];
        assert_eq!(as_text(&functions, None), "f(a='\\u{1b}[31m',\\n  b=1)  Red \\u{9b}31m.\n");
        assert!(!as_json(&functions).contains(['\u{1b}', '\u{9b}', '\r']));
    }
}
