//! Server reflection, v1 and v1alpha: lets clients call without a `.proto` file, and print the details of errors.

use tonic::server::NamedService;
use tonic_reflection::server::Builder;

use super::body::RequestBody;
use crate::listener::HttpService;

const DESCRIPTORS: &str = "the descriptors were made by the build";

fn builder() -> Builder<'static> {
    Builder::configure()
        .register_encoded_file_descriptor_set(procpool_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// Returns the service.
pub(super) fn v1() -> impl HttpService<RequestBody> + NamedService {
    builder().build_v1().expect(DESCRIPTORS)
}

/// Returns the service of clients that have not heard of v1.
pub(super) fn v1alpha() -> impl HttpService<RequestBody> + NamedService {
    builder().build_v1alpha().expect(DESCRIPTORS)
}
