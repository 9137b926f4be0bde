//! `systir-relay check` as an operator types it: what is wrong, where, and status 64. A start with the
//! same file says the same.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use systir_identity::{TrustDomain, ca};
use tempfile::TempDir;

const CONFIG: &str = r#"
[node]
name = "cph-1"
cluster = "nordunet"
capacity = 4
[http]
listen = "127.0.0.1:0"
certificate = "door.pem"
key = "door.key"
[media]
listen = "127.0.0.1:0"
[links]
quic = "127.0.0.1:0"
grpc = "127.0.0.1:0"
certificate = "cph-1.pem"
key = "cph-1.key"
trust = { "nordu.net" = "ca.pem" }
[telemetry]
listen = "127.0.0.1:0"
[registry]
etcd = ["http://127.0.0.1:1"]
[policy]
nodes = "nodes.toml"
zones = "zones.toml"
floor = "floor.cedar"
[policy.institutions."ku.dk"]
file = "ku.dk.cedar"
version = 1
[keys.devkey]
institution = "ku.dk"
secret_file = "secret"
"#;

fn folder() -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text);
    write("nodes.toml", systir_policy::demo::NODES)?;
    write("zones.toml", systir_policy::demo::ZONES)?;
    write("floor.cedar", systir_policy::demo::FLOOR)?;
    write("ku.dk.cedar", systir_policy::demo::KU_DK)?;
    write("secret", "hunter2\n")?;
    let domain = TrustDomain::new("nordu.net")?;
    let authority = ca::create(&domain, SystemTime::now())?;
    write("ca.pem", &authority.certificate)?;
    for node in ["cph-1", "sto-1"] {
        let hour = Duration::from_secs(3600);
        let issued = ca::issue(&authority, &domain.relay(node)?, SystemTime::now(), hour)?;
        write(&format!("{node}.pem"), &issued.certificate)?;
        write(&format!("{node}.key"), &issued.key)?;
    }
    let door = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    write("door.pem", &door.cert.pem())?;
    write("door.key", &door.signing_key.serialize_pem())?;
    write("node.toml", CONFIG)?;
    Ok(folder)
}

/// Status and words of `systir-relay` with these arguments.
fn relay(folder: &Path, arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let said = Command::new(env!("CARGO_BIN_EXE_systir-relay"))
        .args(arguments)
        .arg("--config")
        .arg(folder.join("node.toml"))
        .output()?;
    Ok((said.status.code(), String::from_utf8_lossy(&said.stderr).into_owned()))
}

/// Both `check` and a start refuse it, with 64 and all of `words`.
#[track_caller]
fn refused(folder: &Path, words: &[&str]) -> Result<()> {
    for arguments in [&["check"][..], &[]] {
        let (status, said) = relay(folder, arguments)?;
        assert_eq!(status, Some(64), "{arguments:?}: {said}");
        for word in words {
            assert!(said.contains(word), "{arguments:?} does not say {word:?}: {said}");
        }
        assert!(!said.contains("hunter2"), "{said}");
    }
    Ok(())
}

/// The line, from 1, on which something stands in the configuration.
fn line(of: &str) -> String {
    let found = CONFIG.lines().position(|line| line.contains(of)).map_or(0, |line| line + 1);
    format!("node.toml:{found}:")
}

#[test]
fn a_good_configuration_is_fine() -> Result<()> {
    let folder = folder()?;
    let (status, said) = relay(folder.path(), &["check"])?;
    assert_eq!((status, said.contains("fine")), (Some(0), true), "{said}");
    Ok(())
}

#[test]
fn a_typo_and_a_wrong_kind_are_told_with_their_line() -> Result<()> {
    let folder = folder()?;
    let write = |text: String| std::fs::write(folder.path().join("node.toml"), text);
    write(CONFIG.replace("capacity = 4", "capasity = 4"))?;
    refused(folder.path(), &[&line("capacity"), "node.capasity", "capacity"])?;
    write(CONFIG.replace("capacity = 4", "capacity = -4"))?;
    refused(folder.path(), &[&line("capacity"), "node.capacity"])?;
    write(CONFIG.replace("etcd = [\"http://127.0.0.1:1\"]", "etcd = [\"http://127.0.0.1:1\""))?;
    refused(folder.path(), &["node.toml:"])?;
    write(CONFIG.replace("capacity = 4", "capacity = 0"))?;
    refused(folder.path(), &[&line("capacity"), "node.capacity", "serves nobody"])?;
    Ok(())
}

#[test]
fn files_that_are_missing_or_do_not_fit_are_told_with_their_field() -> Result<()> {
    let folder = folder()?;
    let path = |name: &str| folder.path().join(name);
    let set_aside = |name: &str| std::fs::rename(path(name), path("aside"));
    let put_back = |name: &str| std::fs::rename(path("aside"), path(name));
    for (name, field) in [
        ("door.key", "http.key"),
        ("cph-1.pem", "links.certificate"),
        ("ca.pem", "links.trust.nordu.net"),
        ("nodes.toml", "policy.nodes"),
        ("ku.dk.cedar", "policy.institutions.ku.dk.file"),
        ("secret", "keys.devkey.secret_file"),
    ] {
        set_aside(name)?;
        refused(folder.path(), &[&format!("{field}: "), name, "cannot be read", &line(name)])?;
        put_back(name)?;
    }

    std::fs::copy(path("door.key"), path("aside"))?;
    std::fs::copy(path("cph-1.key"), path("door.key"))?;
    refused(folder.path(), &["http.certificate", "the key is not the certificate's"])?;
    put_back("door.key")?;

    std::fs::copy(path("cph-1.key"), path("aside"))?;
    std::fs::copy(path("sto-1.key"), path("cph-1.key"))?;
    refused(folder.path(), &["links.key"])?;
    std::fs::copy(path("cph-1.pem"), path("aside.pem"))?;
    std::fs::copy(path("sto-1.pem"), path("cph-1.pem"))?;
    refused(folder.path(), &["links.certificate", "spiffe://nordu.net/relay/sto-1"])?;
    Ok(())
}

#[test]
fn faults_of_policy_are_told_with_their_file_and_line() -> Result<()> {
    let folder = folder()?;
    let path = folder.path().join("ku.dk.cedar");
    let good = std::fs::read_to_string(&path)?;
    let lines = good.lines().count();
    std::fs::write(&path, format!("{good}\npermit (principal, action, resource;\n"))?;
    refused(folder.path(), &[&format!("ku.dk.cedar:{}", lines + 2), "does not parse"])?;
    let unknown = "@id(\"typo\")\n@why(\"x\")\nforbid (principal, action == Action::\"home\", resource) when { resource.contry == \"DK\" };\n";
    std::fs::write(&path, format!("{good}\n{unknown}"))?;
    refused(folder.path(), &[&format!("ku.dk.cedar:{}", lines + 2), "rule typo", "contry"])?;
    std::fs::write(&path, &good)?;
    let nodes = folder.path().join("nodes.toml");
    std::fs::write(&nodes, "\n\n[[node]]\nid = \n")?;
    refused(folder.path(), &["nodes.toml:4"])?;
    Ok(())
}

#[test]
fn a_file_that_is_not_there_is_told() -> Result<()> {
    let folder = tempfile::tempdir()?;
    refused(folder.path(), &["node.toml", "cannot be read"])
}
