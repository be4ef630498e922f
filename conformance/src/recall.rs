//! Recall of queued and running chunks, and Ping while an item runs.

use std::time::{Duration, Instant};

use procpool_ipc::proto::CallStyle;
use serde_json::json;

use crate::kit::{Check, Kit, Needs};
use crate::report::{Fault, Outcome, Stop, Verdict, bail, skip};
use crate::rules;
use crate::session::Session;
use crate::subject::{has_function, run_values};

pub(crate) const CHECKS: [Check; 6] = [
    ("gives back the rest of a running chunk", Needs::Ready, recall_running),
    ("gives back a queued chunk", Needs::Ready, recall_queued),
    ("answers a recall once, and ignores unknown chunks", Needs::Answers, recall_again),
    ("notifies a cancelled function", Needs::Answers, cancel),
    ("does not cancel the item after the timed-out one", Needs::Answers, cancel_of_the_item_before),
    ("answers Ping while an item runs", Needs::Answers, ping_while_running),
];

/// How long to watch for invalid frames after a chunk is done.
const AFTERMATH: Duration = Duration::from_millis(50);
/// A function that sleeps for the given number of milliseconds.
const SLEEP: &str = "sleep_ms";

/// Waits for the rest of a recalled chunk, and a moment longer.
fn settle(session: &mut Session, chunk: u64) -> Result<Option<u32>, Fault> {
    session.collect(chunk)?;
    session.quiet()?;
    session.listen_for(AFTERMATH)?;
    Ok(session.transcript.chunk(chunk).given_back_from)
}

fn recall_running(kit: &mut Kit) -> Outcome {
    let subject = kit.subject();
    let count = kit.long_count();
    let mut session = kit.start()?;
    let chunk = session.run(subject.run_many(count));
    // Some workers answer only after the recall; then the chunk has had time to run.
    let first = Instant::now() + Duration::from_millis(200);
    session.wait_until_or(first, |transcript| transcript.chunk(chunk).num_received() > 0)?;
    session.recall(chunk, false);
    let given_back = settle(&mut session, chunk)?;
    session.call(subject.run_many(1))?;
    Ok(match given_back {
        Some(from) => Verdict::Note(format!("{from} of {count} items had begun")),
        None => Verdict::Note(format!(
            "it read the recall when all {count} items had run: what it has cannot be moved to a worker that is idle"
        )),
    })
}

fn recall_queued(kit: &mut Kit) -> Outcome {
    let subject = kit.subject();
    let mut session = kit.start()?;
    let running = session.run(subject.run_many(kit.long_count()));
    let queued = session.run(subject.run_many(5));
    session.recall(queued, false);
    session.collect(running)?;
    let given_back = settle(&mut session, queued)?;
    session.call(subject.run_many(1))?;
    Ok(match given_back {
        Some(0) => Verdict::Ok,
        Some(from) => Verdict::Note(format!("{from} of 5 items had begun")),
        None => Verdict::Note("it read the recall when the chunk was done".to_owned()),
    })
}

fn recall_again(kit: &mut Kit) -> Outcome {
    let subject = kit.subject();
    let mut session = kit.start()?;
    let done = session.call(subject.run_many(2))?.id;
    // Recalls a finished chunk twice, and an unknown chunk.
    session.recall(done, false);
    session.recall(done, true);
    session.recall(u64::MAX, true);
    let running = session.run(subject.run_many(kit.long_count()));
    session.recall(running, false);
    session.recall(running, true);
    settle(&mut session, running)?;
    // An old recall must not affect the next chunk.
    let last = session.call(subject.run_many(3))?;
    if !last.failures.is_empty() && subject.is_echo {
        return Ok(Verdict::Note("items that came after a cancelled chunk failed".to_owned()));
    }
    session.done()
}

fn cancel(kit: &mut Kit) -> Outcome {
    needs_sleep(kit)?;
    for is_item_meant in [false, true] {
        let mut session = kit.start()?;
        let chunk = session.run(run_values(SLEEP, CallStyle::Map, &[json!(600_000)]));
        session.listen_for(Duration::from_millis(100))?;
        if is_item_meant {
            session.cancel_item(chunk, 0);
        } else {
            session.recall(chunk, true);
        }
        let limit = Instant::now() + kit.timeout;
        session.wait_until_or(limit, |transcript| transcript.chunk(chunk).is_done())?;
        if !session.transcript.chunk(chunk).is_done() {
            return Ok(Verdict::Note("its `sleep_ms` does not ask: the server will kill the worker for it".to_owned()));
        }
        session.call(kit.subject().run_many(1))?;
    }
    Ok(Verdict::Ok)
}

/// The first item times out but has ended when the worker gets the cancel: the second runs and must continue.
fn cancel_of_the_item_before(kit: &mut Kit) -> Outcome {
    needs_sleep(kit)?;
    // Shorter than the timeout for silence.
    let item_time = (kit.timeout / 2).min(Duration::from_millis(400));
    let mut session = kit.start()?;
    let began = Instant::now();
    let chunk = session.run(run_values(SLEEP, CallStyle::Map, &[json!(1), json!(item_time.as_millis())]));
    session.wait_until(|transcript| transcript.chunk(chunk).num_received() > 0)?;
    // By then it has begun the second item.
    session.listen_for(item_time / 8)?;
    session.cancel_item(chunk, 0);
    session.collect(chunk)?;
    let chunk = session.transcript.chunk(chunk);
    if chunk.num_received() < 2 {
        return Ok(Verdict::Note("it gave the second item back: it begins nothing while results travel".to_owned()));
    }
    if let Some(failure) = chunk.failures.get(&1) {
        bail!(
            rules::CANCEL_OFFSET,
            "failed the item after one that timed out: {}: {}",
            failure.r#type,
            failure.message
        );
    }
    // Some clocks wake a little early.
    if began.elapsed() < item_time * 9 / 10 {
        bail!(rules::CANCEL_OFFSET, "ended the item after one that timed out");
    }
    // The cancel must not be remembered for later items either.
    session.call(run_values(SLEEP, CallStyle::Map, &[json!(1), json!(1)]))?;
    session.done()
}

fn ping_while_running(kit: &mut Kit) -> Outcome {
    needs_sleep(kit)?;
    // Shorter than the timeout for silence.
    let item_time = (kit.timeout / 2).min(Duration::from_millis(400));
    let mut session = kit.start()?;
    let chunk = session.run(run_values(SLEEP, CallStyle::Map, &[json!(item_time.as_millis())]));
    session.listen_for(item_time / 8)?;
    session.quiet()?;
    let was_running = !session.transcript.chunk(chunk).is_done();
    session.collect(chunk)?;
    Ok(if was_running { Verdict::Ok } else { Verdict::Note("only when the item was done".to_owned()) })
}

fn needs_sleep(kit: &Kit) -> Result<(), Stop> {
    let why = "it needs a function named `sleep_ms`, which sleeps so many milliseconds";
    if has_function(&kit.hello, SLEEP) { Ok(()) } else { Err(skip(why)) }
}
