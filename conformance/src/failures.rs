//! Items that cannot run, or fail.

use procpool_ipc::proto::{CallStyle, FailureKind, ItemKind, Run};
use serde_json::json;

use crate::kit::{Check, Kit, Needs};
use crate::report::{Outcome, bail, skip};
use crate::session::Session;
use crate::subject::{Subject, encode, has_function, list, run, run_blobs, run_values};
use crate::transcript::describe;
use crate::{rules, subject};

pub(crate) const CHECKS: [Check; 5] = [
    ("fails the items of an unknown function", Needs::Answers, unknown_function),
    ("fails only the value that cannot be decoded", Needs::Answers, bad_value),
    ("fails only the JSON that cannot be decoded", Needs::Answers, bad_json),
    ("fails only the item that is not a list in the style STAR", Needs::Answers, no_list),
    ("fails an item whose function raises, and continues", Needs::Answers, raises),
];

fn unknown_function(kit: &mut Kit) -> Outcome {
    let subject = subject::unknown();
    let mut session = kit.start()?;
    let runs = [
        subject.run_many(3),
        run_blobs(&subject.function, CallStyle::Map, "", &[b"x", b""]),
        run_values(&subject.function, CallStyle::Star, &[json!([1])]),
        subject::run_apply(&subject.function, &[json!(1)]),
    ];
    for run in runs {
        let chunk = session.call(run)?;
        for offset in 0..chunk.count() {
            match chunk.failures.get(&offset) {
                Some(failure) if failure.kind() == FailureKind::UnknownFunction => {}
                Some(failure) => bail!(rules::UNKNOWN_FUNCTION, "says {}", describe(failure)),
                None => bail!(rules::UNKNOWN_FUNCTION, "returned a result of a function that it does not have"),
            }
        }
    }
    continues(kit, session)
}

/// Sends an invalid item between two valid ones.
fn one_is_invalid(kit: &mut Kit, run: Run) -> Outcome {
    let mut session = kit.start()?;
    let chunk = session.call(run)?;
    match chunk.failures.get(&1) {
        Some(failure) if failure.kind() == FailureKind::InvalidItem => {}
        Some(failure) => bail!(rules::INVALID_ITEM, "says {}", describe(failure)),
        None => bail!(rules::INVALID_ITEM, "returned a result for it"),
    }
    if let Some((offset, failure)) = chunk.failures.iter().find(|(offset, _)| **offset != 1) {
        bail!(rules::ITEM_ERROR, "failed item {offset}, too: {}", describe(failure));
    }
    continues(kit, session)
}

fn continues(kit: &Kit, mut session: Session) -> Outcome {
    session.call(kit.subject().run_many(1))?;
    session.done()
}

fn bad_value(kit: &mut Kit) -> Outcome {
    let Subject { function, style, .. } = kit.echo()?;
    let good = encode(&json!("good"));
    // A string that is longer than its value.
    let items = list([&good[..], b"\x1a\x7fx", &good[..]]);
    one_is_invalid(kit, run(&function, style, ItemKind::Values, "", &items))
}

fn bad_json(kit: &mut Kit) -> Outcome {
    let Subject { function, style, .. } = kit.echo()?;
    one_is_invalid(kit, run_blobs(&function, style, "application/json", &[b"\"good\"", b"{\"a\":", b"[1]"]))
}

fn no_list(kit: &mut Kit) -> Outcome {
    let function = kit.echo()?.function;
    one_is_invalid(kit, run_values(&function, CallStyle::Star, &[json!(["good"]), json!("no list"), json!(["good"])]))
}

fn raises(kit: &mut Kit) -> Outcome {
    if !has_function(&kit.hello, "fail") {
        return Err(skip("it needs a function named `fail`, which raises"));
    }
    let mut session = kit.start()?;
    let chunk = session.call(run_values("fail", CallStyle::Map, &[json!("one"), json!("two")]))?;
    if chunk.failures.len() != 2 {
        return Err(skip("its function `fail` does not fail"));
    }
    for failure in chunk.failures.values() {
        if failure.kind() != FailureKind::Raised {
            return Err(skip(format!("its function `fail` raises nothing: {}", describe(failure))));
        }
    }
    continues(kit, session)
}
