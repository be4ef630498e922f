//! Which functions the pool has: those of the workers that are ready.
//!
//! Workers of one pool need not be alike: where the code on disk has changed, those that start later know other functions.

use std::sync::Arc;

use procpool_scheduler::{Event, WorkerId, WorkerState};
use tracing::{debug, info};

use super::Driver;
use crate::call::FunctionInfo;
use crate::handle::FunctionTable;

impl Driver {
    /// A worker has told its functions. They count when it is ready.
    pub(super) fn greet(&mut self, worker: WorkerId, pid: u32, sdk: &str, functions: Vec<FunctionInfo>) {
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
    pub(super) fn welcome(&mut self, worker: WorkerId) {
        let Some(link) = self.workers.get_mut(&worker) else { return };
        link.is_ready = true;
        let pid = link.pid;
        info!(worker = worker.generation, slot = worker.slot.0, pid, "worker is ready");
        // Before anybody hears that the pool is ready.
        self.publish_functions();
        self.worker_changed(worker, pid, WorkerState::Ready, String::new);
        self.apply_plain(Event::WorkerReady { worker });
    }

    /// Publishes the functions of the workers that are ready. What several have is told as the youngest does. While none
    /// is ready, what there was is taken to come back.
    pub(super) fn publish_functions(&self) {
        let mut tables: Vec<(u64, &Arc<FunctionTable>)> = self
            .workers
            .iter()
            .filter(|(_, link)| link.is_ready)
            .map(|(worker, link)| (worker.generation, &link.functions))
            .collect();
        tables.sort_unstable_by_key(|&(generation, _)| std::cmp::Reverse(generation));
        let Some((&(_, youngest), older)) = tables.split_first() else { return };
        let mut union = Arc::clone(youngest);
        for (_, table) in older.iter().filter(|(_, table)| !Arc::ptr_eq(table, youngest)) {
            for (name, function) in table.iter().filter(|(name, _)| !youngest.contains_key(*name)) {
                Arc::make_mut(&mut union).entry(name.clone()).or_insert_with(|| function.clone());
            }
        }
        self.publisher.functions.send_if_modified(|published| {
            let is_new = *published != union;
            if is_new {
                *published = union;
            }
            is_new
        });
    }
}
