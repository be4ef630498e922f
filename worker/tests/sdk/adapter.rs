//! What adapters to other languages use: loading, waiting, dumps, keyword arguments, and the end of the server.

use std::io::Write as _;
use std::net::Shutdown;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use procpool_ipc::proto::CallStyle::{Apply, Map};
use procpool_ipc::proto::server_frame::Frame as ServerFrame;
use procpool_ipc::proto::worker_frame::Frame as WorkerFrame;
use procpool_ipc::proto::{ApplyArguments, ItemKind, Ping, Run};
use procpool_ipc::{Frame as _, Peer, send_with_fds};
use procpool_items::{Records, value};
use procpool_test_workers::{FakeServer, blob_list, welcome_frame};
use procpool_worker::{
    Adapter, DumpSignal, Encoding, Failure, Function, Input, RawCommon, Worker, WorkerError, current,
};
use prost::Message as _;
use serde_json::json;

use crate::in_thread::{start, start_unwelcomed};

const PATIENCE: Duration = Duration::from_secs(20);

fn put(text: &str, buffer: &mut Vec<u8>) {
    value::append_with(text, value::NonFinite::Error, buffer).expect("a text is a value");
}

fn named(name: &'static str) -> Function {
    Function::dynamic(name, move |_, buffer| {
        put(name, buffer);
        Ok(())
    })
}

#[test]
fn the_loader_runs_before_hello_and_adds_its_functions() {
    let (go, go_receiver) = mpsc::channel::<()>();
    let adapter = Adapter::new().sdk("procpool-test/1").loader(move || {
        go_receiver.recv()?;
        Ok::<_, mpsc::RecvError>(vec![named("loaded")])
    });
    let (socket, thread) = start_unwelcomed(Worker::new().register(named("registered")).adapter(adapter));
    let mut server = FakeServer::welcome_only(socket, 4096, 0);
    server.send(ServerFrame::Ping(Ping { nonce: 1 }));
    // Nothing overtakes Hello.
    server.peer.socket().set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(server.peer.next_frame().is_err(), "nothing comes in this time");
    server.peer.socket().set_read_timeout(Some(PATIENCE)).unwrap();
    go.send(()).unwrap();
    let WorkerFrame::Hello(hello) = server.expect_frame() else { panic!("Hello comes first") };
    let names: Vec<&str> = hello.functions.iter().map(|function| function.name.as_str()).collect();
    assert_eq!((hello.sdk.as_str(), names), ("procpool-test/1", vec!["loaded", "registered"]));
    // The two may come in either order, since the server did not wait for Ready.
    let frames = [server.expect_frame(), server.expect_frame()];
    assert!(frames.iter().any(|frame| matches!(frame, WorkerFrame::Ready(_))), "{frames:?}");
    assert!(frames.iter().any(|frame| matches!(frame, WorkerFrame::Pong(_))), "{frames:?}");
    server.shut_down();
    thread.join().unwrap().unwrap();
}

#[test]
fn a_loader_that_fails_ends_the_worker_before_hello() {
    let adapter = Adapter::new().loader(|| Err("no such module"));
    let (socket, thread) = start_unwelcomed(Worker::new().adapter(adapter));
    let mut server = FakeServer::welcome_only(socket, 4096, 0);
    assert!(server.next_frame().is_none());
    let error = thread.join().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "cannot load the functions: no such module");
}

/// Returns a hook that tells that it was called, and never returns: it would end the process.
fn tells(sender: mpsc::Sender<()>) -> impl Fn() + Send + Sync + 'static {
    move || {
        sender.send(()).expect("the test listens");
        loop {
            thread::park();
        }
    }
}

