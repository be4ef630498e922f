//! What a worker process of these tests does. Nothing in here runs in the test itself.

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use procpool_ipc::page::{PageWriter, monotonic_ns};
use procpool_ipc::proto::server_frame::Frame as ServerFrame;
use procpool_ipc::proto::worker_frame::Frame as WorkerFrame;
use procpool_ipc::{Peer, proto};
use procpool_items::{ItemKind, ItemSlab};

use crate::{dump, leftovers, server};

/// The variable that names the role.
pub(crate) const ROLE: &str = "PROCPOOL_TEST_ROLE";
/// The variable that names the directory for marks.
pub(crate) const DIRECTORY: &str = "PROCPOOL_TEST_DIRECTORY";

/// A worker that a test has forgotten ends by itself.
const WATCHDOG: Duration = Duration::from_secs(120);

pub(crate) fn play() {
    let role = variable(ROLE);
    std::thread::spawn(|| {
        std::thread::sleep(WATCHDOG);
        end(97);
    });
    mark("pid", &std::process::id().to_string());
    match role.as_str() {
        "server" => server::serve(false),
        "reaping_server" => server::serve(true),
        "adopt_many" => leftovers::adopt_many(),
        "free_slots" => leftovers::free_slots(),
        "restart_many" => server::restart_many(),
        "inventory" => inventory(),
        "close_channel" => {
            drop(Connection::open());
            mark("closed", "");
            hang();
        }
        "not_a_word" => {
            let connection = Connection::open();
            mark("connected", "");
            hang_with(&connection);
        }
        "raw" => {
            // Sends what the test has prepared instead of a Hello.
            let mut connection = Connection::open();
            connection.peer.send_bytes(std::fs::read(path("frames")).unwrap()).unwrap();
            hang();
        }
        "descend" => {
            let connection = Connection::open();
            let descendant = run_shell("sleep 1000 & echo $!");
            mark("descendant", &descendant);
            connection.leave(0);
        }
        _ => work(&role),
    }
    end(0);
}

/// The roles of workers that get as far as their items.
fn work(role: &str) {
    let mut connection = Connection::open();
    if role.starts_with("dump_") {
        return dump::play(role, &mut connection);
    }
    connection.greet(!role.ends_with("_without_page"));
    let mut pings = 0;
    let mut recalls = Vec::new();
    while let Some(frame) = connection.receive() {
        match (role, frame) {
            ("ignore_frames", _) => {
                mark("frame", "");
                hang_with(&connection);
            }
            // Takes up nothing, and gives it back when it is asked for it.
            ("answer_ping", ServerFrame::Run(_)) => {}
            ("answer_ping", ServerFrame::Ping(ping)) => {
                connection.send(WorkerFrame::Pong(proto::Pong { nonce: ping.nonce }));
                pings += 1;
                mark(&format!("ping_{pings}"), "");
            }
            ("answer_ping", ServerFrame::Recall(recall)) => {
                let recalled = proto::Recalled { chunk: recall.chunk, first_not_begun: 0 };
                connection.send(WorkerFrame::Recalled(recalled));
            }
            // Runs the second item for ever, and writes down what it is told about that.
            ("recalls", ServerFrame::Run(run)) => {
                connection.page().begin(run.first_sequence);
                connection.send_results(run.chunk, 0, first_item(&run));
                connection.page().begin(run.first_sequence + 1);
                mark("running", "");
            }
            ("recalls", ServerFrame::Recall(recall)) => {
                recalls.push(format!("{} {:?}", recall.cancel, recall.cancel_offset));
                mark(&format!("recalls_{}", recalls.len()), &recalls.join("\n"));
            }
            (_, ServerFrame::Run(run)) => run_chunk(role, &mut connection, &run),
            ("answer_recall", ServerFrame::Recall(recall)) => {
                let recalled = proto::Recalled { chunk: recall.chunk, first_not_begun: 1 };
                connection.send(WorkerFrame::Recalled(recalled));
            }
            (_, ServerFrame::Shutdown(_)) => connection.leave(0),
            _ => {}
        }
    }
    mark("end_of_channel", "");
}

