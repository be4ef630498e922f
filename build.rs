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
use tonic_prost_build::Builder;

/// Message types that carry user data, opaque to everything but the ends.
const OPAQUE_TYPES: [&str; 4] =
    [".google.protobuf.ListValue", ".google.protobuf.Value", ".google.protobuf.Struct", ".procpool.v1.BlobList"];

/// The messages that the server fills up, with a field that the `.proto` files reserve: only it must know of it.
const PADDED_MESSAGES: [&str; 2] = ["IMapResponse", "IMapStreamResponse"];
const PADDING_FIELD: i32 = 15;

/// The limit for which 0 stands for none: in JSON it is null.
const ZERO_IS_NONE: &str = ".procpool.v1.PoolLimits.max_items_per_worker";

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
    let mut builder = tonic_prost_build::configure();
    for file in opaque.file.iter().filter(|file| file.package() == "procpool.v1") {
        builder = derive_serialize(builder, file);
    }
    builder
        .bytes(".procpool")
        .codec_path("crate::codec::LeanCodec")
        .client_mod_attribute(".", "#[cfg(feature = \"grpc\")]")
        .server_mod_attribute(".", "#[cfg(feature = \"grpc\")]")
        .compile_fds(opaque)?;
    Ok(())
}

/// Derives `Serialize` for what answers tell of functions and pools, so that their JSON has every field.
fn derive_serialize(mut builder: Builder, file: &FileDescriptorProto) -> Builder {
    const DERIVE: &str = r#"#[cfg_attr(feature = "serde", derive(serde::Serialize))]"#;
    let with = |what: &str| format!(r#"#[cfg_attr(feature = "serde", serde({what}))]"#);
    for an_enum in &file.enum_type {
        let name = format!(".{}.{}", file.package(), an_enum.name());
        let unspecified = format!("{name}.{}", an_enum.value[0].name());
        builder = builder
            .enum_attribute(&name, DERIVE)
            .enum_attribute(&name, with(r#"rename_all = "snake_case""#))
            .field_attribute(unspecified, with(r#"rename = "unknown""#));
    }
    let is_of_admin = file.name().ends_with("pool_admin.proto");
    let has_json = |message: &&DescriptorProto| {
        let is_content = !["Request", "Response"].iter().any(|end| message.name().ends_with(end));
        message.name() == "Function" || is_of_admin && is_content
    };
    for message in file.message_type.iter().filter(has_json) {
        let name = format!(".{}.{}", file.package(), message.name());
        builder = builder.message_attribute(&name, DERIVE);
        for field in &message.field {
            let path = format!("{name}.{}", field.name());
            let attribute = match (field.r#type(), field.type_name().rsplit('.').next().unwrap_or_default()) {
                (Type::Enum, an_enum) => format!(r#"serialize_with = "crate::json::word::<{an_enum}, _>""#),
                (Type::Message, "Duration") => {
                    let quantity = field.name().trim_end_matches("_time");
                    format!(r#"rename = "{quantity}_seconds", serialize_with = "crate::json::seconds""#)
                }
                _ if path == ZERO_IS_NONE => r#"serialize_with = "crate::json::zero_as_null""#.to_owned(),
                _ => continue,
            };
            builder = builder.field_attribute(path, with(&attribute));
        }
    }
    builder
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
