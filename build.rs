//! Compiles `proto/wharf/v1/*.proto` into messages, clients, servers, the descriptor set and the
//! method table. protox parses the files, so no `protoc` is needed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, error::Error, fs};

use prost::Message as _;
use prost_types::method_options::IdempotencyLevel;
use prost_types::{FileDescriptorSet, MethodDescriptorProto};

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut files = fs::read_dir("proto/wharf/v1")?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()?;
    files.sort();
    println!("cargo:rerun-if-changed=proto");

    let descriptors = protox::compile(&files, ["proto"])?;
    fs::write(out.join("wharf.v1.bin"), descriptors.encode_to_vec())?;
    write_methods(&out.join("methods.rs"), &descriptors)?;

    // Ordered maps make the encoding of a request a function of its value, which idempotency keys
    // rely on; boxed arms keep a oneof as small as its usual arm.
    let mut config = tonic_prost_build::Config::new();
    config.bytes(["."]).btree_map(["."]);
    tonic_prost_build::configure()
        .boxed(".wharf.v1.WatchEventsResponse.response.event")
        .boxed(".wharf.v1.WatchEventsResponse.response.initial_container")
        .boxed(".wharf.v1.WatchEventsResponse.response.initial_exec")
        .boxed(".wharf.v1.RunContainerRequest.request.start")
        .boxed(".wharf.v1.RunContainerResponse.response.created")
        .boxed(".wharf.v1.RunExecRequest.request.start")
        .skip_debug([
            "wharf.v1.RegistryAuth",
            "wharf.v1.RegistryAuth.credentials",
            "wharf.v1.BasicAuth",
        ])
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}

/// Writes one table row per RPC, so that what the protos say of a method is said nowhere else.
fn write_methods(path: &Path, descriptors: &FileDescriptorSet) -> Result<(), Box<dyn Error>> {
    let mut rows = String::from("&[\n");
    for file in descriptors
        .file
        .iter()
        .filter(|file| file.package() == "wharf.v1")
    {
        for service in &file.service {
            for method in &service.method {
                writeln!(
                    rows,
                    "    Method {{ path: \"/wharf.v1.{service}/{method}\", service: \"wharf.v1.{service}\", name: \"{method}\", \
                     client_streaming: {client}, server_streaming: {server}, idempotency: Idempotency::{level} }},",
                    service = service.name(),
                    method = method.name(),
                    client = method.client_streaming(),
                    server = method.server_streaming(),
                    level = idempotency(method),
                )?;
            }
        }
    }
    rows.push_str("]\n");
    fs::write(path, rows)?;
    Ok(())
}

fn idempotency(method: &MethodDescriptorProto) -> &'static str {
    match method
        .options
        .as_ref()
        .map(|options| options.idempotency_level())
    {
        Some(IdempotencyLevel::NoSideEffects) => "NoSideEffects",
        Some(IdempotencyLevel::Idempotent) => "Idempotent",
        Some(IdempotencyLevel::IdempotencyUnknown) | None => "Unknown",
    }
}
