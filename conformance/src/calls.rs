//! Calls of functions and their results.

use std::time::{Duration, Instant};

use procpool_ipc::page::monotonic_ns;
use procpool_ipc::proto::{CallStyle, FailureKind, Run};
use procpool_items::value;
use serde_json::{Value, json};

use crate::kit::{Check, Kit, Needs};
use crate::report::{Fault, Outcome, Verdict, bail, skip};
use crate::session::Session;
use crate::subject::{Subject, echo_items, run_apply, run_blobs, run_values};
use crate::transcript::{Chunk, describe};
use crate::{rules, subject};

pub(crate) const CHECKS: [Check; 8] = [
    ("runs the items of a call in the style MAP", Needs::Answers, map),
    ("runs the items of a call in the style STAR", Needs::Answers, star),
    ("runs a call in the style APPLY", Needs::Answers, apply),
    ("takes JSON in blobs", Needs::Answers, json_blobs),
    ("takes blobs of bytes", Needs::Answers, byte_blobs),
    ("runs many items, in order", Needs::Answers, many),
    ("runs chunks in the order of their frames", Needs::Answers, chunks_in_order),
    ("stamps the start of items if requested", Needs::Answers, stamps),
];

/// Calls echo, and expects its arguments.
fn expect_echo(session: &mut Session, run: Run, expected: &[Value]) -> Result<(), Fault> {
    let is_json = run.content_type == "application/json";
    let chunk = session.call(run)?;
    if let Some((offset, failure)) = chunk.failures.first_key_value() {
        bail!(rules::ECHO, "failed item {offset} of echo: {}", describe(failure));
    }
    let values = if is_json { json_values(chunk)? } else { chunk.values() };
    // Normalises numbers as a reader of values does: 1.0 is 1.
    let normal = |item: &Value| -> Value { value::from_bytes(&subject::encode(item)).unwrap_or_default() };
    match values.iter().zip(expected).position(|(value, expected)| normal(value) != normal(expected)) {
        None => Ok(()),
        Some(offset) => Err(Fault::new(rules::ECHO, format!("made {} of {}", values[offset], expected[offset]))),
    }
}

fn json_values(chunk: &Chunk) -> Result<Vec<Value>, Fault> {
    let decode = |content: &bytes::Bytes| {
        serde_json::from_slice(content)
            .map_err(|error| Fault::new(rules::ITEMS, format!("answered application/json with invalid JSON: {error}")))
    };
    chunk.contents.iter().map(decode).collect()
}

/// Calls every function with the items of its example. It may fail.
fn call_examples(kit: &mut Kit, style: CallStyle) -> Outcome {
    let subjects: Vec<Subject> = kit.subjects.iter().filter(|subject| subject.style == style).cloned().collect();
    if subjects.is_empty() {
        return Err(skip("no function has an example for it, and none is named `echo`"));
    }
    let mut session = kit.start()?;
    let mut failed = Vec::new();
    for subject in subjects {
        let chunk = session.call(subject.run(subject.example()))?;
        if let Some(failure) = chunk.failures.values().next() {
            failed.push(format!("the example of {} fails: {}", subject.function, describe(failure)));
        }
    }
    session.quiet()?;
    Ok(if failed.is_empty() { Verdict::Ok } else { Verdict::Note(failed.join("; ")) })
}

fn map(kit: &mut Kit) -> Outcome {
    let subject = kit.subject();
    if !subject.is_echo {
        return call_examples(kit, CallStyle::Map);
    }
    let mut session = kit.start()?;
    expect_echo(&mut session, subject.run(&echo_items()), &echo_items())?;
    // Whatever it has to say after the last result.
    session.done()
}

fn star(kit: &mut Kit) -> Outcome {
    let subject = kit.subject();
    if !subject.is_echo {
        return call_examples(kit, CallStyle::Star);
    }
    let lists: Vec<Value> = echo_items().into_iter().map(|item| json!([item])).collect();
    let mut session = kit.start()?;
    expect_echo(&mut session, run_values(&subject.function, CallStyle::Star, &lists), &echo_items())?;
    session.done()
}

