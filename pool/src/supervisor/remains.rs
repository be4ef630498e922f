//! What is left of a server that was killed: the descendants of its workers.
//!
//! The workers themselves die with their server, by the kernel's hand. What they have started does not, and nobody is left
//! who would look after it. Whose a process is says its environment; one that has emptied it is not found.

use std::collections::HashSet;
use std::io;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal};

use super::reaper::{SERVER_ID_VARIABLE, is_pool_of, variable};

/// How long what is left may go on to start something new.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The pause before the last look, in which the last that was killed dies, and what it was just starting shows.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Kills what is left of a server that is gone, until nothing is. Waits; returns how many processes it has killed.
///
/// # Errors
///
/// If the processes of this machine cannot be listed.
pub fn kill_remains(server_id: &str) -> io::Result<usize> {
    let deadline = Instant::now() + TIMEOUT;
    let mut killed = HashSet::new();
    let mut num_empty_looks = 0;
    while num_empty_looks < 2 && Instant::now() < deadline {
        let mut found = false;
        for entry in std::fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let pid = name.to_str().and_then(|name| Pid::from_raw(name.parse().ok()?));
            if let Some(pid) = pid.filter(|&pid| kill_if_of(pid, server_id)) {
                killed.insert(pid);
                found = true;
            }
        }
        if !found {
            num_empty_looks += 1;
            std::thread::sleep(LOOK_INTERVAL);
        }
    }
    Ok(killed.len())
}

/// Tells whether it was one, and alive.
fn kill_if_of(pid: Pid, server_id: &str) -> bool {
    // Before the look at its environment: the number may be somebody else's after it, the descriptor never.
    let Ok(process) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return false };
    // The dead have none.
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let is_one = variable(&environment, SERVER_ID_VARIABLE).is_some_and(|pool| is_pool_of(pool, server_id));
    is_one && rustix::process::pidfd_send_signal(process, Signal::KILL).is_ok()
}
