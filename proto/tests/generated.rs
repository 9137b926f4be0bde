//! The committed code is what the compiler makes of the protocol descriptions today. The compiler is
//! written in Rust: no `protoc` is needed. With `SYSTIR_REGENERATE=1` the code is written instead.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Only code with the feature `grpc` talks to tonic.
const GRPC_ONLY: &str = "#[cfg(feature = \"grpc\")]";

#[test]
fn the_committed_code_is_what_the_descriptions_say() -> Outcome<()> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = package.join("src/generated");
    let made = generate(package)?;
    if std::env::var_os("SYSTIR_REGENERATE").is_some() {
        return write(&committed, &made);
    }
    let found = files(&committed, "rs")?;
    let fresh = found.len() == made.len()
        && found.iter().all(|path| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            name.and_then(|name| made.get(&name))
                .is_some_and(|text| fs::read(path).is_ok_and(|old| old == *text))
        });
    assert!(fresh, "proto/src/generated does not fit proto/systir: run `make proto` and commit the result");
    Ok(())
}

/// File names and contents that the compiler makes.
fn generate(package: &Path) -> Outcome<BTreeMap<String, Vec<u8>>> {
    let descriptions = files(&package.join("systir"), "proto")?;
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
        .compile_fds(protox::compile(descriptions, [package])?)?;
    let mut made = BTreeMap::new();
    for path in files(&out, "rs")? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        made.insert(name, fs::read(path)?);
    }
    Ok(made)
}

fn write(folder: &Path, made: &BTreeMap<String, Vec<u8>>) -> Outcome<()> {
    fs::create_dir_all(folder)?;
    for old in files(folder, "rs")? {
        fs::remove_file(old)?;
    }
    for (name, text) in made {
        fs::write(folder.join(name), text)?;
    }
    Ok(())
}

/// All files with that extension under a folder, in order.
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
