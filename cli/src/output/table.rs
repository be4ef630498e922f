//! `--output table`: one row an item, for people. Rows are printed as they come, so no column waits for a later one.

use procpool_client::ItemError;

use super::json_line::{FAILED, OK};
use super::json_text::JsonText;
use crate::text::{shorten, terminal_width};

const INDEX: &str = "INDEX";
const STATUS: &str = "STATUS";
/// The width of the indexes if nobody knows how many there will be; longer ones push their row to the right.
const USUAL_INDEX_WIDTH: usize = 7;

#[derive(Debug)]
pub(super) struct Table {
    index_width: usize,
    /// The width of the terminal; no row is cut if stdout is none.
    max_width: Option<usize>,
    has_header: bool,
}

impl Table {
    pub(super) fn new(last_index: Option<u64>) -> Self {
        let index_width = last_index.map_or(USUAL_INDEX_WIDTH, |last| last.to_string().len()).max(INDEX.len());
        Self { index_width, max_width: terminal_width(), has_header: false }
    }

    /// Returns the row of an item, below the header if it is the first.
    pub(super) fn row(&mut self, index: u64, result: &Result<JsonText, ItemError>) -> String {
        let (status, text) = match result {
            Ok(value) => (OK, value.to_string()),
            Err(error) => (FAILED, error.message.clone()),
        };
        let row = format!("{index:>width$}  {status:<6}  {text}", width = self.index_width);
        self.header() + &shorten(&row, self.max_width.unwrap_or(usize::MAX))
    }

    /// Returns what stands below the last row.
    pub(super) fn end(&mut self, num_items: u64, num_failed: u64) -> String {
        let items = if num_items == 1 { "item" } else { "items" };
        format!("{}\n{num_items} {items}: {} ok, {num_failed} failed", self.header(), num_items - num_failed)
    }

    fn header(&mut self) -> String {
        if std::mem::replace(&mut self.has_header, true) {
            return String::new();
        }
        format!("{INDEX:>width$}  {STATUS}  RESULT\n", width = self.index_width)
    }
}

#[cfg(test)]
mod tests {
    use procpool_client::ItemErrorKind;
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_are_aligned_and_cut() {
        let failed = |index, message: &str| {
            Err(ItemError { index, kind: ItemErrorKind::InvalidItem, message: message.to_owned() })
        };
        let mut table = Table { index_width: 7, max_width: Some(40), has_header: false };
        let rows = [
            table.row(0, &Ok(json!(["x", null]).into())),
            table.row(12, &failed(12, "two\nlines")),
            table.row(1_234_567, &Ok(json!("a text that is longer than the line").into())),
            table.row(123_456_789, &Ok(json!(1).into())),
            table.end(4, 1),
        ];
        let expected = [
            "  INDEX  STATUS  RESULT\n      0  ok      [\"x\",null]",
            "     12  failed  two…",
            "1234567  ok      \"a text that is longer…",
            "123456789  ok      1",
            "\n4 items: 3 ok, 1 failed",
        ];
        assert_eq!(rows, expected);
        assert_eq!(Table::new(Some(9)).end(0, 0), "INDEX  STATUS  RESULT\n\n0 items: 0 ok, 0 failed");
    }
}
