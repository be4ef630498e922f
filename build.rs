//! Compiles `proto/` with protox: a fresh machine needs no protoc.
//!
//! Two descriptor sets come out of one compilation. The served one is what the `.proto` files say. The one for code
//! generation says `bytes` wherever a `ListValue`, `BlobList`, `Value` or `Struct` of user data stands: both have the
//! same shape on the wire, and so the server gets items as one slice of the request and never decodes them.

use std::error::Error;
use std::path::PathBuf;

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FileDescriptorSet};

/// Message types that carry user data, opaque to everything but the ends.
const OPAQUE_TYPES: [&str; 4] =
    [".google.protobuf.ListValue", ".google.protobuf.Value", ".google.protobuf.Struct", ".procpool.v1.BlobList"];

fn main() -> Result<(), Box<dyn Error>> {
    // `compile_fds` prints no rerun lines of its own.
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed=build.rs");

    #[expect(clippy::disallowed_methods, reason = "this is how cargo talks to a build script")]
    let out_dir = PathBuf::from(std::env::var("OUT_DIR")?);
    let served = protox::compile(
        [
            "procpool/v1/pool.proto",
            "procpool/v1/pool_admin.proto",
            "procpool/worker/v1/worker.proto",
            "google/rpc/status.proto",
            "google/rpc/error_details.proto",
        ],
        ["proto"],
    )?;
    let public = FileDescriptorSet {
        file: served.file.iter().filter(|file| file.package() != "procpool.worker.v1").cloned().collect(),
    };
    std::fs::write(out_dir.join("procpool_descriptor.bin"), public.encode_to_vec())?;

    let mut opaque = served;
    for file in &mut opaque.file {
        if file.package().starts_with("procpool.") {
            file.message_type.iter_mut().for_each(make_user_data_opaque);
        }
    }
    tonic_prost_build::configure()
        .bytes(".procpool")
        .client_mod_attribute(".", "#[cfg(feature = \"grpc\")]")
        .server_mod_attribute(".", "#[cfg(feature = \"grpc\")]")
        .compile_fds(opaque)?;
    Ok(())
}

fn make_user_data_opaque(message: &mut DescriptorProto) {
    for field in &mut message.field {
        let is_opaque = field.r#type() == Type::Message && OPAQUE_TYPES.contains(&field.type_name());
        if is_opaque && field.label() != Label::Repeated {
            field.set_type(Type::Bytes);
            field.type_name = None;
        }
    }
    message.nested_type.iter_mut().for_each(make_user_data_opaque);
}
