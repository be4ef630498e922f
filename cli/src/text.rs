//! Escapes untrusted text for a terminal: what a server, a worker, a function or a file says must not move the cursor,
//! change colors or turn the direction of text. Cuts long text to the width of the terminal.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};

use unicode_width::UnicodeWidthChar as _;

/// Returns whether a character acts on the terminal, or on the text around it: control characters, line separators, and
/// the marks that set the direction of text.
fn is_active(character: char) -> bool {
    let turns_text = matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    character.is_control() || turns_text
}

/// Returns a text as one line: the ends of lines are escaped too.
pub(crate) fn one_line(text: &str) -> Cow<'_, str> {
    escape(text, is_active, |escaped, character| escaped.extend(character.escape_default()))
}

/// Returns a text with its ends of lines, and with tabs.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    let is_escaped = |character| is_active(character) && !matches!(character, '\n' | '\t');
    escape(text, is_escaped, |escaped, character| escaped.extend(character.escape_default()))
}

/// Returns a JSON text that means the same and can be shown: a control character that JSON allows in a string, such as
/// U+009B, becomes an escape of JSON. The others are escaped already, or end lines between tokens.
pub(crate) fn json(text: &str) -> Cow<'_, str> {
    let is_escaped = |character| is_active(character) && !character.is_ascii_whitespace();
    escape(text, is_escaped, |escaped, character| {
        // Writing to a string cannot fail. All these characters have 16 bits.
        let _ = write!(escaped, "\\u{:04x}", u32::from(character));
    })
}

fn escape(text: &str, is_escaped: impl Fn(char) -> bool, push_escaped: impl Fn(&mut String, char)) -> Cow<'_, str> {
    let Some(first) = text.find(&is_escaped) else { return Cow::Borrowed(text) };
    let (before, rest) = text.split_at(first);
    let mut escaped = before.to_owned();
    for character in rest.chars() {
        if is_escaped(character) {
            push_escaped(&mut escaped, character);
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

/// Returns a text whose lines after the first are indented, so that none can be taken for a message of its own.
pub(crate) fn indented(text: &str) -> String {
    text.trim_end().lines().collect::<Vec<_>>().join("\n    ")
}

/// Returns the width of the terminal that stdout is; `None` if it is none: then nothing is cut.
pub(crate) fn terminal_width() -> Option<usize> {
    if !io::stdout().is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    // Some terminals report 0.
    (size.ws_col > 0).then(|| size.ws_col.into())
}

/// Returns the first line of a text, escaped, at most `max_width` columns wide.
pub(crate) fn shorten(text: &str, max_width: usize) -> String {
    let mut lines = text.lines();
    let line = one_line(lines.next().unwrap_or_default());
    let is_whole = lines.all(str::is_empty);
    let mut shown = String::new();
    let (mut width, mut width_before_ellipsis) = (0, 0);
    for character in line.chars() {
        let next = width + character.width().unwrap_or(0);
        if next > max_width {
            shown.truncate(width_before_ellipsis);
            return shown + "…";
        }
        shown.push(character);
        width = next;
        if width < max_width {
            width_before_ellipsis = shown.len();
        }
    }
    if !is_whole {
        shown.truncate(width_before_ellipsis);
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_escaped() {
        for (text, expected) in [
            ("\u{1b}[31mred\0\r", r"\u{1b}[31mred\u{0}\r"),
            ("a\u{9b}2J\u{7f}", r"a\u{9b}2J\u{7f}"),
            ("a\n\tb", "a\n\tb"),
            ("\u{202e}evil\u{2066}", r"\u{202e}evil\u{2066}"),
            // What is only unusual stays: accents, joiners, wide letters.
            ("e\u{301} 日本 \u{200d} \\ \"", "e\u{301} 日本 \u{200d} \\ \""),
        ] {
            assert_eq!(lines(text), expected, "{text:?}");
        }
        assert_eq!(one_line("a\n\tb\u{2028}c"), r"a\n\tb\u{2028}c");
    }

    #[test]
    fn json_means_the_same() {
        let value = serde_json::Value::from("\u{1b}[m\u{9b}\u{7f}\u{202e}\n\u{2028}é");
        let text = value.to_string();
        let shown = json(&text);
        assert_eq!(shown, r#""\u001b[m\u009b\u007f\u202e\n\u2028é""#);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }

    #[test]
    fn a_text_is_cut_by_its_width() {
        for (text, width, expected) in [
            ("abcd", 4, "abcd"),
            ("abcde", 4, "abc…"),
            ("ab\ncd", 4, "ab…"),
            ("abcd\ne", 4, "abc…"),
            ("ab\n", 4, "ab"),
            ("日本語", 6, "日本語"),
            ("日本語", 5, "日本…"),
            ("日本語", 4, "日…"),
            ("a\u{9b}2J", 99, r"a\u{9b}2J"),
            ("abc", 0, "…"),
            ("", 4, ""),
        ] {
            assert_eq!(shorten(text, width), expected, "{text:?} in {width}");
        }
    }
}