#[test]
fn the_end_of_the_server_is_noticed_while_the_worker_loads_and_while_it_works() {
    for loads in [true, false] {
        let (gone_sender, gone) = mpsc::channel();
        let adapter = Adapter::new().on_disconnect(tells(gone_sender));
        let (busy_sender, busy) = mpsc::channel();
        let work = move || -> ! {
            busy_sender.send(()).expect("the test listens");
            loop {
                thread::park();
            }
        };
        let worker = if loads {
            Worker::new().adapter(adapter.loader(move || -> Result<_, String> { work() }))
        } else {
            Worker::new().adapter(adapter).initializer(move || -> Result<_, String> { work() })
        };
        let (socket, _thread) = start_unwelcomed(worker);
        let server = FakeServer::welcome_only(socket, 4096, 0);
        busy.recv_timeout(PATIENCE).unwrap();
        server.peer.socket().shutdown(Shutdown::Both).unwrap();
        gone.recv_timeout(PATIENCE).expect("the hook is called");
    }
}

#[test]
fn the_hook_is_called_for_an_idle_worker_that_then_ends_and_not_after_shutdown() {
    for shuts_down in [false, true] {
        let num_calls = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&num_calls);
        let adapter = Adapter::new().on_disconnect(move || {
            counter.fetch_add(1, Ordering::SeqCst);
        });
        let (mut server, thread) = start(Worker::new().adapter(adapter));
        if shuts_down {
            server.shut_down();
        }
        drop(server);
        thread.join().unwrap().unwrap();
        assert_eq!(num_calls.load(Ordering::SeqCst), u32::from(!shuts_down));
    }
}

/// A worker whose hook tells of each wait, and whether it is within one.
fn waiting() -> (Worker, mpsc::Receiver<()>, Arc<AtomicBool>) {
    let (sender, waits) = mpsc::channel();
    let is_waiting = Arc::new(AtomicBool::new(false));
    let (hook_flag, flag) = (Arc::clone(&is_waiting), Arc::clone(&is_waiting));
    let adapter = Adapter::new().on_wait(move |wait| {
        hook_flag.store(true, Ordering::SeqCst);
        // Nobody listens at the end of a test.
        let _ = sender.send(());
        wait();
        hook_flag.store(false, Ordering::SeqCst);
        Ok::<_, String>(())
    });
    let ask = move |length: usize| {
        assert!(!flag.load(Ordering::SeqCst), "the function runs outside of the hook");
        "x".repeat(length)
    };
    (Worker::new().adapter(adapter).function("ask", ask), waits, is_waiting)
}

#[test]
fn the_hook_surrounds_waiting_for_work_and_looks_up_now_and_then() {
    let (worker, waits, is_waiting) = waiting();
    let (mut server, thread) = start(worker);
    assert_eq!(server.call_one("ask", Map, json!(1)), json!("x"));
    waits.try_iter().for_each(drop);
    // Although nothing comes.
    for _ in 0..2 {
        waits.recv_timeout(PATIENCE).expect("a signal handler could run now");
    }
    assert!(is_waiting.load(Ordering::SeqCst));
    assert_eq!(server.call_one("ask", Map, json!(2)), json!("xx"));
    server.shut_down();
    thread.join().unwrap().unwrap();
}

#[test]
fn the_hook_surrounds_sending_to_a_server_that_does_not_read() {
    let (worker, waits, is_waiting) = waiting();
    let (mut server, thread) = start(worker);
    let (chunk, _) = server.run("ask", Map, &[json!(8_000_000), json!(1)]);
    // It begins to send what does not fit into the socket's buffer.
    server.peer.socket().peek_one();
    waits.recv_timeout(PATIENCE).unwrap();
    assert!(is_waiting.load(Ordering::SeqCst));
    assert_eq!(server.collect(chunk, 2).results.len(), 2);
    server.shut_down();
    thread.join().unwrap().unwrap();
}

trait PeekOne {
    /// Waits until there is something to read, and leaves it there.
    fn peek_one(&self);
}

impl PeekOne for UnixStream {
    fn peek_one(&self) {
        let mut byte = [0];
        let flags = rustix::net::RecvFlags::PEEK;
        rustix::net::recv(self, &mut byte, flags).expect("something comes");
    }
}

