//! Compiles the protocol descriptions with a compiler in Rust: no system protoc is needed.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let files = ["systir/cluster/v1/cluster.proto", "systir/admin/v1/admin.proto"];
    let descriptors = protox::compile(files, ["."])?;
    tonic_prost_build::configure()
        .bytes(".")
        .emit_rerun_if_changed(false)
        .type_attribute(".systir.admin.v1", "#[derive(serde::Serialize, serde::Deserialize)]")
        .message_attribute(".systir.admin.v1", "#[serde(default)]")
        .compile_fds(descriptors)?;
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    Ok(())
}
