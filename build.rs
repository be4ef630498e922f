//! Compiles `proto/` with protox: a fresh machine needs no protoc.
//!
//! Two descriptor sets come out of one compilation. The served one is what the `.proto` files say. The one for code
//! generation says `bytes` wherever a `ListValue`, `BlobList`, `Value` or `Struct` of user data stands: both have the
//! same shape on the wire, and so the server gets items as one slice of the request and never decodes them. It also has
//! the padding of results, which no client should see.

use std::error::Error;
use std::path::PathBuf;

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::source_code_info::Location;
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet};

/// Message types that carry user data, opaque to everything but the ends.
const OPAQUE_TYPES: [&str; 4] =
    [".google.protobuf.ListValue", ".google.protobuf.Value", ".google.protobuf.Struct", ".procpool.v1.BlobList"];

/// The messages that the server fills up, with a field that the `.proto` files reserve: only it must know of it.
const PADDED_MESSAGES: [&str; 2] = ["IMapResponse", "IMapStreamResponse"];
const PADDING_FIELD: i32 = 15;

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
            add_padding(file);
        }
    }
    tonic_prost_build::configure()
        .bytes(".procpool")
        .codec_path("crate::codec::LeanCodec")
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

/// Adds the padding to the messages that have it.
fn add_padding(file: &mut FileDescriptorProto) {
    let padded =
        file.message_type.iter_mut().enumerate().filter(|(_, message)| PADDED_MESSAGES.contains(&message.name()));
    for (index, message) in padded {
        let mut padding = FieldDescriptorProto {
            name: Some("padding".to_owned()),
            json_name: Some("padding".to_owned()),
            number: Some(PADDING_FIELD),
            ..FieldDescriptorProto::default()
        };
        padding.set_type(Type::Bytes);
        padding.set_label(Label::Optional);
        // The generator wants to know where a field stands: the second field (`field`) of the fourth (`message_type`).
        let field = message.field.len();
        let path = [4, index, 2, field].into_iter().filter_map(|step| i32::try_from(step).ok()).collect();
        let comment = Some(" Fills a short message; of no meaning.".to_owned());
        let location = Location { path, span: vec![0, 0, 0], leading_comments: comment, ..Location::default() };
        file.source_code_info.get_or_insert_default().location.push(location);
        message.reserved_range.clear();
        message.field.push(padding);
    }
}
