//! The server: a real `procpool serve` with two pools in a folder of its own, and its resources in /proc.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::plan::Language;

/// How long to wait for an event.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The poll interval for state without events.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How long an item may run: long beside every item, so that only what hangs is cut.
pub(crate) const ITEM_TIMEOUT: Duration = Duration::from_secs(2);
/// How many items, and how many bytes of them, a pool takes at a time: more than the clients send.
pub(crate) const MAX_QUEUED_ITEMS: usize = 10_000;
pub(crate) const MAX_QUEUED_BYTES: usize = 16 << 20;
/// The memory limit of a worker: more than any worker uses that does not leak.
const WORKER_MEMORY_LIMIT: usize = 160 << 20;
/// How long a worker that hangs may take to end at each of the two steps.
pub(crate) const GRACE_PERIOD: Duration = Duration::from_millis(200);

/// Where the programs are.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) procpool: PathBuf,
    pub(crate) worker: PathBuf,
    pub(crate) python: PathBuf,
    pub(crate) python_worker: PathBuf,
}

impl Programs {
    /// Returns the programs that were built beside this one.
    pub(crate) fn find(python: PathBuf) -> Result<Self> {
        let this = std::env::current_exe()?;
        let folder = this.parent().context("a program is in a folder")?;
        let python_worker = Path::new(env!("CARGO_MANIFEST_DIR")).join("worker.py");
        // The server is started elsewhere.
        let python = if python.components().count() > 1 { std::path::absolute(python)? } else { python };
        let programs =
            Self { procpool: folder.join("procpool"), worker: folder.join("chaos_worker"), python, python_worker };
        for program in [&programs.procpool, &programs.worker, &programs.python_worker] {
            ensure!(program.is_file(), "{} does not exist: use `cargo xtask chaos`", program.display());
        }
        Ok(programs)
    }
}

/// The number of workers of a pool.
pub(crate) fn slots(language: Language) -> u32 {
    match language {
        Language::Rust => 6,
        Language::Python => 3,
    }
}

/// A server that runs.
#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
    pub(crate) pid: u32,
    pub(crate) address: String,
    pub(crate) directory: PathBuf,
}

impl Server {
    /// Starts a server whose workers write into `directory`.
    pub(crate) async fn start(
        programs: &Programs,
        directory: &Path,
        pools: &[Language],
        is_idempotent: bool,
    ) -> Result<Self> {
        let config = directory.join("procpool.toml");
        std::fs::write(&config, configuration(programs, directory, pools, is_idempotent))?;
        let log = File::options().create(true).append(true).open(directory.join("server.log"))?;
        let mut process = command(&programs.procpool)
            .args(["serve", "--config"])
            .arg(&config)
            // Identifies all of its descendants.
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("could not start the server")?;
        let pid = process.id().context("the server has ended already")?;
        let stdout = process.stdout.take().context("stdout is a pipe")?;
        let mut lines = BufReader::new(stdout).lines();
        let first = tokio::time::timeout(PATIENCE, lines.next_line()).await.context("the server does not listen")??;
        let address = first.as_deref().and_then(|line| line.strip_prefix("listening on "));
        let address = address.with_context(|| format!("the server said {first:?}; see {}", directory.display()))?;
        Ok(Self { process, pid, address: address.to_owned(), directory: directory.to_owned() })
    }

    /// Sends SIGTERM and expects the exit code 0.
    pub(crate) async fn stop(mut self) -> Result<()> {
        rustix::process::kill_process(pid(self.pid)?, Signal::TERM)?;
        let status = tokio::time::timeout(PATIENCE, self.process.wait()).await.context("the server does not end")??;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }

    /// Sends SIGKILL, and returns when the server is gone.
    pub(crate) async fn kill(mut self) -> Result<()> {
        self.process.kill().await.context("could not kill the server")
    }

    /// Returns what the server holds now.
    pub(crate) fn resources(&self) -> Result<Resources> {
        let folder = PathBuf::from(format!("/proc/{}", self.pid));
        let count = |name: &str| -> Result<u64> { Ok(std::fs::read_dir(folder.join(name))?.count() as u64) };
        let children = children(self.pid)?;
        Ok(Resources {
            // The server hides them from its own user, as which its workers run. Root can read them.
            fds: open_files(&folder.join("fd")).unwrap_or_default(),
            threads: count("task")?,
            zombies: children.iter().filter(|&&child| is_zombie(child)).count() as u64,
            children: children.len() as u64,
            rss_kib: status_kib(&folder, "VmRSS:")?,
        })
    }
}

