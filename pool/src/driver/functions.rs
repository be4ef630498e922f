//! Which functions the pool has: those of the workers that are ready.
//!
//! Workers of one pool need not be alike: where the code on disk has changed, those that start later know other functions.
//! Which of them runs what is the scheduler's business, which knows functions by number.

use std::collections::BTreeSet;
use std::sync::Arc;

use procpool_scheduler::{Event, FunctionId, WorkerId};
use tracing::{debug, info};

use super::Driver;
use super::report::Happening;
use crate::function::{FunctionInfo, FunctionTable};

impl Driver {
    /// Registers the functions of a worker. They count when it is ready.
    pub(super) fn register(&mut self, worker: WorkerId, pid: u32, sdk: &str, functions: Vec<FunctionInfo>) {
        let table: FunctionTable = functions.into_iter().map(|function| (function.name.clone(), function)).collect();
        // Mostly all workers are alike, and one table will do.
        let known = self.workers.values().map(|link| &link.functions).find(|known| ***known == table).cloned();
        let Some(link) = self.workers.get_mut(&worker) else { return };
        link.pid = pid;
        link.functions = known.unwrap_or_else(|| Arc::new(table));
        let (worker_id, slot, functions) = (worker.generation, worker.slot.0, link.functions.len());
        debug!(worker = worker_id, slot, pid, sdk, functions, "worker said hello");
    }

    /// A worker can take chunks.
    pub(super) fn worker_ready(&mut self, worker: WorkerId) {
        let Some(link) = self.workers.get_mut(&worker) else { return };
        link.is_ready = true;
        self.is_short = false;
        let (pid, table) = (link.pid, Arc::clone(&link.functions));
        info!(worker = worker.generation, slot = worker.slot.0, pid, "worker is ready");
        // Whoever hears that the pool is ready finds them there.
        self.publish_functions();
        self.reporter.report(&Happening::WorkerReady { worker, pid });
        let functions = table.keys().map(|name| self.function_id(name)).collect();
        self.apply_plain(Event::WorkerReady { worker, functions });
        self.publish_functions();
    }

    /// Returns the number of a function.
    pub(super) fn function_id(&mut self, name: &str) -> FunctionId {
        if let Some(&known) = self.function_ids.get(name) {
            return known;
        }
        let new = FunctionId(self.next_function);
        self.next_function = self.next_function.checked_add(1).expect("no pool lives for so long");
        self.function_ids.insert(name.into(), new);
        new
    }

    /// Publishes the functions of the workers that are ready, and those that a worker is expected to bring back which is
    /// being started. What several have is told as the youngest does, but that it takes common arguments only if it does
    /// everywhere.
    pub(super) fn publish_functions(&mut self) {
        let mut tables: Vec<(u64, &Arc<FunctionTable>)> = self
            .workers
            .iter()
            .filter(|(_, link)| link.is_ready)
            .map(|(worker, link)| (worker.generation, &link.functions))
            .collect();
        tables.sort_unstable_by_key(|&(generation, _)| std::cmp::Reverse(generation));
        // While no worker is ready, keep advertising the last known functions.
        let Some((&(_, youngest), older)) = tables.split_first() else { return };
        let published = Arc::clone(&self.publisher.functions.borrow());
        let mut union = Arc::clone(youngest);
        for (_, table) in older.iter().filter(|(_, table)| !Arc::ptr_eq(table, youngest)) {
            let union = Arc::make_mut(&mut union);
            for (name, function) in &***table {
                let known = union.entry(name.clone()).or_insert_with(|| function.clone());
                known.takes_common &= function.takes_common;
            }
        }
        let is_expected = |name: &str| self.function_ids.get(name).is_some_and(|&id| self.state.may_have(id));
        let expected = published.iter().filter(|(name, _)| !union.contains_key(*name) && is_expected(name));
        let expected: Vec<(String, FunctionInfo)> = expected.map(|(name, info)| (name.clone(), info.clone())).collect();
        if !expected.is_empty() {
            Arc::make_mut(&mut union).extend(expected);
        }
        if *published != *union {
            self.publisher.functions.send_replace(union);
            self.forget_functions();
        }
    }

    /// Forgets the numbers of functions that no worker and no job has any more: there may be new names with every version
    /// of the code.
    fn forget_functions(&mut self) {
        let published = Arc::clone(&self.publisher.functions.borrow());
        let of_jobs: BTreeSet<&str> = self.jobs.values().map(|job| &*job.payload.header.function).collect();
        let workers = &self.workers;
        self.function_ids.retain(|name, _| {
            let is_known = |table: &FunctionTable| table.contains_key(&**name);
            is_known(&published) || of_jobs.contains(&**name) || workers.values().any(|link| is_known(&link.functions))
        });
    }
}
