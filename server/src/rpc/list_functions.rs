//! `ListFunctions`: what the workers registered, and what the server accepts.

use std::time::Duration;

use procpool_pool::{FunctionInfo, PoolConfig};
use procpool_proto::v1;

use super::pool_rpc::PoolRpc;

pub(super) fn list_functions(rpc: &PoolRpc) -> v1::ListFunctionsResponse {
    let configs = || rpc.pools.iter().map(|pool| pool.handle.config());
    let limits = v1::Limits {
        max_message_bytes: rpc.max_message_bytes,
        max_queued_items: sum(configs().map(|config| config.max_queued_items)),
        num_slots: sum(rpc.pools.iter().map(|pool| pool.handle.num_slots())),
        default_item_timeout: longest_item_timeout(configs()).and_then(|timeout| timeout.try_into().ok()),
    };
    let functions: Vec<v1::Function> =
        rpc.pools.functions().into_iter().map(|(pool, info)| function(pool, info)).collect();
    tracing::debug!(rpc = "ListFunctions", items = functions.len(), outcome = "ok", "call finished");
    let pools = rpc.pools.iter().map(|pool| pool.name.clone()).collect();
    v1::ListFunctionsResponse { functions, limits: Some(limits), pools }
}

fn sum(counts: impl Iterator<Item = u32>) -> u32 {
    counts.fold(0, u32::saturating_add)
}

/// Returns the longest limit, or `None` if a pool has none.
fn longest_item_timeout<'a>(configs: impl Iterator<Item = &'a PoolConfig>) -> Option<Duration> {
    let timeouts: Option<Vec<Duration>> = configs.map(|config| config.item_timeout).collect();
    timeouts?.into_iter().max()
}

fn function(pool: &str, info: FunctionInfo) -> v1::Function {
    let FunctionInfo { name, signature, doc, example, idempotent, takes_common: _ } = info;
    v1::Function { name, signature, doc, example, idempotent, pool: pool.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn the_limits_of_several_pools_hold_for_each() {
        assert_eq!(sum([3, 4].into_iter()), 7);
        assert_eq!(sum([u32::MAX, 4].into_iter()), u32::MAX);
        let with = |seconds: Option<u64>| PoolConfig {
            item_timeout: seconds.map(Duration::from_secs),
            ..PoolConfig::new(NonZeroU32::MIN)
        };
        assert_eq!(longest_item_timeout([with(Some(1)), with(Some(2))].iter()), Some(Duration::from_secs(2)));
        assert_eq!(longest_item_timeout([with(Some(1)), with(None)].iter()), None);
    }
}