#[test]
fn an_error_of_the_hook_ends_the_worker() {
    let fails = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&fails);
    let adapter = Adapter::new().on_wait(move |wait| {
        wait();
        if flag.load(Ordering::SeqCst) { Err("a handler raised") } else { Ok(()) }
    });
    let (mut server, thread) = start(Worker::new().register(named("echo")).adapter(adapter));
    assert_eq!(server.call_one("echo", Map, json!(1)), json!("echo"));
    fails.store(true, Ordering::SeqCst);
    assert!(server.next_frame().is_none());
    let error = thread.join().unwrap().unwrap_err();
    assert!(matches!(&error, WorkerError::Hook(cause) if cause.to_string() == "a handler raised"), "{error}");
}

#[test]
fn the_pipe_for_dumps_comes_with_the_welcome() {
    for dump_pipe in [true, false] {
        let adapter = Adapter::new().dump_stacks(|pipe| {
            std::fs::File::from(pipe).write_all(b"stacks").expect("the test reads");
            Some(DumpSignal { number: 16, end: "end\n".to_owned() })
        });
        let (socket, thread) = start_unwelcomed(Worker::new().adapter(adapter));
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut welcome = welcome_frame(4096, 0);
        welcome.dump_pipe = dump_pipe;
        send_with_fds(&socket, &ServerFrame::Welcome(welcome).encode(), &[writer.as_fd()]).unwrap();
        drop(writer);
        let mut peer = Peer::<ServerFrame>::new(socket, 4096);
        let Some(WorkerFrame::Hello(hello)) = peer.next_frame().unwrap() else { panic!("Hello comes first") };
        let expected = if dump_pipe { (16, "end\n", "stacks") } else { (0, "", "") };
        let dump = std::io::read_to_string(&mut reader).unwrap();
        assert_eq!((hello.dump_signal, hello.dump_end.as_str(), dump.as_str()), expected);
        drop(peer);
        thread.join().unwrap().unwrap();
    }
}

fn apply(server: &mut FakeServer, function: &str) {
    let kwargs = value::struct_to_bytes(&json!({"scale": 2}), value::NonFinite::Error).expect("it is a map");
    let args = value::list_to_bytes([1], value::NonFinite::Error).expect("1 is a value");
    let arguments = ApplyArguments { args, kwargs: kwargs.into() }.encode_to_vec();
    server.run_frame(Run {
        function: function.to_owned(),
        kind: ItemKind::Values.into(),
        style: Apply.into(),
        items: blob_list(&[&arguments]),
        ..Run::default()
    });
}

#[test]
fn a_function_that_takes_keyword_arguments_gets_them_encoded() {
    let describe = |input: Input<'_>, buffer: &mut Vec<u8>| {
        let entry = Records::new(input.kwargs).next().ok_or_else(|| Failure::invalid_kwargs("there are none"))?;
        let entry = entry.map_err(|problem| Failure::invalid_kwargs(problem.to_string()))?;
        let item = current().expect("an item runs");
        put(&format!("{} {} {}", entry.len(), input.chunk_bytes, item.chunk), buffer);
        Ok(())
    };
    let worker = Worker::new()
        .register(Function::dynamic("takes", describe).takes_kwargs())
        .register(Function::dynamic("does_not", describe));
    let (mut server, _thread) = start(worker);
    apply(&mut server, "takes");
    // The key, and the number: each with a tag and a length.
    assert_eq!(server.collect(1, 1).results, [json!("18 11 1")]);
    apply(&mut server, "does_not");
    let failure = server.collect(2, 1).failures.remove(0);
    assert_eq!(failure.message, "functions of this worker take no keyword arguments: give them by position");
}

#[test]
fn an_adapter_keeps_what_it_makes_of_a_common_argument_with_it() {
    let common = RawCommon::new(Encoding::Bytes, &b"content"[..]);
    assert_eq!(&common.content()[..], b"content");
    common.attachment().set(Box::new(7_u32)).expect("there was none");
    common.release_content();
    assert!(common.content().is_empty());
    assert_eq!(common.attachment().get().and_then(|kept| kept.downcast_ref::<u32>()), Some(&7));
}