fn first_item(run: &proto::Run) -> bytes::Bytes {
    ItemSlab::parse(ItemKind::Blobs, run.items.clone()).unwrap().range(0..1)
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the streams of a worker belong to its functions")]
fn run_chunk(role: &str, connection: &mut Connection, run: &proto::Run) {
    let items = ItemSlab::parse(ItemKind::Blobs, run.items.clone()).unwrap();
    match role {
        "echo" => connection.send_results(run.chunk, 0, run.items.clone()),
        "print" => {
            for index in 0..items.len() {
                crate::support::wait_for_file(&path(&format!("print_{index}")));
                connection.page().begin(run.first_sequence + index as u64);
                let text = items.item(index);
                println!("item says {}", String::from_utf8_lossy(&text));
                eprintln!("\u{1b}[31mand complains");
                connection.send_results(run.chunk, u32::try_from(index).unwrap(), items.range(index..index + 1));
            }
        }
        "flood" => {
            let block = vec![b'x'; 1 << 20];
            for _ in 0..128 {
                std::io::stdout().write_all(&block).unwrap();
                std::io::stderr().write_all(&block).unwrap();
            }
            let lines = "a short line\n".repeat(100_000);
            std::io::stdout().write_all(lines.as_bytes()).unwrap();
            std::io::stderr().write_all(b"\nthe last words").unwrap();
            connection.send_results(run.chunk, 0, run.items.clone());
        }
        // Two results in the journal, the third item running.
        "journal" => {
            for index in 0..2 {
                let sequence = run.first_sequence + index;
                connection.page().begin(sequence);
                let record = items.range(usize::try_from(index).unwrap()..usize::try_from(index).unwrap() + 1);
                assert!(connection.page().append(sequence, &record, b""));
            }
            connection.page().begin(run.first_sequence + 2);
            mark("running", "");
            hang_with(connection);
        }
        // The same, but the first result was sent as well.
        "journal_sent" => {
            for index in 0..2_usize {
                let sequence = run.first_sequence + index as u64;
                connection.page().begin(sequence);
                assert!(connection.page().append(sequence, &items.range(index..index + 1), b""));
            }
            connection.send_results(run.chunk, 0, items.range(0..1));
            mark("running", "");
            hang_with(connection);
        }
        // Begins the third item and never tells of the first two.
        "lose_results" => {
            connection.page().begin(run.first_sequence + 2);
            connection.leave(0);
        }
        "grow" | "grow_child" => connection.begin_and(run, || grow(role)),
        "torn_frame" => {
            connection.page().begin(run.first_sequence);
            let frame = results_frame(run.chunk, 0, run.items.clone());
            connection.peer.send_bytes(frame.slice(..frame.len() - 1)).unwrap();
            connection.leave(1);
        }
        "begin" | "begin_without_page" => {
            if connection.page.is_some() {
                connection.page().stamp_start(monotonic_ns());
                connection.page().begin(run.first_sequence);
            } else {
                connection.send(WorkerFrame::Started(proto::Started { chunk: run.chunk, offset: 0 }));
            }
            mark("running", "");
            hang_with(connection);
        }
        "exit_0" => connection.begin_and(run, || end(0)),
        "exit_7" => connection.begin_and(run, || {
            eprintln!("cannot go on");
            end(7)
        }),
        "abort" => connection.begin_and(run, || std::process::abort()),
        "segfault" => connection.begin_and(run, || {
            // The standard library handles the first, and goes back to the default.
            loop {
                run_shell(&format!("kill -SEGV {}", std::process::id()));
            }
        }),
        // Answers the first chunk, and reads nothing more until it is told.
        "slow_reader" => {
            connection.send_results(run.chunk, 0, run.items.clone());
            if run.chunk == 1 {
                mark("answered", "");
                crate::support::wait_for_file(&path("go_on"));
            }
        }
        "stop_once" | "stop_again" => stand_still(role, connection, run),
        // One result after the other, as fast as it can, whether anybody reads or not.
        "chatter" => {
            for index in 0..run.count {
                let index = index as usize;
                connection.send_results(run.chunk, u32::try_from(index).unwrap(), items.range(index..index + 1));
            }
        }
        // Sends what the test has prepared instead of results, and lives on.
        "frames" => {
            connection.page().begin(run.first_sequence);
            connection.peer.send_bytes(std::fs::read(path("frames")).unwrap()).unwrap();
            hang_with(connection);
        }
        "answer_recall" => connection.page().begin(run.first_sequence),
        _ => panic!("no role {role}"),
    }
}

/// Stands still, and answers when it goes on, or stands still again.
fn stand_still(role: &str, connection: &mut Connection, run: &proto::Run) {
    connection.page().begin(run.first_sequence);
    loop {
        stop();
        if role == "stop_once" {
            break;
        }
    }
    connection.send_results(run.chunk, 0, run.items.clone());
}

/// Writes down what the process has inherited.
fn inventory() {
    let directory = std::fs::read_dir("/proc/self/fd").unwrap();
    let mut descriptors: Vec<String> = directory
        .flatten()
        .filter_map(|entry| {
            let target = std::fs::read_link(entry.path()).ok()?;
            // The directory that is being read is open, too.
            let is_this = target.starts_with("/proc");
            (!is_this).then(|| format!("{} {}", entry.file_name().display(), target.display()))
        })
        .collect();
    descriptors.sort();
    mark("descriptors", &descriptors.join("\n"));
    let variables: Vec<String> =
        std::env::vars_os().map(|(name, value)| format!("{}={}", name.display(), value.display())).collect();
    mark("environment", &variables.join("\n"));
    mark("status", &std::fs::read_to_string("/proc/thread-self/status").unwrap());
    mark("limits", &std::fs::read_to_string("/proc/self/limits").unwrap());
    mark("directory", &std::env::current_dir().unwrap().display().to_string());
}

/// The worker's end of the channel.
pub(crate) struct Connection {
    peer: Peer<WorkerFrame>,
    page: Option<PageWriter>,
    /// The writing end of the pipe for dumps.
    pub(crate) dumps: Option<OwnedFd>,
}

impl Connection {
    /// Takes the inherited socket, and the page that comes with the Welcome frame.
    fn open() -> Self {
        let socket = procpool_ipc::take_inherited_socket(3).unwrap();
        let (peer, welcome, mut descriptors) = Peer::connect(socket.into()).unwrap();
        let dumps = descriptors.pop();
        let memory = descriptors.pop();
        assert!(welcome.dump_pipe && descriptors.is_empty());
        assert_eq!(welcome.slot.to_string(), variable("PROCPOOL_SLOT"));
        assert_eq!(welcome.worker_id.to_string(), variable("PROCPOOL_WORKER_ID"));
        let page = memory.map(|memory: OwnedFd| PageWriter::map(memory, welcome.journal_bytes).unwrap());
        Self { peer, page, dumps }
    }

    fn greet(&mut self, uses_progress_page: bool) {
        if !uses_progress_page {
            self.page = None;
        }
        self.send(WorkerFrame::Hello(hello(uses_progress_page)));
        self.send(WorkerFrame::Ready(proto::Ready {}));
    }

    pub(crate) fn page(&mut self) -> &mut PageWriter {
        self.page.as_mut().unwrap()
    }

    /// Reads the next frame; `None` at the end.
    pub(crate) fn receive(&mut self) -> Option<ServerFrame> {
        self.peer.next_frame().unwrap()
    }

    pub(crate) fn send(&mut self, frame: WorkerFrame) {
        self.peer.send(frame).unwrap();
    }

    fn send_results(&mut self, chunk: u64, first: u32, items: bytes::Bytes) {
        self.peer.send_bytes(results_frame(chunk, first, items)).unwrap();
    }

    fn begin_and(&mut self, run: &proto::Run, go: impl FnOnce()) {
        self.page().begin(run.first_sequence);
        go();
    }

    /// Exits while the channel is open.
    fn leave(&self, code: i32) -> ! {
        let _ = &self.peer;
        end(code)
    }
}

pub(crate) fn hello(uses_progress_page: bool) -> proto::Hello {
    proto::Hello {
        protocol_version: procpool_ipc::PROTOCOL_VERSION,
        sdk: "role 1".to_owned(),
        pid: std::process::id(),
        functions: vec![proto::Function { name: "f".to_owned(), ..Default::default() }],
        uses_progress_page,
        ..proto::Hello::default()
    }
}

pub(crate) fn results_frame(chunk: u64, first: u32, items: bytes::Bytes) -> bytes::Bytes {
    let count = u32::try_from(ItemSlab::count(ItemKind::Blobs, &items).unwrap()).unwrap();
    let results = proto::Results { chunk, first, count, busy_ns: 5, items, ..Default::default() };
    procpool_ipc::encode_worker_frame(WorkerFrame::Results(results))
}

fn stop() {
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP).unwrap();
}

