//! The exit of a worker: by Shutdown, with its server, or by a kill.

use std::time::Duration;

use procpool_items::Records;

use crate::kit::{Check, Kit, Needs};
use crate::process::describe;
use crate::report::{Fault, Outcome, Verdict, bail, fault, skip};
use crate::session::{Session, expect_no_orphans};
use crate::transcript::Chunk;
use crate::{rules, subject};

pub(crate) const CHECKS: [Check; 8] = [
    ("exits when the socket ends", Needs::Ready, socket_ends),
    ("exits when the socket ends while items run", Needs::Ready, socket_ends_while_running),
    ("exits with code 0 after Shutdown", Needs::Ready, shutdown),
    ("reads Shutdown while it has a chunk", Needs::Ready, shutdown_with_chunk),
    ("drops items that have not begun at Shutdown", Needs::Answers, shutdown_while_running),
    ("ends at SIGTERM", Needs::Ready, sigterm),
    ("leaves no process behind", Needs::Answers, leaves_nothing),
    ("leaves a correct page when it is killed", Needs::Answers, killed),
];

fn socket_ends(kit: &mut Kit) -> Outcome {
    let mut session = kit.start()?;
    session.close();
    session.wait_for_exit(rules::END)?;
    Ok(Verdict::Ok)
}

fn socket_ends_while_running(kit: &mut Kit) -> Outcome {
    let mut session = kit.start()?;
    session.run(kit.subject().run_many(kit.long_count()));
    session.listen_for(Duration::from_millis(50))?;
    session.close();
    session.wait_for_exit(rules::END)?;
    Ok(Verdict::Ok)
}

fn shutdown(kit: &mut Kit) -> Outcome {
    let mut session = kit.start()?;
    session.shut_down();
    expect_success(&mut session)
}

fn expect_success(session: &mut Session) -> Outcome {
    let status = session.wait_for_exit(rules::SHUTDOWN)?;
    if status.success() { Ok(Verdict::Ok) } else { Err(fault(rules::SHUTDOWN, describe(status))) }
}

fn shutdown_with_chunk(kit: &mut Kit) -> Outcome {
    let mut session = kit.start()?;
    session.run(kit.subject().run_many(1));
    session.shut_down();
    expect_success(&mut session)
}

fn shutdown_while_running(kit: &mut Kit) -> Outcome {
    let subject = kit.subject();
    let mut session = kit.start()?;
    let running = session.run(subject.run_many(kit.long_count()));
    let queued = session.run(subject.run_many(5));
    session.wait_until(|transcript| transcript.chunk(running).num_received() > 0)?;
    session.shut_down();
    expect_success(&mut session)?;
    for id in [running, queued] {
        let chunk = session.transcript.chunk(id);
        if let Some(offset) = last_begun(&session, chunk)?
            && chunk.num_received() <= offset
        {
            bail!(rules::SHUTDOWN, "exited without the result of item {offset} of chunk {id}, which had begun");
        }
    }
    let (done, count) = (session.transcript.chunk(running).num_received(), session.transcript.chunk(running).count());
    Ok(Verdict::Note(format!("{done} of {count} items had begun")))
}

fn sigterm(kit: &mut Kit) -> Outcome {
    let mut session = kit.start()?;
    session.terminate();
    session.wait_for_exit(rules::SIGTERM)?;
    Ok(Verdict::Ok)
}

/// Calls functions, and looks for processes that are left after the worker's exit.
fn leaves_nothing(kit: &mut Kit) -> Outcome {
    let mut session = kit.start()?;
    let examples = if kit.calls_examples { subject::examples(&kit.hello) } else { Vec::new() };
    for subject in [kit.subject()].iter().chain(&examples) {
        session.call(subject.run(&subject.example()[..1]))?;
    }
    session.shut_down();
    session.wait_for_exit(rules::SHUTDOWN)?;
    expect_no_orphans()?;
    Ok(Verdict::Ok)
}

/// Returns the offset of the item that began last, according to the page, if it is of this chunk.
fn last_begun(session: &Session, chunk: &Chunk) -> Result<Option<u32>, Fault> {
    let Some(page) = session.page.as_ref().filter(|_| session.hello().uses_progress_page) else { return Ok(None) };
    let begun =
        page.begun().map_err(|error| Fault::new(rules::BEGUN, format!("left a page that cannot be read: {error}")))?;
    Ok(chunk.offset_of(begun))
}

/// Kills workers at several moments: page and frames must tell which items had begun, and have the results of all but
/// the last.
fn killed(kit: &mut Kit) -> Outcome {
    let subject = kit.subject();
    let mut num_saved = 0;
    for round in 0..4_u64 {
        let mut session = kit.start()?;
        if !session.hello().uses_progress_page {
            return Err(skip("it keeps no progress page"));
        }
        let id = session.run(subject.run_many(kit.long_count()));
        session.wait_until(|transcript| transcript.chunk(id).num_received() > 0)?;
        session.listen_for(Duration::from_micros(700 * round))?;
        session.kill()?;
        num_saved += check_page(&session, id)?;
    }
    Ok(Verdict::Note(format!("{num_saved} results were found in the journals of four dead workers")))
}

/// Checks the page of a dead worker. Returns how many results were only in the journal.
fn check_page(session: &Session, id: u64) -> Result<u32, Fault> {
    let chunk = session.transcript.chunk(id);
    let unreadable = |error: &dyn std::fmt::Display| {
        Fault::new(rules::JOURNAL, format!("left a journal that cannot be read: {error}"))
    };
    let Some(begun) = last_begun(session, chunk)? else {
        bail!(rules::BEGUN, "left a page in which nothing has begun, after it had sent results");
    };
    let journal = session.page.as_ref().map(procpool_ipc::page::PageReader::journal).transpose();
    let journal = journal.map_err(|error| unreadable(&error))?.flatten();
    let mut known = chunk.num_received();
    if let Some((first_sequence, records)) = journal {
        let Some(first) = chunk.offset_of(first_sequence) else {
            return Err(unreadable(&format!(
                "its first item has sequence number {first_sequence}, which is none of the chunk"
            )));
        };
        let mut count = 0;
        for record in Records::new(&records) {
            record.map_err(|error| unreadable(&error))?;
            count += 1;
        }
        if first > known || first + count > begun + 1 {
            bail!(
                rules::JOURNAL,
                "left items {first} to {} in the journal, with {known} results sent and {begun} begun last",
                first + count
            );
        }
        known = known.max(first + count);
    }
    if known < begun {
        bail!(rules::JOURNAL, "left no result of item {known}, though item {begun} had begun");
    }
    Ok(known - chunk.num_received())
}
