//! Checks that the committed code matches the .proto files. The compiler (`protox`) is written in
//! Rust, so no `protoc` is needed. With `SYSTIR_REGENERATE=1` the test writes the code instead.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Only code under the feature `grpc` uses tonic.
const GRPC_ONLY: &str = "#[cfg(feature = \"grpc\")]";

#[test]
fn the_committed_code_matches_the_proto_files() -> Outcome<()> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = package.join("src/generated");
    let generated = generate(package)?;
    if std::env::var_os("SYSTIR_REGENERATE").is_some() {
        return write(&committed, &generated);
    }
    let found = files(&committed, "rs")?;
    let fresh = found.len() == generated.len()
        && found.iter().all(|path| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            name.and_then(|name| generated.get(&name))
                .is_some_and(|text| fs::read(path).is_ok_and(|old| old == *text))
        });
    assert!(fresh, "proto/src/generated does not match proto/systir: run `make proto` and commit the result");
    Ok(())
}

/// Names and contents of the generated files.
fn generate(package: &Path) -> Outcome<BTreeMap<String, Vec<u8>>> {
    let proto_files = files(&package.join("systir"), "proto")?;
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("generated");
    if out.exists() {
        fs::remove_dir_all(&out)?;
    }
    fs::create_dir_all(&out)?;
    tonic_prost_build::configure()
        .bytes(".")
        .client_mod_attribute(".", GRPC_ONLY)
        .server_mod_attribute(".", GRPC_ONLY)
        .emit_rerun_if_changed(false)
        .out_dir(&out)
        .compile_fds(protox::compile(proto_files, [package])?)?;
    let mut generated = BTreeMap::new();
    for path in files(&out, "rs")? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        generated.insert(name, fs::read(path)?);
    }
    Ok(generated)
}

fn write(folder: &Path, generated: &BTreeMap<String, Vec<u8>>) -> Outcome<()> {
    fs::create_dir_all(folder)?;
    for old in files(folder, "rs")? {
        fs::remove_file(old)?;
    }
    for (name, text) in generated {
        fs::write(folder.join(name), text)?;
    }
    Ok(())
}

/// All files with that extension under a folder, sorted.
fn files(folder: &Path, extension: &str) -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path, extension)?);
        } else if path.extension().is_some_and(|end| end == extension) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
