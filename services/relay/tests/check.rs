//! Runs `systir-relay check`: it reports what is wrong and where, and exits with 64. A start with the same
//! file reports the same.

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
certificate = "http.pem"
key = "http.key"
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
    let http = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    write("http.pem", &http.cert.pem())?;
    write("http.key", &http.signing_key.serialize_pem())?;
    write("node.toml", CONFIG)?;
    Ok(folder)
}

/// Exit status and standard error of `systir-relay` with these arguments.
fn relay(folder: &Path, arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let output = Command::new(env!("CARGO_BIN_EXE_systir-relay"))
        .args(arguments)
        .arg("--config")
        .arg(folder.join("node.toml"))
        .output()?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// Both `check` and a start refuse the configuration, with status 64 and all of `expected` in the message.
#[track_caller]
fn refused(folder: &Path, expected: &[&str]) -> Result<()> {
    for arguments in [&["check"][..], &[]] {
        let (status, message) = relay(folder, arguments)?;
        assert_eq!(status, Some(64), "{arguments:?}: {message}");
        for part in expected {
            assert!(message.contains(part), "{arguments:?} lacks {part:?}: {message}");
        }
        assert!(!message.contains("hunter2"), "{message}");
    }
    Ok(())
}

/// The place (`node.toml:LINE:`) of the first line of the configuration that contains this text.
fn line(of: &str) -> String {
    let found = CONFIG.lines().position(|line| line.contains(of)).map_or(0, |line| line + 1);
    format!("node.toml:{found}:")
}

#[test]
fn a_valid_configuration_passes() -> Result<()> {
    let folder = folder()?;
    let (status, message) = relay(folder.path(), &["check"])?;
    assert_eq!((status, message.contains("valid")), (Some(0), true), "{message}");
    Ok(())
}

#[test]
fn a_typo_and_a_wrong_type_are_reported_with_their_line() -> Result<()> {
    let folder = folder()?;
    let write = |text: String| std::fs::write(folder.path().join("node.toml"), text);
    write(CONFIG.replace("capacity = 4", "capasity = 4"))?;
    refused(folder.path(), &[&line("capacity"), "node.capasity", "capacity"])?;
    write(CONFIG.replace("capacity = 4", "capacity = -4"))?;
    refused(folder.path(), &[&line("capacity"), "node.capacity"])?;
    write(CONFIG.replace("etcd = [\"http://127.0.0.1:1\"]", "etcd = [\"http://127.0.0.1:1\""))?;
    refused(folder.path(), &["node.toml:"])?;
    write(CONFIG.replace("capacity = 4", "capacity = 0"))?;
    refused(folder.path(), &[&line("capacity"), "node.capacity", "admits no participant"])?;
    Ok(())
}

#[test]
fn files_that_are_missing_or_do_not_match_are_reported_with_their_field() -> Result<()> {
    let folder = folder()?;
    let path = |name: &str| folder.path().join(name);
    let set_aside = |name: &str| std::fs::rename(path(name), path("aside"));
    let put_back = |name: &str| std::fs::rename(path("aside"), path(name));
    for (name, field) in [
        ("http.key", "http.key"),
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

    std::fs::copy(path("http.key"), path("aside"))?;
    std::fs::copy(path("cph-1.key"), path("http.key"))?;
    refused(folder.path(), &["http.certificate", "the key does not match the certificate"])?;
    put_back("http.key")?;

    std::fs::copy(path("cph-1.key"), path("aside"))?;
    std::fs::copy(path("sto-1.key"), path("cph-1.key"))?;
    refused(folder.path(), &["links.key"])?;
    std::fs::copy(path("cph-1.pem"), path("aside.pem"))?;
    std::fs::copy(path("sto-1.pem"), path("cph-1.pem"))?;
    refused(folder.path(), &["links.certificate", "spiffe://nordu.net/relay/sto-1"])?;
    Ok(())
}

#[test]
fn policy_errors_are_reported_with_file_and_line() -> Result<()> {
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
fn a_node_that_lacks_an_attribute_is_a_warning_and_for_the_own_node_an_error() -> Result<()> {
    let folder = folder()?;
    let nodes = folder.path().join("nodes.toml");
    let good = std::fs::read_to_string(&nodes)?;
    let without = |node: &str| {
        let (before, entry) = good.split_at(good.find(&format!("id = \"{node}\"")).unwrap_or_default());
        let (line, text) = (before.matches('\n').count() + 1, entry.replacen("host = ", "# host = ", 1));
        (format!("nodes.toml:{line}: node {node} lacks host"), format!("{before}{text}"))
    };
    let (expected, text) = without("sto-1");
    std::fs::write(&nodes, text)?;
    let (status, message) = relay(folder.path(), &["check"])?;
    assert_eq!(status, Some(0), "{message}");
    assert!(
        message.contains("warning: ") && message.contains(&expected) && message.contains("valid"),
        "{message}"
    );
    let (expected, text) = without("cph-1");
    std::fs::write(&nodes, text)?;
    refused(folder.path(), &[&expected, "denied everything", "this is the node itself"])
}

#[test]
fn invalid_ports_and_addresses_of_the_demo_are_refused() -> Result<()> {
    for (arguments, expected) in
        [(["--ports", "65500"], "65000"), (["--ports", "0"], "65000"), (["--address", "0.0.0.0"], "0.0.0.0")]
    {
        let output = Command::new(env!("CARGO_BIN_EXE_systir-relay")).arg("demo").args(arguments).output()?;
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{message}");
        assert!(message.contains(expected) && !message.contains("panicked"), "{message}");
    }
    Ok(())
}

#[test]
fn a_missing_file_is_reported() -> Result<()> {
    let folder = tempfile::tempdir()?;
    refused(folder.path(), &["node.toml", "cannot be read"])
}

/// Parses a file of `deploy/`. With `all`, lines like `# field = value` are uncommented first.
fn documented(name: &str, all: bool) -> Result<toml::Table> {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(name))?;
    let is_field = |line: &str| {
        let (field, _) = line.split_once(" = ")?;
        let line = field.strip_prefix("# ")?.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        line.then_some(())
    };
    let lines = text.lines().map(|line| if all && is_field(line).is_some() { &line[2..] } else { line });
    Ok(lines.collect::<Vec<_>>().join("\n").parse()?)
}

/// The field names of the table at this path, taken from the error for an unknown field in it.
fn fields_beside(table: &toml::Table, path: &[String]) -> Result<Vec<String>> {
    let mut changed = table.clone();
    let mut inner = &mut changed;
    for part in path {
        inner = inner
            .get_mut(part)
            .and_then(toml::Value::as_table_mut)
            .ok_or_else(|| anyhow::anyhow!("{part}"))?;
    }
    inner.insert("unknown_field".to_owned(), toml::Value::Boolean(true));
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("node.toml");
    std::fs::write(&file, toml::to_string(&changed)?)?;
    let message = match systir_relay::config::RelayConfig::load(&file) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    };
    // A map, such as that of API keys, has no fixed fields.
    let Some((_, names)) = message.split_once("unknown_field: there is no such field; fields here: ") else {
        return Ok(Vec::new());
    };
    let mut names: Vec<_> = names.split(", ").map(str::to_owned).collect();
    names.sort();
    Ok(names)
}

#[test]
fn every_field_is_documented() -> Result<()> {
    let table = documented("node.toml", true)?;
    let (mut left, mut checked) = (vec![Vec::<String>::new()], 0);
    while let Some(path) = left.pop() {
        let inner = path.iter().try_fold(&table, |table, part| table.get(part)?.as_table());
        let inner = inner.ok_or_else(|| anyhow::anyhow!("{path:?}"))?;
        let fields = fields_beside(&table, &path)?;
        if !fields.is_empty() {
            let mut here: Vec<_> = inner.keys().cloned().collect();
            here.sort();
            assert_eq!(here, fields, "deploy/node.toml, [{}]", path.join("."));
            checked += 1;
        }
        for (name, _) in inner.iter().filter(|(_, value)| value.is_table()) {
            left.push(path.iter().cloned().chain([name.clone()]).collect());
        }
    }
    assert_eq!(checked, 11, "the root, eight sections with page, an institution, a key");
    Ok(())
}

#[test]
fn the_example_files_are_valid_configurations() -> Result<()> {
    for name in ["node.toml", "two-machines/cph-1.toml", "two-machines/sto-1.toml"] {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("node.toml");
        std::fs::write(&file, toml::to_string(&documented(name, false)?)?)?;
        systir_relay::config::RelayConfig::load(&file).map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
    }
    Ok(())
}

#[test]
fn systemd_does_not_restart_after_an_invalid_configuration() -> Result<()> {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/systir-relay.service");
    let unit = std::fs::read_to_string(unit)?;
    // systemd checks the exit status of the main process only, so there must be no ExecStartPre; a start
    // exits with 64 too (see `refused`).
    assert!(unit.contains("\nRestartPreventExitStatus=64\n"), "{unit}");
    assert!(!unit.contains("ExecStartPre"), "{unit}");
    Ok(())
}
