//! The command line of a function: split into words once, as a shell would, with places for arguments.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

/// The highest number of an argument.
const MAX_ARGUMENTS: usize = 64;

/// A command line with places for arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    program: String,
    /// What stands behind the program.
    words: Vec<Vec<Part>>,
    num_arguments: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// The argument at this index.
    Argument(usize),
}

impl Template {
    /// Splits a command line into words and finds the places: `{}` takes the next argument, `{2}` the second. Nothing
    /// that an item holds is ever split again, or seen by a shell.
    ///
    /// # Errors
    ///
    /// What is wrong with it, for people.
    pub(super) fn parse(command: &str) -> Result<Self, String> {
        let words = shell_words::split(command).map_err(|error| format!("{command:?} is no command line: {error}"))?;
        let mut places = Places::default();
        let words: Vec<Vec<Part>> = words.iter().map(|word| places.find(word)).collect::<Result<_, _>>()?;
        let Some((program, words)) = words.split_first() else { return Err("the command is empty".to_owned()) };
        let [Part::Text(program)] = &program[..] else {
            return Err(format!("the program of {command:?} must be named: no item may choose it"));
        };
        Ok(Self { program: program.clone(), words: words.to_vec(), num_arguments: places.num_arguments })
    }

    /// Returns the number of arguments that it takes; with none it reads stdin.
    pub(super) fn num_arguments(&self) -> usize {
        self.num_arguments
    }

    /// Returns the program.
    pub(super) fn program(&self) -> &str {
        &self.program
    }

    /// Returns the words after the program, with the arguments in their places.
    pub(super) fn fill(&self, arguments: &[Vec<u8>]) -> Vec<OsString> {
        let fill_word = |word: &Vec<Part>| {
            let mut filled = Vec::new();
            for part in word {
                filled.extend_from_slice(match part {
                    Part::Text(text) => text.as_bytes(),
                    Part::Argument(index) => &arguments[*index],
                });
            }
            OsString::from_vec(filled)
        };
        self.words.iter().map(fill_word).collect()
    }
}

/// The places for arguments that were found so far.
#[derive(Debug, Default)]
struct Places {
    num_arguments: usize,
    has_numbered: bool,
    has_plain: bool,
}

impl Places {
    fn find(&mut self, word: &str) -> Result<Vec<Part>, String> {
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut rest = word;
        while let Some(character) = rest.chars().next() {
            let Some((number, after)) = place(rest) else {
                text.push(character);
                rest = &rest[character.len_utf8()..];
                continue;
            };
            if !text.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut text)));
            }
            parts.push(Part::Argument(self.index(number)?));
            rest = after;
        }
        // An empty word is a word.
        if !text.is_empty() || parts.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(parts)
    }

    /// Returns the index of the argument that `{number}` or `{}` stands for.
    fn index(&mut self, number: &str) -> Result<usize, String> {
        self.has_plain |= number.is_empty();
        self.has_numbered |= !number.is_empty();
        if self.has_plain && self.has_numbered {
            return Err("use either {} or {1}, {2}, … in a command, not both".to_owned());
        }
        let position = if number.is_empty() { self.num_arguments + 1 } else { number.parse().unwrap_or(usize::MAX) };
        if !(1..=MAX_ARGUMENTS).contains(&position) {
            return Err(format!("{{{number}}} is no argument: they are numbered from 1 to {MAX_ARGUMENTS}"));
        }
        self.num_arguments = self.num_arguments.max(position);
        Ok(position - 1)
    }
}

/// Splits `{12}rest` into the number and the rest; `None` if the text does not begin with a place. Other braces are text.
fn place(text: &str) -> Option<(&str, &str)> {
    let (number, rest) = text.strip_prefix('{')?.split_once('}')?;
    number.bytes().all(|byte| byte.is_ascii_digit()).then_some((number, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(command: &str, arguments: &[&str]) -> Vec<String> {
        let arguments: Vec<Vec<u8>> = arguments.iter().map(|argument| argument.as_bytes().to_vec()).collect();
        let template = Template::parse(command).unwrap();
        assert_eq!(template.num_arguments(), arguments.len(), "{command}");
        template.fill(&arguments).into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn arguments_take_their_places_and_are_not_split() {
        assert_eq!(filled("wc -c", &[]), ["-c"]);
        assert_eq!(
            filled("grep -e {} --file={}", &["a b; rm -rf /", "$(x) '\""]),
            ["-e", "a b; rm -rf /", "--file=$(x) '\""]
        );
        assert_eq!(filled("f {2} {1}{2} {2}", &["a", "{1}"]), ["{1}", "a{1}", "{1}"]);
        assert_eq!(filled(r#"sh -c 'echo "$0"; ls' {}"#, &["x"]), ["-c", "echo \"$0\"; ls", "x"]);
        assert_eq!(filled("awk '{print $1}' '' {}", &["x"]), ["{print $1}", "", "x"]);
    }

    #[test]
    fn commands_that_cannot_be_are_refused() {
        for (command, problem) in [
            ("", "the command is empty"),
            ("  ", "the command is empty"),
            ("f 'x", "is no command line: missing closing quote"),
            ("{} x", "no item may choose it"),
            ("/bin/{} x", "no item may choose it"),
            ("f {} {1}", "either {} or {1}"),
            ("f {0}", "{0} is no argument"),
            ("f {65}", "numbered from 1 to 64"),
            ("f {99999999999999999999}", "numbered from 1 to 64"),
        ] {
            let error = Template::parse(command).unwrap_err();
            assert!(error.contains(problem), "{command:?}: {error}");
        }
    }
}
