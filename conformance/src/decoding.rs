//! Items that are hard to decode, and memory that a worker keeps after large ones.

use std::time::{Duration, Instant};

use procpool_ipc::proto::CallStyle;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::kit::{Check, Kit, Needs};
use crate::report::{Outcome, Stop, Verdict, fault, skip};
use crate::rules;
use crate::session::Session;
use crate::subject::run_blobs;

pub(crate) const CHECKS: [Check; 2] = [
    ("begins an item before it decodes it", Needs::Answers, begins_first),
    ("releases the memory of a large item", Needs::Answers, keeps_nothing),
];

/// The number of empty lists in an item whose decoded size is many times its length.
const NUM_LISTS: usize = 2 << 20;
/// Enough memory to receive it, but in most languages not enough to decode it.
const SPARE_BYTES: u64 = 48 << 20;
/// More than the C library keeps of a freed block.
const LARGE_BYTES: usize = 33 << 20;
/// How much more memory a worker may hold after a large item than before.
const KEPT_BYTES: u64 = 16 << 20;
/// How long garbage collection may take.
const REST: Duration = Duration::from_secs(2);

/// Makes a worker run out of memory while it decodes an item. It may fail the item or die; then this item must be the
/// one that has begun.
fn begins_first(kit: &mut Kit) -> Outcome {
    kit.echo()?;
    let mut session = kit.start()?;
    let (pid, size) = memory_of(&session, 0)?;
    let limit = Rlimit { current: Some(size + SPARE_BYTES), maximum: getrlimit(Resource::As).maximum };
    if let Err(error) = prlimit(Some(pid), Resource::As, limit) {
        return Err(skip(format!("its memory cannot be limited: {error}")));
    }
    let mut lists = "[],".repeat(NUM_LISTS).into_bytes();
    lists.insert(0, b'[');
    lists.extend_from_slice(b"[]]");
    let items: [&[u8]; 3] = [b"1", &lists, b"2"];
    let id = session.run(run_blobs("echo", CallStyle::Map, "application/json", &items));
    let deadline = Instant::now() + kit.timeout * 3;
    session.wait_until_or(deadline, |transcript| transcript.chunk(id).is_done())?;
    if session.transcript.chunk(id).is_done() {
        let failed = session.transcript.chunk(id).failures.contains_key(&1);
        session.quiet()?;
        return Ok(Verdict::Note(
            if failed { "an item that takes too much memory fails" } else { "its memory suffices" }.to_owned(),
        ));
    }
    session.kill()?;
    match session.num_begun(id)? {
        2 => Ok(Verdict::Note("it dies of an item that takes too much memory".to_owned())),
        count => {
            let got =
                format!("had begun {count} items when it ran out of memory while it decoded the second of a chunk");
            Err(fault(rules::BEGUN_BEFORE_DECODED, got))
        }
    }
}

/// Not a rule of the protocol, so too much memory is only a note.
fn keeps_nothing(kit: &mut Kit) -> Outcome {
    let function = kit.echo_of_bytes()?;
    // A function of values may refuse it.
    let blob = vec![b'x'; LARGE_BYTES];
    let mut session = kit.start()?;
    session.call(run_blobs(function, CallStyle::Map, "", &[b"x"]))?;
    let (_, before) = memory_of(&session, 1)?;
    session.call(run_blobs(function, CallStyle::Map, "", &[&blob]))?;
    session.quiet()?;
    let end = Instant::now() + REST;
    loop {
        let (_, after) = memory_of(&session, 1)?;
        let more = after.saturating_sub(before);
        if more <= KEPT_BYTES {
            return Ok(Verdict::Ok);
        }
        if Instant::now() >= end {
            let (more, item) = (more >> 20, LARGE_BYTES >> 20);
            return Ok(Verdict::Note(format!("it holds {more} MiB more after an item of {item} MiB than before")));
        }
        session.listen_for(Duration::from_millis(10))?;
    }
}

/// Returns the process of a worker and a field of its `statm`, in bytes: its size, or its resident memory.
fn memory_of(session: &Session, field: usize) -> Result<(Pid, u64), Stop> {
    let pid = session.hello().pid;
    let read = || {
        let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
        let pages: u64 = statm.split(' ').nth(field)?.parse().ok()?;
        Some((Pid::from_raw(i32::try_from(pid).ok()?)?, pages * rustix::param::page_size() as u64))
    };
    read().ok_or_else(|| skip("its memory cannot be read by the process id that its Hello gives"))
}
