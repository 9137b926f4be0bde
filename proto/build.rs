//! Compiles the protocol descriptions with a compiler in Rust: no system protoc is needed.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let files = ["systir/cluster/v1/cluster.proto"];
    let descriptors = protox::compile(files, ["."])?;
    tonic_prost_build::configure().bytes(".").emit_rerun_if_changed(false).compile_fds(descriptors)?;
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    Ok(())
}
