//! The start of a connection, and the framing.

use bytes::Bytes;
use procpool_ipc::Frame as _;
use procpool_ipc::proto::Ping;
use procpool_ipc::proto::server_frame::Frame as ServerFrame;

use crate::kit::{Check, Kit, Needs};
use crate::report::{Outcome, Verdict, bail};
use crate::session::Terms;
use crate::{rules, subject};

pub(crate) const CHECKS: [Check; 6] = [
    ("answers Ping", Needs::Ready, answers_ping),
    ("reads frames that come in pieces, and many at once", Needs::Ready, reads_pieces),
    ("works without a progress page (journal_bytes = 0)", Needs::Answers, works_without_page),
    ("keeps its frames within max_frame_bytes", Needs::Answers, keeps_frame_limit),
    ("exits when it gets garbage", Needs::Ready, exits_after_garbage),
    ("exits when it gets a frame over max_frame_bytes", Needs::Ready, exits_after_oversize),
];

/// The first check.
pub(crate) fn says_hello(kit: &mut Kit) -> Outcome {
    let session = kit.start()?;
    let hello = session.hello();
    if hello.functions.is_empty() {
        return Ok(Verdict::Note("it has no functions".to_owned()));
    }
    let no_json = |example: &str| serde_json::from_str::<serde_json::Value>(example).is_err();
    match hello.functions.iter().find(|function| !function.example.is_empty() && no_json(&function.example)) {
        Some(function) => Ok(Verdict::Note(format!("the example of {:?} is not JSON", function.name))),
        None => Ok(Verdict::Ok),
    }
}

fn answers_ping(kit: &mut Kit) -> Outcome {
    let mut session = kit.start()?;
    for _ in 0..3 {
        session.quiet()?;
    }
    Ok(Verdict::Ok)
}

fn reads_pieces(kit: &mut Kit) -> Outcome {
    let mut session = kit.start()?;
    let nonces = 1_000..1_020;
    let mut stream = Vec::new();
    for nonce in nonces.clone() {
        session.transcript.note_ping(nonce);
        stream.extend_from_slice(&ServerFrame::Ping(Ping { nonce }).encode());
    }
    // Half in one write, the rest byte by byte, so that the worker reads each separately.
    let (together, single) = stream.split_at(stream.len() / 2 + 1);
    session.send_raw(Bytes::copy_from_slice(together));
    for byte in single.chunks(1) {
        session.send_raw(Bytes::copy_from_slice(byte));
        session.listen_for(std::time::Duration::from_millis(1))?;
    }
    session.wait_until(|transcript| nonces.clone().all(|nonce| transcript.is_answered(nonce)))?;
    Ok(Verdict::Ok)
}

fn works_without_page(kit: &mut Kit) -> Outcome {
    let subject = kit.subject();
    let terms = Terms { journal_bytes: 0, ..kit.terms() };
    let mut session = kit.start_on(terms)?;
    for count in [1, 8] {
        let chunk = session.call(subject.run_many(count))?;
        if subject.is_echo && chunk.values() != subject.items(count) {
            bail!(rules::ECHO, "returned other values without the page");
        }
    }
    session.done()
}

/// The frame limit is smaller than the results of a chunk together.
fn keeps_frame_limit(kit: &mut Kit) -> Outcome {
    let subject = kit.echo()?;
    let terms = Terms { max_frame_bytes: 64 << 10, ..kit.terms() };
    let mut session = kit.start_on(terms)?;
    let long = "x".repeat(20_000);
    let chunks: Vec<u64> =
        (0..4).map(|_| session.run(subject.run(&[long.as_str().into(), long.as_str().into(), 1.into()]))).collect();
    for id in chunks {
        // The reader detects a frame over the limit.
        if session.collect(id)?.values()[0] != *long {
            bail!(rules::ECHO, "returned another value than a string of 20,000 bytes");
        }
    }
    // The Run frame just fits; the result may or may not.
    let longest = "y".repeat((64 << 10) - 80);
    session.call(subject::run_values(&subject.function, subject.style, &[longest.into()]))?;
    session.done()
}

fn exits_after_garbage(kit: &mut Kit) -> Outcome {
    exits_after(kit, Bytes::from_static(b"\x00\x00\x00\x06\xff\xff\xff\xff\xff\xff"))
}

fn exits_after_oversize(kit: &mut Kit) -> Outcome {
    exits_after(kit, Bytes::from_static(b"\xff\xff\xff\xff\x12\x00"))
}

fn exits_after(kit: &mut Kit, bytes: Bytes) -> Outcome {
    let mut session = kit.start()?;
    session.send_raw(bytes);
    let status = session.wait_for_exit(rules::BAD_FRAME)?;
    if status.success() {
        return Ok(Verdict::Note("its exit code is 0, which means success".to_owned()));
    }
    Ok(Verdict::Ok)
}
