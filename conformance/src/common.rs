//! The argument that all items of a job share.

use procpool_ipc::proto::server_frame::Frame as ServerFrame;
use procpool_ipc::proto::{CallStyle, DropCommon, FailureKind, ItemKind, Run, SetCommon};
use serde_json::{Value, json};

use crate::kit::{Check, Kit, Needs};
use crate::report::{Fault, Outcome, Stop, bail, skip};
use crate::rules;
use crate::session::Session;
use crate::subject::{self, run_values};
use crate::transcript::describe;

pub(crate) const CHECKS: [Check; 5] = [
    ("passes a common argument before the item", Needs::Answers, passes_it_first),
    ("takes a common argument that is JSON in a blob", Needs::Answers, takes_json),
    ("keeps two common arguments apart", Needs::Answers, keeps_two_apart),
    ("keeps it for chunks sent before DropCommon", Needs::Answers, has_it_for_what_came_before),
    ("fails items whose common argument cannot be decoded", Needs::Answers, fails_if_malformed),
];

/// A function of two arguments, and arguments for it.
struct Pairs {
    function: String,
    /// Pairs of a common argument and an item.
    calls: Vec<(Value, Value)>,
    /// The results when the function is called with both as ordinary arguments.
    results: Vec<Value>,
}

/// Returns the function, and a worker that has run it without a common argument.
fn prepare(kit: &mut Kit) -> Result<(Session, Pairs), Stop> {
    if !kit.hello.takes_common {
        return Err(skip("its Hello does not say takes_common"));
    }
    let (function, calls) = subject::pairs(&kit.hello)
        .ok_or_else(|| skip("it needs a function named `pair`, or one whose example shows two arguments"))?;
    let mut session = kit.start()?;
    let lists: Vec<Value> = calls.iter().map(|(first, second)| json!([first, second])).collect();
    let chunk = session.call(run_values(&function, CallStyle::Star, &lists))?;
    if let Some(failure) = chunk.failures.values().next() {
        return Err(skip(format!("{function} fails: {}", describe(failure))));
    }
    let results = chunk.values();
    Ok((session, Pairs { function, calls, results }))
}

fn set(session: &mut Session, common: u64, kind: ItemKind, content_type: &str, value: Vec<u8>) {
    let content_type = content_type.to_owned();
    session.send(ServerFrame::SetCommon(SetCommon { common, kind: kind.into(), content_type, value: value.into() }));
}

fn set_value(session: &mut Session, common: u64, value: &Value) {
    set(session, common, ItemKind::Values, "", subject::encode(value));
}

impl Pairs {
    /// Returns a chunk of one item with a common argument.
    fn run(&self, index: usize, common: u64, style: CallStyle) -> Run {
        let (_, item) = &self.calls[index];
        let item = if style == CallStyle::Star { json!([item]) } else { item.clone() };
        Run { common, ..run_values(&self.function, style, &[item]) }
    }

    /// Checks the result of such a chunk.
    fn expect(&self, session: &mut Session, chunk: u64, index: usize) -> Result<(), Fault> {
        let chunk = session.collect(chunk)?;
        let ((common, item), expected) = (&self.calls[index], &self.results[index]);
        let got = match chunk.failures.values().next() {
            Some(failure) => format!("failed: {}", describe(failure)),
            None if chunk.values()[..] == [expected.clone()] => return Ok(()),
            None => format!("made {}", chunk.values()[0]),
        };
        let function = &self.function;
        let got = format!(
            "{got} when {function} was called with {item} and the common argument {common}; \
            of the two arguments [{common},{item}] it makes {expected}"
        );
        Err(Fault::new(rules::COMMON, got))
    }

    fn call(&self, session: &mut Session, index: usize, common: u64, style: CallStyle) -> Result<(), Fault> {
        let chunk = session.run(self.run(index, common, style));
        self.expect(session, chunk, index)
    }
}

fn passes_it_first(kit: &mut Kit) -> Outcome {
    let (mut session, pairs) = prepare(kit)?;
    for (index, name) in (0..pairs.calls.len()).zip(1..) {
        set_value(&mut session, name, &pairs.calls[index].0);
        pairs.call(&mut session, index, name, CallStyle::Map)?;
        pairs.call(&mut session, index, name, CallStyle::Star)?;
    }
    session.done()
}

fn takes_json(kit: &mut Kit) -> Outcome {
    let (mut session, pairs) = prepare(kit)?;
    set(&mut session, 1, ItemKind::Blobs, "application/json", pairs.calls[0].0.to_string().into_bytes());
    pairs.call(&mut session, 0, 1, CallStyle::Map)?;
    session.done()
}

fn keeps_two_apart(kit: &mut Kit) -> Outcome {
    let (mut session, pairs) = prepare(kit)?;
    let last = pairs.calls.len() - 1;
    set_value(&mut session, 7, &pairs.calls[0].0);
    set_value(&mut session, 1 << 40, &pairs.calls[last].0);
    for _ in 0..3 {
        pairs.call(&mut session, 0, 7, CallStyle::Map)?;
        pairs.call(&mut session, last, 1 << 40, CallStyle::Map)?;
    }
    // Drops one and keeps the other.
    session.send(ServerFrame::DropCommon(DropCommon { common: 7 }));
    pairs.call(&mut session, last, 1 << 40, CallStyle::Map)?;
    session.done()
}

fn has_it_for_what_came_before(kit: &mut Kit) -> Outcome {
    let (mut session, pairs) = prepare(kit)?;
    set_value(&mut session, 1, &pairs.calls[0].0);
    let chunks = [(); 5].map(|()| session.run(pairs.run(0, 1, CallStyle::Map)));
    session.send(ServerFrame::DropCommon(DropCommon { common: 1 }));
    chunks.into_iter().try_for_each(|chunk| pairs.expect(&mut session, chunk, 0))?;
    let last = pairs.calls.len() - 1;
    set_value(&mut session, 2, &pairs.calls[last].0);
    pairs.call(&mut session, last, 2, CallStyle::Map)?;
    session.done()
}

fn fails_if_malformed(kit: &mut Kit) -> Outcome {
    let (mut session, pairs) = prepare(kit)?;
    set(&mut session, 1, ItemKind::Values, "", vec![0xff, 0xff]);
    set(&mut session, 2, ItemKind::Blobs, "application/json", b"{".to_vec());
    for name in [1, 2, 1] {
        let chunk = session.call(pairs.run(0, name, CallStyle::Map))?;
        match chunk.failures.values().next() {
            Some(failure) if failure.kind() != FailureKind::InvalidItem => {
                bail!(rules::BAD_COMMON, "failed the item: {}", describe(failure))
            }
            Some(failure) if !failure.message.contains("common") => {
                bail!(rules::BAD_COMMON, "failed the item with the message {:?}", failure.message)
            }
            Some(_) => {}
            None => bail!(rules::BAD_COMMON, "ran the item"),
        }
    }
    set_value(&mut session, 3, &pairs.calls[0].0);
    pairs.call(&mut session, 0, 3, CallStyle::Map)?;
    session.done()
}
