//! What `--help` says, of every command that it lists.

use std::collections::BTreeSet;

use crate::support::run;

#[test]
fn help() {
    let mut text = String::new();
    describe(&[], &mut Seen::default(), &mut text);
    insta::assert_snapshot!("help", text);
}

/// What has been shown of an earlier command, word for word.
#[derive(Default)]
struct Seen {
    sections: BTreeSet<String>,
    entries: BTreeSet<String>,
}

/// Appends the help of a command and of those below it. What was shown before is left out, so that options which many
/// commands share stand in the snapshot once: sections as a whole, and of options all but the name.
fn describe(command: &[&str], seen: &mut Seen, text: &mut String) {
    let help = run(&[command, &["--help"]].concat(), "").expect(0).stdout;
    text.extend(["# ", &[&["procpool"], command].concat().join(" "), "\n\n"]);
    for section in help.trim_end().split("\n\n").filter(|section| seen.sections.insert(words(section))) {
        for entry in entries(section) {
            let name = entry.trim_start().split("  ").next().unwrap();
            let is_new = seen.entries.insert(words(&entry)) || !entry.starts_with(' ');
            text.extend(if is_new { ["", &entry, ""] } else { ["      ", name, "  …\n"] });
        }
        text.push('\n');
    }
    for subcommand in commands_in(&help) {
        describe(&[command, &[subcommand]].concat(), seen, text);
    }
}

/// Returns the words of a text: how it is broken into lines depends on what stands beside it.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Cuts a section into its entries: an option, argument or command with the lines that go on about it.
fn entries(section: &str) -> Vec<String> {
    let mut entries: Vec<String> = Vec::new();
    for line in section.split_inclusive('\n') {
        let goes_on = line.starts_with("          ");
        match entries.last_mut() {
            Some(entry) if goes_on => entry.push_str(line),
            _ => entries.push(line.to_owned()),
        }
    }
    if let Some(last) = entries.last_mut() {
        last.push('\n');
    }
    entries
}

/// Returns the commands that a help text lists, but for `help`.
fn commands_in(help: &str) -> Vec<&str> {
    let list = help.split("\n\n").find_map(|section| section.strip_prefix("Commands:\n")).unwrap_or_default();
    let first_words = list.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    first_words.filter(|word| !["", "help"].contains(word)).collect()
}
