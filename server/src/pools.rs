//! The pools of a server, by name, and which of them runs a function: the one whose workers registered it.
//!
//! A call for a function that nobody has registered waits for the pools that have not started yet, and counts among the
//! requests that are being received as long as it does: which pool's it is is not known. Of two pools that
//! register the same name, the earlier keeps it. While the server starts, that is an error that ends it; later, when
//! new workers bring it about, it is logged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::select_all;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use procpool_items::ItemSlab;
use procpool_pool::supervisor::WorkerSpawner;
use procpool_pool::{
    Apply, ApplyOutput, Call, CallError, FunctionInfo, FunctionTable, ItemSink, JobNumbers, MapOutput, PoolConfig,
    PoolHandle, PoolObserver, PoolTask, Readiness, ResultStream, StreamOptions, nearest_names,
};
use tokio::sync::watch;

use crate::byte_budget::ByteBudget;

/// When a call that could not wait may be made again.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// A pool to start: its name, its settings, and what starts its workers.
pub struct NamedPool {
    /// Tells it from the others of a server: in logs, in `ListFunctions`, in health checks.
    pub name: String,
    /// How it is kept and fed.
    pub config: PoolConfig,
    /// What starts its workers.
    pub spawner: Arc<dyn WorkerSpawner>,
    /// What its workers know it by, unique among the servers that they can call: a call that bears it in the header
    /// `procpool-caller-pool` comes from an item of this pool. Empty: nobody knows.
    pub caller_id: String,
}

impl NamedPool {
    /// Returns a pool with this name.
    pub fn new(name: impl Into<String>, config: PoolConfig, spawner: Arc<dyn WorkerSpawner>) -> Self {
        Self { name: name.into(), config, spawner, caller_id: String::new() }
    }
}

impl std::fmt::Debug for NamedPool {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("NamedPool")
            .field("name", &self.name)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Two pools register the same function.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error(
    "the pools {first:?} and {second:?} both register the function {function:?}: rename it in one of them, or leave it out"
)]
pub struct DuplicateFunction {
    /// The name of the function.
    pub function: String,
    /// One pool; of those of a running server, the one that registered it first and runs it.
    pub first: String,
    /// The other.
    pub second: String,
}

/// The running pools. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Pools {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// At least one.
    pools: Vec<Pool>,
    routes: Mutex<Routes>,
    /// What calls may hold that wait for a pool.
    requests: Arc<ByteBudget>,
}

/// A running pool and its name.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    pub(crate) name: String,
    caller_id: String,
    pub(crate) handle: PoolHandle,
}

impl Pools {
    /// Starts the pools; the caller joins their tasks. `requests` bounds what calls hold that wait for a pool;
    /// `observer` makes the observer of the pool with this name, if it is to have one.
    pub(crate) fn start(
        pools: Vec<NamedPool>,
        requests: Arc<ByteBudget>,
        observer: impl Fn(&str) -> Option<Arc<dyn PoolObserver>>,
    ) -> (Self, Vec<PoolTask>) {
        let is_alone = pools.len() == 1;
        // Each job has a number of its own in the server, so that who cancels one need not name its pool.
        let job_numbers = JobNumbers::default();
        let started = pools.into_iter().map(|NamedPool { name, config, spawner, caller_id }| {
            // Where there is but one, log lines need not say which.
            let span = if is_alone { tracing::Span::none() } else { tracing::error_span!("pool", pool = name) };
            let (handle, task) =
                span.in_scope(|| PoolHandle::start_observed(config, spawner, observer(&name), job_numbers.clone()));
            (Pool { name, caller_id, handle }, task)
        });
        let (pools, tasks): (Vec<Pool>, Vec<PoolTask>) = started.unzip();
        let tables = pools.iter().map(|pool| pool.handle.function_table()).collect();
        let routes = Mutex::new(Routes { tables, ..Routes::default() });
        (Self { shared: Arc::new(Shared { pools, routes, requests }) }, tasks)
    }

