//! Cutting text to size without breaking a character.

/// What the tag and the length of one line may add when it is encoded.
pub(super) const LINE_OVERHEAD_BYTES: usize = 4;

/// Returns the start of a text, at most this many bytes.
pub(super) fn keep_start(text: &str, max_bytes: usize) -> &str {
    let mut end = max_bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Returns the end of a text, at most this many bytes.
pub(super) fn keep_end(text: &str, max_bytes: usize) -> &str {
    let mut start = text.len().saturating_sub(max_bytes);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

/// Returns the start of a text that has at most this many bytes when it is percent-encoded for a header.
pub(super) fn keep_start_percent_encoded(text: &str, max_bytes: usize) -> &str {
    let mut size = 0;
    for (position, character) in text.char_indices() {
        size += if character.is_ascii_alphanumeric() { 1 } else { 3 * character.len_utf8() };
        if size > max_bytes {
            return &text[..position];
        }
    }
    text
}

/// Returns the lines of a text if they fit, otherwise the last ones and a line that says how many were cut.
pub(super) fn keep_last_lines(text: &str, max_bytes: usize) -> Vec<String> {
    let mut kept = keep_lines(text, text.lines().rev(), max_bytes);
    kept.reverse();
    kept
}

/// Returns the lines of a text if they fit, otherwise the first ones and a line that says how many were cut.
pub(super) fn keep_first_lines(text: &str, max_bytes: usize) -> Vec<String> {
    keep_lines(text, text.lines(), max_bytes)
}

fn keep_lines<'a>(text: &str, lines: impl Iterator<Item = &'a str>, max_bytes: usize) -> Vec<String> {
    const CUT_NOTE_BYTES: usize = 48;
    let num_lines = text.lines().count();
    let is_cut = text.len() + num_lines * LINE_OVERHEAD_BYTES > max_bytes;
    let mut room = if is_cut { max_bytes.saturating_sub(CUT_NOTE_BYTES) } else { max_bytes };
    let mut kept = Vec::new();
    for line in lines {
        let Some(rest) = room.checked_sub(line.len() + LINE_OVERHEAD_BYTES) else { break };
        room = rest;
        kept.push(line.to_owned());
    }
    if is_cut && max_bytes >= CUT_NOTE_BYTES {
        kept.push(format!("... {} lines cut ...", num_lines - kept.len()));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_is_never_broken() {
        assert_eq!(keep_start("aé", 2), "a");
        assert_eq!(keep_start("aé", 3), "aé");
        assert_eq!(keep_end("éa", 2), "a");
        assert_eq!(keep_end("éa", 9), "éa");
        assert_eq!(keep_start_percent_encoded("aé", 6), "a");
        assert_eq!(keep_start_percent_encoded("aé", 7), "aé");
    }

    #[test]
    fn the_last_lines_are_kept_and_the_others_counted() {
        let lines: Vec<String> = (0..100).map(|line| format!("line {line:02}")).collect();
        let traceback = lines.join("\n");
        let kept = keep_last_lines(&traceback, 100);
        assert_eq!(kept, ["... 96 lines cut ...", "line 96", "line 97", "line 98", "line 99"]);
        assert_eq!(keep_last_lines("one\ntwo", 100), ["one", "two"]);
        assert!(keep_last_lines(&traceback, 0).is_empty());
    }
}
