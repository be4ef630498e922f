//! Lines out of a stream of bytes: cut where they are too long, and made safe to print.

use std::collections::VecDeque;

/// The longest line that is logged, in bytes.
pub(super) const MAX_LINE_BYTES: usize = 8 << 10;
/// How much of the end of stderr is kept, in bytes.
pub(super) const MAX_TAIL_BYTES: usize = 4 << 10;
/// What stands at the end of a line that was cut.
const CUT_MARK: &str = " … (line cut)";

/// Cuts a stream into lines, holding at most one of them.
#[derive(Debug, Default)]
pub(super) struct LineBuffer {
    partial: Vec<u8>,
    /// The line was too long and has been handed out; the rest of it is skipped.
    is_skipping: bool,
}

impl LineBuffer {
    /// Takes the next bytes of the stream, and calls back with each line that they complete, without its end, and
    /// whether it was cut. Empty lines are left out.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut log: impl FnMut(&[u8], bool)) {
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            self.extend(&bytes[..end], &mut log);
            self.end_line(&mut log);
            bytes = &bytes[end + 1..];
        }
        self.extend(bytes, &mut log);
    }

    /// Hands out the line that has no end yet.
    pub(super) fn finish(&mut self, mut log: impl FnMut(&[u8], bool)) {
        self.end_line(&mut log);
    }

    fn extend(&mut self, bytes: &[u8], log: &mut impl FnMut(&[u8], bool)) {
        if self.is_skipping {
            return;
        }
        let room = MAX_LINE_BYTES - self.partial.len();
        self.partial.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if bytes.len() > room {
            log(&self.partial, true);
            self.partial.clear();
            self.is_skipping = true;
        }
    }

    fn end_line(&mut self, log: &mut impl FnMut(&[u8], bool)) {
        let line = self.partial.strip_suffix(b"\r").unwrap_or(&self.partial);
        if !line.is_empty() {
            log(line, false);
        }
        self.partial.clear();
        self.is_skipping = false;
    }
}

/// The last bytes of a stream.
#[derive(Debug, Default)]
pub(super) struct Tail {
    bytes: VecDeque<u8>,
}

impl Tail {
    /// Takes the next bytes of the stream.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let kept = &bytes[bytes.len().saturating_sub(MAX_TAIL_BYTES)..];
        let surplus = (self.bytes.len() + kept.len()).saturating_sub(MAX_TAIL_BYTES);
        self.bytes.drain(..surplus);
        self.bytes.extend(kept);
    }

    /// Returns them as text of at most [`MAX_TAIL_BYTES`], line ends kept.
    pub(super) fn text(&mut self) -> String {
        let lossy = String::from_utf8_lossy(self.bytes.make_contiguous());
        let lines: Vec<String> = lossy.trim_end().lines().map(escape).collect();
        let text = lines.join("\n");
        let mut start = text.len().saturating_sub(MAX_TAIL_BYTES);
        while !text.is_char_boundary(start) {
            start += 1;
        }
        text[start..].to_owned()
    }
}

/// Makes a line safe to print: invalid UTF-8 is replaced, and control characters are escaped.
pub(super) fn printable(line: &[u8], is_cut: bool) -> String {
    let mut text = escape(&String::from_utf8_lossy(line));
    if is_cut {
        text.push_str(CUT_MARK);
    }
    text
}

/// Escapes what could move the cursor, colour the terminal, or turn the direction of the text.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        let is_harmful = character.is_control() && character != '\t'
            || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if is_harmful {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<(String, bool)> {
        let mut buffer = LineBuffer::default();
        let mut lines = Vec::new();
        let mut log = |line: &[u8], is_cut: bool| lines.push((String::from_utf8_lossy(line).into_owned(), is_cut));
        for piece in pieces {
            buffer.feed(piece, &mut log);
            assert!(buffer.partial.len() <= MAX_LINE_BYTES);
        }
        buffer.finish(&mut log);
        lines
    }

    #[test]
    fn lines_come_whole_however_the_stream_is_cut() {
        let expected = vec![("one".to_owned(), false), ("two".to_owned(), false), ("three".to_owned(), false)];
        assert_eq!(lines(&[b"one\ntwo\r\n\nthree"]), expected);
        let bytes: Vec<&[u8]> = b"one\ntwo\r\n\nthree".chunks(1).collect();
        assert_eq!(lines(&bytes), expected);
    }

    #[test]
    fn a_long_line_is_cut_once_and_its_rest_skipped() {
        let long = vec![b'x'; 3 * MAX_LINE_BYTES];
        let found = lines(&[&long, &long, b"yyy\nnext\n"]);
        assert_eq!(found, vec![("x".repeat(MAX_LINE_BYTES), true), ("next".to_owned(), false)]);
        let exact = vec![b'x'; MAX_LINE_BYTES];
        assert_eq!(lines(&[&exact, b"\n"]), vec![("x".repeat(MAX_LINE_BYTES), false)]);
    }

    #[test]
    fn the_tail_is_the_end() {
        let mut tail = Tail::default();
        for number in 0..10_000 {
            tail.push(format!("line {number}\n").as_bytes());
        }
        let text = tail.text();
        assert!(text.len() <= MAX_TAIL_BYTES);
        assert!(text.ends_with("line 9998\nline 9999"));

        let mut tail = Tail::default();
        tail.push(&vec![0x1b; 100_000]);
        assert!(tail.text().len() <= MAX_TAIL_BYTES);
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(printable(b"\x1b[31mred\x07\ttab \xff", true), "\\u{1b}[31mred\\u{7}\ttab \u{fffd} … (line cut)");
        assert_eq!(printable("é \u{202e}".as_bytes(), false), "é \\u{202e}");
    }
}