    /// Returns the pools in the order in which they were given.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Pool> {
        self.shared.pools.iter()
    }

    /// Tells whether a pool must be named to be known.
    pub(crate) fn are_several(&self) -> bool {
        self.shared.pools.len() > 1
    }

    /// Returns the pool of this name, or the only one for an empty name.
    pub(crate) fn named(&self, name: &str) -> Option<&Pool> {
        match &self.shared.pools[..] {
            [only] if name.is_empty() => Some(only),
            pools => pools.iter().find(|pool| pool.name == name),
        }
    }

    /// Has all of them finish what they have and take nothing new.
    pub(crate) fn drain(&self) {
        self.iter().for_each(|pool| pool.handle.drain());
    }

    /// Has all of them give up what is left.
    pub(crate) fn stop_now(&self) {
        self.iter().for_each(|pool| pool.handle.stop_now());
    }

    /// Waits until each of them has been seen in such a state, or is gone.
    pub(crate) async fn all_reached(&self, is_reached: fn(Readiness) -> bool) {
        for pool in self.iter() {
            // Either the pool says so, or nobody is left to say anything.
            let _ = pool.handle.readiness().wait_for(|readiness| is_reached(*readiness)).await;
        }
    }

    /// [`PoolHandle::map`] of the pool that has the function.
    pub(crate) async fn map(&self, call: Call, items: ItemSlab) -> Result<MapOutput, CallError> {
        if items.is_empty() {
            return Ok(MapOutput::default());
        }
        self.find(&call, items.bytes().len()).await?.map(call, items).await
    }

    /// [`PoolHandle::apply`] of the pool that has the function.
    pub(crate) async fn apply(&self, call: Call, arguments: Apply) -> Result<ApplyOutput, CallError> {
        let num_bytes = arguments.args.bytes().len() + arguments.kwargs.len();
        self.find(&call, num_bytes).await?.apply(call, arguments).await
    }

    /// [`PoolHandle::imap`] of the pool that has the function.
    pub(crate) async fn imap(
        &self,
        call: Call,
        items: ItemSlab,
        options: StreamOptions,
    ) -> Result<ResultStream, CallError> {
        // Any pool answers the empty list at once.
        let pool =
            if items.is_empty() { &self.shared.pools[0].handle } else { self.find(&call, items.bytes().len()).await? };
        pool.imap(call, items, options).await
    }

    /// [`PoolHandle::imap_stream`] of the pool that has the function.
    pub(crate) async fn imap_stream(
        &self,
        call: Call,
        options: StreamOptions,
    ) -> Result<(ItemSink, ResultStream), CallError> {
        // The first message is a part of a request that is still being received, and counts as such.
        self.find(&call, 0).await?.imap_stream(call, options).await
    }

    /// Returns every function that can be called, by name, each with the name of its pool.
    pub(crate) fn functions(&self) -> Vec<(&str, FunctionInfo)> {
        let routes = self.routes();
        let functions = routes.owners.iter().filter_map(|(function, &owner)| {
            let info = routes.tables[owner].borrow().get(function).cloned()?;
            Some((self.shared.pools[owner].name.as_str(), info))
        });
        functions.collect()
    }

    /// Returns the pool that would run a function, if it is the one that an item runs in which bears this header.
    pub(crate) fn own_pool(&self, function: &str, caller_id: &str) -> Option<&Pool> {
        let owner = match &self.shared.pools[..] {
            [only] => Some(only),
            pools => self.routes().owners.get(function).map(|&owner| &pools[owner]),
        };
        owner.filter(|pool| !caller_id.is_empty() && pool.caller_id == caller_id)
    }

    /// Finds the pool of a function, and waits for pools that have not started yet while nobody has it. The call's items
    /// have so many bytes.
    async fn find(&self, call: &Call, num_bytes: usize) -> Result<&PoolHandle, CallError> {
        if let [only] = &self.shared.pools[..] {
            // It waits itself, and knows best what is wrong.
            return Ok(&only.handle);
        }
        if let Some(owner) = self.owner(&call.function) {
            return Ok(owner);
        }
        let common = call.common.as_ref().map_or(0, |common| common.bytes.len());
        let requests = &self.shared.requests;
        let _held = requests.try_hold((num_bytes + common) as u64).ok_or_else(|| CallError::QueueFull {
            what: "request bytes in flight",
            limit: requests.limit(),
            retry_after: RETRY_AFTER,
        })?;
        let mut starting: FuturesUnordered<_> =
            self.iter().map(|pool| async move { (pool, pool.handle.started(call.deadline).await) }).collect();
        let mut refusal = None;
        loop {
            if let Some(owner) = self.owner(&call.function) {
                return Ok(owner);
            }
            match starting.next().await {
                Some((_, Ok(()))) => {}
                Some((pool, Err(error))) => refusal = refusal.or_else(|| refusal_of(pool, error)),
                None => break,
            }
        }
        Err(refusal.unwrap_or_else(|| CallError::FunctionNotFound {
            name: call.function.clone(),
            nearest: nearest_names(self.routes().owners.keys(), &call.function),
            started: false,
        }))
    }

    fn owner(&self, function: &str) -> Option<&PoolHandle> {
        let owner = self.routes().owners.get(function).copied();
        owner.map(|owner| &self.shared.pools[owner].handle)
    }

    /// Returns what is known of functions now.
    fn routes(&self) -> MutexGuard<'_, Routes> {
        // Should a refresh panic, the next one starts from the tables again.
        let mut routes = self.shared.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.refresh();
        routes
    }

    /// Waits for two pools that register the same function while the server starts; logs those that do so later.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped, but must be called once.
    pub(crate) async fn duplicate_at_start(&self) -> DuplicateFunction {
        let mut tables: Vec<_> = self.iter().map(|pool| pool.handle.function_table()).collect();
        let mut readiness: Vec<_> = self.iter().map(|pool| pool.handle.readiness()).collect();
        let mut is_starting = true;
        loop {
            // In this order: a pool that has started has told its functions before.
            let will_be_starting = self.iter().any(|pool| pool.handle.is_starting());
            let clashes = std::mem::take(&mut self.routes().new_clashes);
            for Clash { function, owner, other } in clashes {
                // Which of them was faster to start says nothing.
                let (first, second) = if is_starting { (owner.min(other), owner.max(other)) } else { (owner, other) };
                let name_of = |pool: usize| self.shared.pools[pool].name.clone();
                let duplicate = DuplicateFunction { function, first: name_of(first), second: name_of(second) };
                if is_starting {
                    return duplicate;
                }
                let DuplicateFunction { function, first, second } = &duplicate;
                tracing::error!(function, pool = first, ignored_pool = second, "{duplicate}");
            }
            is_starting = will_be_starting;
            tokio::select! {
                () = any_changed(&mut tables) => {}
                () = any_changed(&mut readiness) => {}
            }
        }
    }
}