fn configuration(programs: &Programs, directory: &Path, pools: &[Language], is_idempotent: bool) -> String {
    let quote = |text: &Path| format!("{:?}", text.display().to_string());
    let mut text = "listen = [\"127.0.0.1:0\"]\ndrain_timeout = \"10s\"\n".to_owned();
    for &language in pools {
        let (command, environment) = match language {
            Language::Rust => {
                let mode = if is_idempotent { ", \"idempotent\"" } else { "" };
                (format!("{}, {}{mode}", quote(&programs.worker), quote(directory)), String::new())
            }
            Language::Python => {
                let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("python");
                let mode = if is_idempotent { ", CHAOS_IDEMPOTENT = \"1\"" } else { "" };
                let (python, worker) = (quote(&programs.python), quote(&programs.python_worker));
                (
                    format!("{python}, \"-m\", \"procpool.worker\", {worker}"),
                    format!("CHAOS_DIRECTORY = {}, PYTHONPATH = {}{mode}", quote(directory), quote(&sdk)),
                )
            }
        };
        let name = language.name();
        let (slots, timeout, grace) = (slots(language), ITEM_TIMEOUT.as_millis(), GRACE_PERIOD.as_millis());
        let lines = [
            format!("\n[pools.{name}]\ncommand = [{command}]\nenvironment = {{ {environment} }}"),
            format!("processes = {slots}\nitem_timeout = \"{timeout}ms\""),
            format!("cancel_grace_period = \"{grace}ms\"\nkill_grace_period = \"{grace}ms\""),
            format!("max_queued_items = {MAX_QUEUED_ITEMS}\nmax_queued_bytes = {MAX_QUEUED_BYTES}"),
            format!("worker_memory_limit = {WORKER_MEMORY_LIMIT}\n"),
        ];
        text.push_str(&lines.join("\n"));
    }
    text
}

/// Returns the numbers of open files by kind.
fn open_files(folder: &Path) -> Result<BTreeMap<String, u64>> {
    let mut counts = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        // It may be closed in this moment.
        let Ok(target) = std::fs::read_link(entry?.path()) else { continue };
        let target = target.display().to_string();
        // `socket:[1234]` and `pipe:[1234]` without their numbers.
        let kind = ["socket", "pipe"].into_iter().find(|kind| target.starts_with(kind)).unwrap_or(&target);
        *counts.entry(kind.to_owned()).or_insert(0) += 1;
    }
    Ok(counts)
}

/// What a process holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resources {
    /// The number of open files of each kind (`socket`, `pipe`, or a path), to identify leaks.
    pub(crate) fds: BTreeMap<String, u64>,
    pub(crate) threads: u64,
    pub(crate) children: u64,
    pub(crate) zombies: u64,
    pub(crate) rss_kib: u64,
}

#[expect(clippy::disallowed_methods, reason = "the server is what is tested")]
fn command(program: &Path) -> Command {
    Command::new(program)
}

/// Returns a process id as system calls take it.
pub(crate) fn pid(number: u32) -> Result<Pid> {
    i32::try_from(number).ok().and_then(Pid::from_raw).with_context(|| format!("{number} is no process id"))
}

/// Returns the children of all threads of a process.
pub(crate) fn children(pid: u32) -> Result<BTreeSet<u32>> {
    let mut children = BTreeSet::new();
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end while we look.
        let list = std::fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
        children.extend(list.split_ascii_whitespace().filter_map(|child| child.parse::<u32>().ok()));
    }
    Ok(children)
}

/// Returns the state and the parent of a process; `None` if it is gone.
pub(crate) fn state_and_parent(pid: u32) -> Option<(char, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn is_zombie(pid: u32) -> bool {
    state_and_parent(pid).is_some_and(|(state, _)| state == 'Z')
}

fn status_kib(folder: &Path, name: &str) -> Result<u64> {
    let status = std::fs::read_to_string(folder.join("status"))?;
    let amount = status.lines().find_map(|line| line.strip_prefix(name));
    amount.and_then(|amount| amount.split_ascii_whitespace().next()?.parse().ok()).context("no such line")
}

/// Returns the processes whose working directory is this folder: all descendants of a server that was started there,
/// with whatever environment, session and parent. Zombies have no directory.
pub(crate) fn processes_of(directory: &Path) -> Result<Vec<u32>> {
    let directory = directory.canonicalize()?;
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        let Some(pid) = path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()) else { continue };
        if std::fs::read_link(path.join("cwd")).is_ok_and(|place| place == directory) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Waits until a condition holds.
pub(crate) async fn wait_until(what: &str, mut is_so: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is_so().await? {
        if tokio::time::Instant::now() > deadline {
            bail!("waited in vain until {what}");
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}
