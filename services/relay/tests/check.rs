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
fn a_node_that_lacks_an_attribute_is_told_and_refused_when_it_is_the_own_one() -> Result<()> {
    let folder = folder()?;
    let nodes = folder.path().join("nodes.toml");
    let good = std::fs::read_to_string(&nodes)?;
    let without = |node: &str| {
        let (before, entry) = good.split_at(good.find(&format!("id = \"{node}\"")).unwrap_or_default());
        let (line, text) = (before.matches('\n').count() + 1, entry.replacen("host = ", "# host = ", 1));
        (format!("nodes.toml:{line}: node {node} lacks host"), format!("{before}{text}"))
    };
    let (words, text) = without("sto-1");
    std::fs::write(&nodes, text)?;
    let (status, said) = relay(folder.path(), &["check"])?;
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("warning: ") && said.contains(&words) && said.contains("fine"), "{said}");
    let (words, text) = without("cph-1");
    std::fs::write(&nodes, text)?;
    refused(folder.path(), &[&words, "denied everything", "this is the node itself"])
}

#[test]
fn a_port_that_no_node_of_the_demonstration_could_have_is_refused() -> Result<()> {
    for (arguments, words) in
        [(["--ports", "65500"], "65000"), (["--ports", "0"], "65000"), (["--address", "0.0.0.0"], "0.0.0.0")]
    {
        let said = Command::new(env!("CARGO_BIN_EXE_systir-relay")).arg("demo").args(arguments).output()?;
        let words_said = String::from_utf8_lossy(&said.stderr);
        assert_eq!(said.status.code(), Some(64), "{words_said}");
        assert!(words_said.contains(words) && !words_said.contains("panicked"), "{words_said}");
    }
    Ok(())
}

#[test]
fn a_file_that_is_not_there_is_told() -> Result<()> {
    let folder = tempfile::tempdir()?;
    refused(folder.path(), &["node.toml", "cannot be read"])
}

/// A file of `deploy/`, in which each line like `# field = value` is made one of the configuration.
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

/// What the configuration calls the fields beside an unknown one that is put into this table.
fn fields_beside(table: &toml::Table, path: &[String]) -> Result<Vec<String>> {
    let mut spoilt = table.clone();
    let mut inner = &mut spoilt;
    for part in path {
        inner = inner
            .get_mut(part)
            .and_then(toml::Value::as_table_mut)
            .ok_or_else(|| anyhow::anyhow!("{part}"))?;
    }
    inner.insert("unheard_of".to_owned(), toml::Value::Boolean(true));
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("node.toml");
    std::fs::write(&file, toml::to_string(&spoilt)?)?;
    let said = match systir_relay::config::Config::load(&file) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    };
    // A table of names, such as API keys, has no fields.
    let Some((_, names)) = said.split_once("unheard_of: there is no such field here; there are ") else {
        return Ok(Vec::new());
    };
    let mut names: Vec<_> = names.split(", ").map(str::to_owned).collect();
    names.sort();
    Ok(names)
}

#[test]
fn every_field_is_documented() -> Result<()> {
    let table = documented("node.toml", true)?;
    let (mut left, mut looked_at) = (vec![Vec::<String>::new()], 0);
    while let Some(path) = left.pop() {
        let inner = path.iter().try_fold(&table, |table, part| table.get(part)?.as_table());
        let inner = inner.ok_or_else(|| anyhow::anyhow!("{path:?}"))?;
        let fields = fields_beside(&table, &path)?;
        if !fields.is_empty() {
            let mut here: Vec<_> = inner.keys().cloned().collect();
            here.sort();
            assert_eq!(here, fields, "deploy/node.toml, [{}]", path.join("."));
            looked_at += 1;
        }
        for (name, _) in inner.iter().filter(|(_, value)| value.is_table()) {
            left.push(path.iter().cloned().chain([name.clone()]).collect());
        }
    }
    assert_eq!(looked_at, 11, "the whole, eight sections and page, an institution, a key");
    Ok(())
}

#[test]
fn the_examples_are_configurations() -> Result<()> {
    for name in ["node.toml", "two-machines/cph-1.toml", "two-machines/sto-1.toml"] {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("node.toml");
        std::fs::write(&file, toml::to_string(&documented(name, false)?)?)?;
        systir_relay::config::Config::load(&file).map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
    }
    Ok(())
}

#[test]
fn the_service_does_not_try_a_bad_configuration_again() -> Result<()> {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/systir-relay.service");
    let unit = std::fs::read_to_string(unit)?;
    // The status is heeded of the main process only, and that one ends with it (see `refused`).
    assert!(unit.contains("\nRestartPreventExitStatus=64\n"), "{unit}");
    assert!(!unit.contains("ExecStartPre"), "{unit}");
    Ok(())
}