/// Waits until one of them changes. What is gone never does.
pub(crate) async fn any_changed<T: Send + Sync>(receivers: &mut [watch::Receiver<T>]) {
    let changes = receivers.iter_mut().map(|receiver| {
        let changed = async {
            if receiver.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        changed.boxed()
    });
    select_all(changes).await;
}

/// Returns why a pool may have kept an unknown function from being known; `None` if it has nothing to do with it.
fn refusal_of(pool: &Pool, error: CallError) -> Option<CallError> {
    match error {
        CallError::Degraded { .. } if !pool.handle.function_table().borrow().is_empty() => None,
        CallError::Degraded { reason, started, retry_after } => {
            let reason = format!("pool {:?}: {reason}", pool.name);
            Some(CallError::Degraded { reason, started, retry_after })
        }
        error => Some(error),
    }
}

/// Which pool runs which function. Pools are named by their places.
#[derive(Debug, Default)]
struct Routes {
    tables: Vec<watch::Receiver<Arc<FunctionTable>>>,
    owners: BTreeMap<String, usize>,
    clashes: BTreeSet<Clash>,
    /// Those that nobody was told of.
    new_clashes: Vec<Clash>,
}

/// A function of one pool that another has, too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Clash {
    function: String,
    owner: usize,
    other: usize,
}

impl Routes {
    /// Takes up what pools have published since the last time.
    fn refresh(&mut self) {
        // A pool that is gone publishes nothing more.
        let is_changed = self.tables.iter().any(|table| table.has_changed().unwrap_or(false));
        if !is_changed {
            return;
        }
        let tables: Vec<Arc<FunctionTable>> =
            self.tables.iter_mut().map(|table| table.borrow_and_update().clone()).collect();
        self.owners.retain(|function, owner| tables[*owner].contains_key(function));
        let mut clashes = BTreeSet::new();
        for (pool, table) in tables.iter().enumerate() {
            for function in table.keys() {
                let owner = *self.owners.entry(function.clone()).or_insert(pool);
                if owner != pool {
                    clashes.insert(Clash { function: function.clone(), owner, other: pool });
                }
            }
        }
        self.new_clashes.extend(clashes.difference(&self.clashes).cloned());
        self.clashes = clashes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(functions: &[&str]) -> Arc<FunctionTable> {
        let info = |name: &&str| FunctionInfo {
            name: (*name).to_owned(),
            signature: String::new(),
            doc: String::new(),
            example: String::new(),
            idempotent: false,
            takes_common: false,
        };
        Arc::new(functions.iter().map(|name| ((*name).to_owned(), info(name))).collect())
    }

    #[test]
    fn who_has_a_function_keeps_it_until_it_is_given_up() {
        let (first, first_table) = watch::channel(table(&[]));
        let (second, second_table) = watch::channel(table(&[]));
        let mut routes = Routes { tables: vec![first_table, second_table], ..Routes::default() };
        second.send_replace(table(&["a", "b"]));
        routes.refresh();
        assert_eq!(routes.owners, BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 1)]));
        assert!(routes.new_clashes.is_empty());

        first.send_replace(table(&["a", "c"]));
        routes.refresh();
        let clash = Clash { function: "a".to_owned(), owner: 1, other: 0 };
        assert_eq!(routes.owners["a"], 1, "the earlier one wins");
        assert_eq!(routes.owners["c"], 0);
        assert_eq!(std::mem::take(&mut routes.new_clashes), [clash]);

        first.send_replace(table(&["a", "c", "d"]));
        routes.refresh();
        assert!(routes.new_clashes.is_empty(), "it is told once");

        second.send_replace(table(&["b"]));
        routes.refresh();
        assert_eq!(routes.owners["a"], 0, "the other one has it still");
    }
}
