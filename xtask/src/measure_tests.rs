use std::path::Path;

use super::circles_of;
use crate::sources::Sources;

fn sources(text: &str) -> Sources {
    let mut sources = Sources::default();
    sources.add_text(text, Path::new("lib.rs"), Path::new(""), Vec::new()).unwrap();
    sources
}

fn circles(text: &str) -> Vec<String> {
    circles_of(&sources(text))
}

#[test]
fn modules_that_import_each_other_are_a_circle() {
    let found = circles(
        "mod a { use crate::b::{B, other}; pub struct A; }
         mod b { pub struct B; pub fn other() -> super::a::A { assert!(crate::c::C::new()) } }
         mod c { pub struct C; }",
    );
    assert_eq!(found, ["  a -> b: B, other (lib.rs:1)\n  b -> a: A (lib.rs:2)"]);
}

#[test]
fn a_circle_may_have_any_length() {
    let found = circles(
        "mod a { use crate::b::B; pub struct A; }
         mod b { use super::c; pub struct B; }
         mod c { pub fn of(_: crate::a::A) {} }",
    );
    assert_eq!(found, ["  a -> b: B (lib.rs:1)\n  b -> c: c (lib.rs:2)\n  c -> a: A (lib.rs:3)"]);
}

#[test]
fn a_parent_that_only_reexports_is_no_circle() {
    let text = "mod parent {
            mod child { use super::{Own, Sibling}; pub struct Child; }
            mod sibling { pub struct Sibling; }
            pub use self::child::Child;
            pub(crate) use sibling::Sibling;
            pub struct Own;
        }";
    assert_eq!(circles(text), Vec::<String>::new());
    let uses_it_as_well = text.replace("pub struct Own", "pub struct Own(Child)");
    let expected = "  parent -> parent::child: Child (lib.rs:6)\n  parent::child -> parent: Own (lib.rs:2)";
    assert_eq!(circles(&uses_it_as_well), [expected]);
}

#[test]
fn tests_and_what_text_says_do_not_count() {
    let found = circles(
        "mod a { pub struct A; /// crate::b::B
                 pub const TEXT: &str = \"crate::b::B\"; #[cfg(test)] mod tests { use crate::b::B; } }
         mod b { use crate::a::A; pub(crate) struct B; }
         #[cfg(any(test, fuzzing))] mod harness { }",
    );
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn lines_are_those_with_code() {
    let text = "//! Documentation.

// A comment.
/// Documentation.
pub fn one(
) -> &'static str { /* a comment */
    \"two
lines\"
}
#[cfg(test)]
mod tests {}
#[cfg(not(test))]
fn two() {}
";
    assert_eq!(sources(text).files[0].1, 7);
}
