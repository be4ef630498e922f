//! The arguments of the commands that run over a list: where the list is, which of it to run, and what to print.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::quantity;
use crate::selection::Selection;

const LISTS: &str = "Lists";
const OUTPUT: &str = "Output";

/// What to run over which items.
#[derive(Debug, Args)]
pub(crate) struct ItemsArgs {
    /// The name of the function; `procpool functions` lists them
    pub(crate) function: String,
    /// The items: JSON values, ranges of integers (`1..10` is 1 to 10), `@FILE` or `-` for a file or stdin with one
    /// JSON value a line. Default: stdin
    #[arg(value_name = "ITEM", allow_negative_numbers = true)]
    pub(crate) items: Vec<String>,
    /// A file of items, one JSON value a line; they come after those of the arguments
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Vec<PathBuf>,
    /// An argument that all items share, passed before the item: a JSON value, or `@FILE` for a file that holds one
    #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
    pub(crate) common: Option<String>,
    /// Items handed to a worker at a time. Default: chosen from the measured run time
    #[arg(long, value_name = "N", value_parser = quantity::positive)]
    pub(crate) chunk_size: Option<NonZeroU32>,
    /// What to do when an item fails: `fail` ends the call, `collect` tells of it and goes on. Default: `fail` for map and
    /// starmap that print values alone, else `collect`
    #[arg(long, value_enum, value_name = "WHAT", hide_possible_values = true)]
    pub(crate) on_error: Option<OnError>,
    #[command(flatten)]
    pub(crate) list: ListArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnError {
    Fail,
    Collect,
}

/// A list from a file or a pipe, and which of its items to run.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// A file of items, one a line, each a string just as it stands there, empty lines too; `-` is stdin
    #[arg(help_heading = LISTS, long, value_name = "FILE", conflicts_with_all = ["items", "file", "each_file", "from_json", "csv"])]
    pub(crate) each_line: Option<PathBuf>,
    /// A file of paths, one a line; an item is the bytes of the file at a path, for functions that take bytes; `-` is
    /// stdin. Results, bytes too, are printed in base64, as JSON strings
    #[arg(help_heading = LISTS, long, value_name = "FILE", conflicts_with_all = ["items", "file", "from_json", "csv", "json"])]
    pub(crate) each_file: Option<PathBuf>,
    /// A JSON document that is one array, of items; `-` is stdin
    #[arg(help_heading = LISTS, long, value_name = "FILE", conflicts_with_all = ["items", "file", "csv"])]
    pub(crate) from_json: Option<PathBuf>,
    /// A CSV file with a header row; each record is an item: an object of strings by the names in the header, or the list
    /// of its fields where an item is a list of arguments; `-` is stdin
    #[arg(help_heading = LISTS, long, value_name = "FILE", conflicts_with_all = ["items", "file"])]
    pub(crate) csv: Option<PathBuf>,
    /// The first row of the CSV file is a record like the others, and each is the list of its fields
    #[arg(help_heading = LISTS, long)]
    pub(crate) csv_no_header: bool,
    /// CSV fields that are written like JSON numbers are numbers (12, -1.5, 1e3; not 007)
    #[arg(help_heading = LISTS, long)]
    pub(crate) csv_numbers: bool,
    /// Run only these items, counted from 0: `3,8-10,20-` is 3, 8 to 10, and 20 to the end. Results keep their indexes
    #[arg(help_heading = LISTS, long, value_name = "INDEXES")]
    pub(crate) only: Option<Selection>,
    /// Run only the items that have no `ok` in what an earlier run over the same list printed with `--output json`. To run
    /// on until all are ok, append: `--output json --retry-failed out.jsonl --output-file out.jsonl`. May be given more
    /// than once
    #[arg(help_heading = LISTS, long, value_name = "FILE")]
    pub(crate) retry_failed: Vec<PathBuf>,
}

/// What to print.
#[derive(Debug, Args)]
pub(crate) struct OutputArgs {
    /// What stdout gets: `values` is one result a line, null for a failed item; `json` is one object a line with index,
    /// status (ok or failed), and result or error; `table` is for people; `quiet` is nothing. Failed items are told on
    /// stderr in any case
    #[arg(help_heading = OUTPUT, long, value_enum, value_name = "FORMAT", default_value_t, hide_possible_values = true)]
    pub(crate) output: OutputFormat,
    /// Print `{"index":0,"result":…}` or `{"index":0,"error":…}` instead of the results alone
    #[arg(help_heading = OUTPUT, long, conflicts_with = "output")]
    pub(crate) index: bool,
    /// Append to this file what stdout would get; what it has stays. A file that is not there is created, also for
    /// `--retry-failed`
    #[arg(help_heading = OUTPUT, long, value_name = "FILE")]
    pub(crate) output_file: Option<PathBuf>,
    /// Show no progress bar
    #[arg(help_heading = OUTPUT, long, short)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// One result a line, as JSON; null for a failed item
    #[default]
    Values,
    /// One object a line, with index, status (ok or failed), and result or error
    Json,
    /// Index, status, and result or error, as wide as the terminal
    Table,
    /// Nothing
    Quiet,
}

impl OutputArgs {
    pub(crate) fn hides_progress(&self) -> bool {
        self.quiet || self.output == OutputFormat::Quiet
    }
}