fn apply(kit: &mut Kit) -> Outcome {
    let subject = kit.subject();
    let mut session = kit.start()?;
    if !subject.is_echo {
        let item = subject.example().first().cloned().unwrap_or_default();
        let arguments = if subject.style == CallStyle::Star { item.as_array().cloned() } else { None };
        session.call(run_apply(&subject.function, &arguments.unwrap_or_else(|| vec![item])))?;
        return session.done();
    }
    for item in echo_items() {
        expect_echo(&mut session, run_apply(&subject.function, std::slice::from_ref(&item)), &[item])?;
    }
    session.done()
}

fn json_blobs(kit: &mut Kit) -> Outcome {
    let subject = kit.echo()?;
    let texts: Vec<String> = echo_items().iter().map(Value::to_string).collect();
    let blobs: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
    let mut session = kit.start()?;
    expect_echo(&mut session, run_blobs(&subject.function, CallStyle::Map, "application/json", &blobs), &echo_items())?;
    session.done()
}

/// A function of bytes returns them; one of values may refuse them.
fn byte_blobs(kit: &mut Kit) -> Outcome {
    let function = kit.echo_of_bytes()?;
    let large = vec![0xa5; 200_000];
    let blobs: [&[u8]; 4] = [b"\x00\xff text \n", b"", &large, b"{"];
    let mut session = kit.start()?;
    for content_type in ["", "application/octet-stream", "image/png"] {
        let chunk = session.call(run_blobs(function, CallStyle::Map, content_type, &blobs))?;
        if let Some(failure) = chunk.failures.values().find(|failure| failure.kind() != FailureKind::InvalidItem) {
            bail!(rules::ECHO, "failed on a blob: {}", describe(failure));
        }
        for (offset, content) in (0..).zip(&chunk.contents) {
            if !chunk.failures.contains_key(&offset) && content[..] != *blobs[offset as usize] {
                bail!(rules::ECHO, "returned other bytes for blob {offset}");
            }
        }
    }
    session.done()
}

fn many(kit: &mut Kit) -> Outcome {
    let subject = kit.subject();
    let count = kit.count_for(Duration::from_millis(500));
    let items = subject.items(count);
    let mut session = kit.start()?;
    let begin = Instant::now();
    let chunk = session.call(subject.run(&items))?;
    let elapsed = begin.elapsed();
    if subject.is_echo && chunk.values() != items {
        bail!(rules::RESULTS, "returned values in another order than the items");
    }
    let note = format!("{count} results came in {} frames and {elapsed:.1?}", chunk.num_frames);
    session.quiet()?;
    flushed(&session)?;
    Ok(Verdict::Note(note))
}

/// Checks that the journal is empty when everything was sent.
fn flushed(session: &Session) -> Result<(), Fault> {
    let Some(page) = session.page.as_ref().filter(|_| session.hello().uses_progress_page) else { return Ok(()) };
    match page.journal() {
        Ok(None) => Ok(()),
        Ok(Some((_, journal))) => {
            let got = format!("left {} bytes in the journal after the last result was sent", journal.len());
            Err(Fault::new(rules::FLUSH, got))
        }
        Err(error) => Err(Fault::new(rules::FLUSH, format!("left a journal that cannot be read: {error}"))),
    }
}

fn chunks_in_order(kit: &mut Kit) -> Outcome {
    let subject = kit.subject();
    let unknown = subject::unknown();
    let mut session = kit.start()?;
    // All are sent before the first is answered; the transcript checks the order.
    let chunks: Vec<u64> = (0..10)
        .map(|index| if index % 4 == 3 { session.run(unknown.run_many(2)) } else { session.run(subject.run_many(3)) })
        .collect();
    for chunk in chunks {
        session.collect(chunk)?;
    }
    session.done()
}

fn stamps(kit: &mut Kit) -> Outcome {
    let Some(subject) = kit.subjects.first().cloned().filter(|_| kit.hello.uses_progress_page) else {
        return Err(skip("it keeps no progress page, or has no function that can be called"));
    };
    let mut session = kit.start()?;
    let mut last = 0;
    for _ in 0..3 {
        let before = monotonic_ns();
        session.call(Run { stamp_start: true, ..subject.run_many(2) })?;
        let stamp = session.page.as_ref().and_then(|page| page.begun_at_ns().ok()).unwrap_or_default();
        if stamp < before || stamp > monotonic_ns() || stamp < last {
            bail!(rules::STAMP, "stored {stamp} for an item that began between {before} and {}", monotonic_ns());
        }
        last = stamp;
    }
    Ok(Verdict::Ok)
}
