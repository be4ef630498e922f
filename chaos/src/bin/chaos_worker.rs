//! The Rust worker of the chaos run: it records what it begins and finishes, and has the faults that items ask for.
//! `chaos/worker.py` is the same in Python.
//!
//! Each record has 64 bytes and is one write: it crosses no page boundary, so the kernel writes all of it or nothing,
//! whenever the worker is killed.

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use procpool_worker::{Function, Worker};
use rustix::process::{Resource, Rlimit, Signal};
use rustix::time::{ClockId, clock_gettime};

/// How much more memory a worker may have that allocates until it dies.
const MEMORY_ROOM: u64 = 64 << 20;
/// Longer than it takes to kill a worker that broke the protocol.
const FOR_EVER: Duration = Duration::from_secs(120);

type BoxError = Box<dyn Error + Send + Sync>;
/// An item: its number, its nonce, what is to happen, and how many microseconds it takes.
type Item = (u64, u64, String, u64);
/// A result: the item's number, the answer to its nonce, and who computed it: a process and a moment.
type Answer = (u64, u64, u64, u64);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "chaos worker failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), BoxError> {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().ok_or("usage: chaos_worker DIRECTORY [idempotent]")?);
    let is_idempotent = arguments.next().is_some();
    let number = std::env::var_os("PROCPOOL_FD").ok_or("it was not started by a pool")?;
    let socket = procpool_ipc::take_inherited_socket(number.to_string_lossy().parse()?)?;
    let scribe = Arc::new(Scribe::open(directory, socket.try_clone()?)?);

    let declare = |function: Function| if is_idempotent { function.idempotent() } else { function };
    let of_one = Arc::clone(&scribe);
    Worker::new()
        .register(declare(Function::fallible("rust_work", move |item: Item| of_one.work(item))))
        .register(declare(Function::fallible("rust_work_star", move |id: u64, nonce: u64, task: String, us: u64| {
            scribe.work((id, nonce, task, us))
        })))
        .function("rust_pid", |milliseconds: u64| {
            thread::sleep(Duration::from_millis(milliseconds));
            std::process::id()
        })
        .bytes_function("rust_length", |item| Ok::<_, BoxError>(item.len().to_string()))
        .run_on(socket)?;
    Ok(())
}

/// Writes the history, and executes faults.
struct Scribe {
    directory: PathBuf,
    history: File,
    vices: File,
    /// The connection to the server, to write garbage to.
    socket: OwnedFd,
}

impl Scribe {
    fn open(directory: PathBuf, socket: OwnedFd) -> std::io::Result<Self> {
        let open = |name: &str| OpenOptions::new().create(true).append(true).open(directory.join(name));
        Ok(Self { history: open("history")?, vices: open("vices")?, directory, socket })
    }

    fn work(&self, (id, nonce, task, microseconds): Item) -> Result<Answer, BoxError> {
        let began = now();
        record(&self.history, 'S', id, began, began)?;
        match task.split_once('!') {
            Some((vice, times)) if times != "once" || self.is_first_time(id) => self.misbehave(vice, id, began)?,
            _ => {}
        }
        if microseconds > 0 {
            thread::sleep(Duration::from_micros(microseconds));
        }
        if task == "print" {
            let _ = writeln!(std::io::stdout(), "item {id} says that it is there");
        }
        record(&self.history, 'F', id, began, now())?;
        if task == "raise" {
            return Err(format!("item {id} was asked to fail").into());
        }
        Ok((id, (nonce * 31 + id) % 1_000_003, std::process::id().into(), began))
    }

    fn is_first_time(&self, id: u64) -> bool {
        let token = Path::new(&self.directory).join(format!("token-{id}"));
        OpenOptions::new().write(true).create_new(true).open(token).is_ok()
    }

    fn misbehave(&self, vice: &str, id: u64, began: u64) -> Result<(), BoxError> {
        record(&self.vices, 'V', id, began, now())?;
        let kill = |signal| rustix::process::kill_process(rustix::process::getpid(), signal);
        match vice {
            // The first SIGSEGV goes to a handler of Rust's that looks for a stack overflow and lets the next one kill.
            "segv" => loop {
                kill(Signal::SEGV)?;
            },
            "exit" => exit(0),
            "memory" => Self::allocate_until_dead()?,
            "leak" => leak(),
            "garbage" => self.send(b"\x00\x00\x00\x06\xff\xff\xff\xff\xff\xff")?,
            "giant" => self.send(b"\xff\xff\xff\xff")?,
            "torn" => {
                self.send(b"\x00\x00\x10\x00\x22")?;
                exit(0);
            }
            _ => return Err(format!("there is no vice {vice:?}").into()),
        }
        thread::sleep(FOR_EVER);
        Ok(())
    }

    fn send(&self, bytes: &[u8]) -> Result<(), BoxError> {
        rustix::io::write(&self.socket, bytes)?;
        Ok(())
    }

    /// A limit of the process simulates the kernel's, to spare the machine.
    fn allocate_until_dead() -> Result<(), BoxError> {
        let pages: u64 = std::fs::read_to_string("/proc/self/statm")?.split(' ').next().unwrap_or("0").parse()?;
        let limit = Some(pages * rustix::param::page_size() as u64 + MEMORY_ROOM);
        rustix::process::setrlimit(Resource::As, Rlimit { current: limit, maximum: limit })?;
        let mut kept = Vec::new();
        loop {
            kept.push(vec![1_u8; 1 << 20]);
        }
    }
}

/// Takes memory slowly enough for the server to see it pass the limit.
fn leak() -> ! {
    let mut kept = Vec::new();
    loop {
        kept.push(vec![1_u8; 1 << 20]);
        thread::sleep(Duration::from_millis(1));
    }
}

fn record(mut file: &File, kind: char, id: u64, began: u64, time: u64) -> std::io::Result<()> {
    let line = format!("{kind} {id:>10} {:>10} {began:>18} {time:>18}", std::process::id());
    file.write_all(format!("{line:<63}\n").as_bytes())
}

fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

#[expect(clippy::exit, reason = "a worker that exits is what the pool must survive")]
fn exit(code: i32) -> ! {
    std::process::exit(code)
}
