//! How the scheduler answers workers that do not start, slots where every worker dies, items that kill, and hangs that
//! nobody waits for. The simulation looks for what nobody thought of; this tells the story of each.

#![expect(clippy::unwrap_used, reason = "a broken world fails the test")]

mod jobs;
mod retries;
mod returns;
mod slots;
mod starts;
mod world;
