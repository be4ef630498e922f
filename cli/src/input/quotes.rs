//! Quotes of CSV that are never closed. The `csv` crate takes the rest of the file for one field, and says nothing.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

/// Where in a field of CSV a byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    FieldStart,
    Unquoted,
    Quoted,
    /// The end of a quoted field, or the first of two quotes that stand for one.
    QuoteInQuoted,
}

impl State {
    fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Quoted, b'"') => Self::QuoteInQuoted,
            (Self::FieldStart | Self::QuoteInQuoted, b'"') | (Self::Quoted, _) => Self::Quoted,
            (_, b',' | b'\n' | b'\r') => Self::FieldStart,
            (_, _) => Self::Unquoted,
        }
    }
}

/// A reader that knows, at the end, whether it ended within quotes.
pub(super) struct Quoted<R> {
    reader: R,
    state: State,
    line: u64,
    /// Where the last quoted field began.
    opened: u64,
    at_end: OpenQuote,
}

/// The line of the quote that was still open at the end; `None` before the end, and if none was.
#[derive(Debug, Clone, Default)]
pub(super) struct OpenQuote(Rc<Cell<Option<u64>>>);

impl OpenQuote {
    pub(super) fn line_at_end(&self) -> Option<u64> {
        self.0.get()
    }
}

impl<R: Read> Quoted<R> {
    pub(super) fn new(reader: R) -> (Self, OpenQuote) {
        let at_end = OpenQuote::default();
        (Self { reader, state: State::FieldStart, line: 1, opened: 1, at_end: at_end.clone() }, at_end)
    }
}

impl<R: Read> Read for Quoted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.reader.read(buffer)?;
        if length == 0 && self.state == State::Quoted {
            self.at_end.0.set(Some(self.opened));
        }
        for &byte in &buffer[..length] {
            if self.state == State::FieldStart {
                self.opened = self.line;
            }
            self.state = self.state.after(byte);
            self.line += u64::from(byte == b'\n');
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_that_is_open_at_the_end_is_found() {
        for (text, expected) in [
            ("a,b\n1,2\n", None),
            ("\"a,b\n1,2\n", Some(1)),
            ("a,b\n1,\"2\n3,4\n", Some(2)),
            ("a\n\"two\nlines\"\n\"x", Some(4)),
            ("a\n\"he said \"\"no\"\"\"\n", None),
            ("a\n\"ends\"\"", Some(2)),
            ("a\n5\" wide\n", None),
            ("a\r\n\"x\"\r\n", None),
            ("a\n\"x\"", None),
        ] {
            let (mut reader, quote) = Quoted::new(text.as_bytes());
            assert_eq!(quote.line_at_end(), None);
            reader.read_to_end(&mut Vec::new()).unwrap();
            assert_eq!(quote.line_at_end(), expected, "{text:?}");
        }
    }
}