fn hang() -> ! {
    loop {
        std::thread::park();
    }
}

/// Hangs with the channel open.
fn hang_with(connection: &Connection) -> ! {
    let _ = &connection.peer;
    hang()
}

pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from(variable(DIRECTORY)).join(name)
}

/// Makes a file that the test waits for; it appears with its content.
pub(crate) fn mark(name: &str, content: &str) {
    let unfinished = path(&format!("{name}.unfinished"));
    std::fs::write(&unfinished, content).unwrap();
    std::fs::rename(unfinished, path(name)).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "a role learns what it is from the environment")]
fn variable(name: &str) -> String {
    std::env::var(name).unwrap()
}

/// Runs a script; returns the first line that it prints, while what it has started may run on and hold the streams.
#[expect(clippy::disallowed_methods, reason = "a worker's own child processes are what is tested")]
fn run_shell(script: &str) -> String {
    let output = path("shell");
    let script = format!("exec 9>&1; {{ {script} ; }} >{}", output.display());
    std::process::Command::new("sh").args(["-c", &script]).status().unwrap();
    std::fs::read_to_string(output).unwrap().trim().to_owned()
}

/// Holds 64 MiB more than before, or has a command that does, and goes on for ever.
#[expect(clippy::disallowed_methods, reason = "a worker's own child processes are what is tested")]
fn grow(role: &str) -> ! {
    if role == "grow_child" {
        let script = "{ head -c 67108864 /dev/zero; sleep 1000; } | tail -c 67108864";
        std::process::Command::new("sh").args(["-c", script]).status().unwrap();
    }
    // Or the optimiser leaves it out.
    let memory = std::hint::black_box(vec![1_u8; 64 << 20]);
    mark("running", &memory.len().to_string());
    hang()
}

#[expect(clippy::exit, reason = "a role ends where it likes")]
fn end(code: i32) -> ! {
    std::process::exit(code)
}
