//! Reading an error as a client does.

use procpool_proto::google::rpc;
use procpool_proto::google::rpc::ErrorInfo;
use prost::Message as _;
use tonic::Status;

/// Returns a detail of an error.
pub(crate) fn detail<M: prost::Message + Default>(status: &Status, name: &str) -> Option<M> {
    detail_of(&rpc::Status::decode(status.details()).unwrap(), name)
}

/// Returns a detail of the error of an item.
pub(crate) fn detail_of<M: prost::Message + Default>(status: &rpc::Status, name: &str) -> Option<M> {
    let package = if name == "ErrorData" { "procpool.v1" } else { "google.rpc" };
    let type_url = format!("type.googleapis.com/{package}.{name}");
    let any = status.details.iter().find(|any| any.type_url == type_url)?;
    Some(M::decode(any.value.as_slice()).unwrap())
}

/// Returns the reason of an error.
pub(crate) fn reason(status: &Status) -> String {
    let info: ErrorInfo = detail(status, "ErrorInfo").unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, "procpool");
    info.reason
}

/// Returns the names of the fields that an error complains of.
pub(crate) fn fields(status: &Status) -> Vec<String> {
    let request: rpc::BadRequest = detail(status, "BadRequest").unwrap();
    request.field_violations.into_iter().map(|violation| violation.field).collect()
}
