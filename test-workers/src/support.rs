//! Finds the programs, waits for them, and cleans up after them.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

/// A fixture older than this was forgotten by its test.
const WATCHDOG_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a test waits for an event. Long, since only a failing test waits that long.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// Returns the path of a worker program, which is next to the program that runs the test.
///
/// # Panics
///
/// If it was not built: cargo does not build the programs of a dependency.
pub fn path(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its program");
    let mut directory = test.parent().expect("a program is in a directory");
    if directory.ends_with("deps") || directory.ends_with("examples") {
        directory = directory.parent().expect("cargo puts deps into the directory of a profile");
    }
    let program = directory.join(name);
    assert!(
        program.is_file(),
        "{} does not exist; build it first: cargo build -p procpool-test-workers --bins",
        program.display()
    );
    program
}

/// Ends this process after a minute, with exit code 99.
///
/// # Panics
///
/// If no thread can be started.
pub fn start_watchdog() {
    thread::Builder::new()
        .name("watchdog".to_owned())
        .spawn(|| {
            thread::sleep(WATCHDOG_TIMEOUT);
            exit_by_watchdog()
        })
        .expect("a small program can have a second thread");
}

#[expect(clippy::exit, reason = "the point of a watchdog")]
fn exit_by_watchdog() -> ! {
    std::process::exit(99)
}

/// Waits until a condition holds.
///
/// # Panics
///
/// If it does not hold within 20 seconds.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(LOOK_INTERVAL);
    }
}

/// A file with which a test and a worker synchronise.
#[derive(Debug, Clone)]
pub struct Marker {
    path: PathBuf,
}

impl Marker {
    /// Returns the marker of this name; it is not set.
    pub fn new(directory: &Path, name: &str) -> Self {
        Self { path: directory.join(name) }
    }

    /// Returns the file's path, as a worker function takes it.
    ///
    /// # Panics
    ///
    /// If the directory's name is not UTF-8.
    pub fn path(&self) -> &str {
        self.path.to_str().expect("temporary directories have plain names")
    }

    /// Sets it.
    ///
    /// # Panics
    ///
    /// If the file cannot be made.
    pub fn set(&self) {
        std::fs::write(&self.path, b"").expect("a temporary directory can be written to");
    }

    /// Tells whether it is set.
    pub fn is_set(&self) -> bool {
        self.path.exists()
    }

    /// Waits until it is set.
    ///
    /// # Panics
    ///
    /// If that takes more than 20 seconds.
    #[track_caller]
    pub fn wait(&self) {
        wait_until(self.path(), || self.is_set());
    }
}

/// Kills a process group when it is dropped, so that a failed test leaves no processes.
#[derive(Debug)]
pub struct GroupGuard {
    group: Pid,
}

impl GroupGuard {
    /// Guards the group that this child leads.
    pub fn new(leader: &Child) -> Self {
        Self { group: Pid::from_child(leader) }
    }

    /// Guards the group with this id; `None` if the id is invalid.
    pub fn from_raw(group: i32) -> Option<Self> {
        // kill(-1) would signal every process.
        Pid::from_raw(group).filter(|group| group.as_raw_nonzero().get() > 1).map(|group| Self { group })
    }

    /// Returns whether no process of the group is left, zombies included.
    pub fn is_gone(&self) -> bool {
        rustix::process::test_kill_process_group(self.group) == Err(rustix::io::Errno::SRCH)
    }
}

impl Drop for GroupGuard {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = rustix::process::kill_process_group(self.group, Signal::KILL);
    }
}

/// Returns how much memory a process holds.
///
/// # Panics
///
/// If there is no such process.
pub fn resident_bytes(pid: u32) -> usize {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).expect("the process is there");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("statm has it");
    pages * rustix::param::page_size()
}
