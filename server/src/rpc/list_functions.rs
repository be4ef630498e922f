//! `ListFunctions`: what the workers registered, and what the server accepts.

use procpool_pool::FunctionInfo;
use procpool_proto::v1;

use super::PoolRpc;

pub(super) fn list_functions(rpc: &PoolRpc) -> v1::ListFunctionsResponse {
    let config = rpc.pool.config();
    let limits = v1::Limits {
        max_message_bytes: rpc.max_message_bytes,
        max_queued_items: config.max_queued_items,
        num_slots: config.processes.get(),
        default_item_timeout: config.item_timeout.and_then(|timeout| timeout.try_into().ok()),
    };
    let functions: Vec<v1::Function> = rpc.pool.functions().into_iter().map(function).collect();
    tracing::debug!(rpc = "ListFunctions", items = functions.len(), outcome = "ok", "call finished");
    v1::ListFunctionsResponse { functions, limits: Some(limits) }
}

fn function(info: FunctionInfo) -> v1::Function {
    let FunctionInfo { name, signature, doc, example, idempotent, takes_common: _ } = info;
    v1::Function { name, signature, doc, example, idempotent }
}
