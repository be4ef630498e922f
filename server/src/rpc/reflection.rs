//! Server reflection, v1 and v1alpha: lets clients call without a `.proto` file, and print the details of errors.

use tonic_reflection::server::Builder;

use super::router::{SideService, side_service};

/// Returns both versions of the reflection service.
pub(super) fn services() -> [SideService; 2] {
    let builder = || {
        Builder::configure()
            .register_encoded_file_descriptor_set(procpool_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let v1 = builder().build_v1().expect("the descriptors were made by the build");
    let v1alpha = builder().build_v1alpha().expect("the descriptors were made by the build");
    [side_service(v1), side_service(v1alpha)]
}
