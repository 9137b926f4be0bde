//! Runs `systir-relay check`: it reports what is wrong and where, and exits with 64. A start with the same
//! file reports the same.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use systir_documents::SigningKey;
use systir_identity::{TrustDomain, ca};
use systir_policy::demo::signed::SignedDemo;
use tempfile::TempDir;

const CONFIG: &str = r#"
[node]
name = "cph-1"
cluster = "nordunet"
capacity = 4
key = "cph-1.node-key"
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
[telemetry]
listen = "127.0.0.1:0"
[registry]
etcd = ["http://127.0.0.1:1"]
[policy]
operator = "nordunet"
documents = "documents"
state = "state"
[policy.operators.nordunet]
trust_domain = "nordu.net"
keys = ["OPERATOR"]
[policy.institutions."ku.dk"]
keys = ["INSTITUTION"]
[keys.devkey]
institution = "ku.dk"
secret_file = "secret"
[room_keys.ku]
institution = "ku.dk"
key_file = "room-key"
"#;

const ROOM_KEY: &str = "dpLDrTVAu4A8Ags67mbNiIcSMjTqDG5xQ8Ct1z/0Me0=\n";

/// A folder with a valid configuration and its files.
struct Folder {
    folder: TempDir,
    documents: SignedDemo,
}

impl Folder {
    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        Ok(std::fs::write(self.path().join(name), text)?)
    }

    /// The configuration with the pinned keys.
    fn config(&self) -> String {
        let pin = |text: String, name: &str, key: &SigningKey| text.replace(name, &key.public().to_string());
        let text = pin(CONFIG.to_owned(), "OPERATOR", self.documents.operator_key());
        pin(text, "INSTITUTION", self.documents.institution_key())
    }
}

fn folder() -> Result<Folder> {
    folder_of_ca(SystemTime::now())
}

/// The same with a CA that was made then.
fn folder_of_ca(made: SystemTime) -> Result<Folder> {
    let folder = tempfile::tempdir()?;
    let domain = TrustDomain::new("nordu.net")?;
    let now = SystemTime::now();
    let authority = ca::create(&domain, made)?;
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let nodes = ["cph-1", "sto-1", "aws-sto-1"];
    let loopback = "127.0.0.0/8".parse()?;
    let documents = SignedDemo::new(&authority.certificate, &nodes, vec![loopback], seconds, rand::random)?;
    let folder = Folder { folder, documents };
    std::fs::create_dir(folder.path().join("documents"))?;
    for (name, text) in folder.documents.files()? {
        folder.write(&name, &text)?;
    }
    folder.write("secret", "hunter2-0123456789-abcdefghijklmn\n")?;
    folder.write("room-key", ROOM_KEY)?;
    for node in nodes {
        let issued = ca::issue(&authority, &domain.relay(node)?, now, Duration::from_secs(3600))?;
        folder.write(&format!("{node}.pem"), &issued.certificate)?;
        folder.write(&format!("{node}.key"), &issued.key)?;
    }
    let http = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    folder.write("http.pem", &http.cert.pem())?;
    folder.write("http.key", &http.signing_key.serialize_pem())?;
    folder.write("node.toml", &folder.config())?;
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
    let good = folder.config();
    let write = |text: String| folder.write("node.toml", &text);
    write(good.replace("capacity = 4", "capasity = 4"))?;
    refused(folder.path(), &[&line("capacity"), "node.capasity", "capacity"])?;
    write(good.replace("capacity = 4", "capacity = -4"))?;
    refused(folder.path(), &[&line("capacity"), "node.capacity"])?;
    write(good.replace("etcd = [\"http://127.0.0.1:1\"]", "etcd = [\"http://127.0.0.1:1\""))?;
    refused(folder.path(), &["node.toml:"])?;
    write(good.replace("capacity = 4", "capacity = 0"))?;
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
        ("cph-1.node-key", "node.key"),
        ("secret", "keys.devkey.secret_file"),
        ("room-key", "room_keys.ku.key_file"),
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
fn documents_that_cannot_be_used_are_reported_with_their_file() -> Result<()> {
    let folder = folder()?;
    let bundle = folder.path().join("documents/ku.dk.note");
    let good = std::fs::read_to_string(&bundle)?;
    // A text that was changed after it was signed.
    std::fs::write(&bundle, good.replace("Nordic", "EEA"))?;
    refused(folder.path(), &["documents/ku.dk.note", "signature"])?;
    // Rules that a node cannot load, although the institution signed them.
    let rule = "@id(\"typo\")\n@why(\"x\")\nforbid (principal, action == Action::\"home\", resource) when { resource.contry == \"DK\" };\n";
    let unusable = folder.documents.bundle(1, |bundle| bundle.policy.push_str(rule))?;
    std::fs::write(&bundle, unusable)?;
    refused(folder.path(), &["bundle of ku.dk", "rule typo", "contry"])?;
    // The operator's key does not sign for the institution.
    let wanted = folder.documents.institution_key().public().to_string();
    let config = folder.config();
    folder.write(
        "node.toml",
        &config.replace(&wanted, &folder.documents.operator_key().public().to_string()),
    )?;
    std::fs::write(&bundle, &good)?;
    refused(folder.path(), &["documents/ku.dk.note"])?;
    folder.write("node.toml", &config)?;
    // Without a directory and a floor of the own operator no node can be approved.
    std::fs::remove_file(folder.path().join("documents/floor.note"))?;
    refused(folder.path(), &["policy.documents", "floor of nordunet"])
}

#[test]
fn a_threshold_that_cannot_be_met_and_a_key_that_is_pinned_twice_are_refused() -> Result<()> {
    let folder = folder()?;
    let config = folder.config();
    let key = folder.documents.institution_key().public().to_string();
    let pinned = format!("keys = [\"{key}\"]");
    let other = folder.documents.operator_key().public().to_string();
    for (changed, expected) in [
        (format!("keys = [\"{key}\", \"{other}\"]"), ["policy.institutions.ku.dk.threshold", "must sign"]),
        (format!("{pinned}\nthreshold = 2"), ["policy.institutions.ku.dk.keys", "threshold"]),
        (
            format!("keys = [\"{key}\", \"{key}\"]\nthreshold = 1"),
            ["policy.institutions.ku.dk.keys", "same key"],
        ),
        ("keys = []".to_owned(), ["policy.institutions.ku.dk.keys", "at least one"]),
        ("keys = [\"ku.dk\"]".to_owned(), ["policy.institutions.ku.dk.keys", "not a public key"]),
    ] {
        folder.write("node.toml", &config.replace(&pinned, &changed))?;
        refused(folder.path(), &expected)?;
    }
    Ok(())
}

#[test]
fn a_missing_bundle_is_a_warning_because_other_institutions_are_served() -> Result<()> {
    let folder = folder()?;
    std::fs::remove_file(folder.path().join("documents/ku.dk.note"))?;
    let (status, message) = relay(folder.path(), &["check"])?;
    assert_eq!(status, Some(0), "{message}");
    assert!(message.contains("warning: ") && message.contains("no bundle of ku.dk"), "{message}");
    Ok(())
}

#[test]
fn a_node_key_that_the_directory_does_not_list_is_refused() -> Result<()> {
    let folder = folder()?;
    std::fs::copy(folder.path().join("sto-1.node-key"), folder.path().join("cph-1.node-key"))?;
    refused(folder.path(), &["node.key", "nordu.net/sto-1+", "does not list"])
}

#[test]
fn a_node_that_an_institution_does_not_approve_must_not_hold_its_api_key_or_room_key() -> Result<()> {
    let folder = folder()?;
    let config = folder.config().replace("cph-1", "aws-sto-1");
    folder.write("node.toml", &config)?;
    refused(
        folder.path(),
        &["keys.devkey.institution", "aws-sto-1", "controlled from US", "remove the key"],
    )?;
    let (before, rest) = config.split_once("[keys.devkey]").context("an API key")?;
    let (_, room_key) = rest.split_once("[room_keys.ku]").context("a room key")?;
    folder.write("node.toml", &format!("{before}[room_keys.ku]{room_key}"))?;
    refused(folder.path(), &["room_keys.ku.institution", "aws-sto-1", "controlled from US", "remove the key"])
}

#[test]
fn a_room_key_that_cannot_be_used_is_refused() -> Result<()> {
    let folder = folder()?;
    let config = folder.config();
    folder.write("room-key", "hunter2")?;
    refused(folder.path(), &["room_keys.ku.key_file", "32 random bytes in base64", "systirctl key room"])?;
    folder.write("room-key", ROOM_KEY)?;
    for (changed, expected) in [
        (config.replace("[room_keys.ku]", "[room_keys.ku]\nkey = \"x\""), "give either key or key_file"),
        (config.replace("[room_keys.ku]", "[room_keys.ku]\ncreates = false"), "these do: none"),
        (
            format!("{config}\n[room_keys.next]\ninstitution = \"ku.dk\"\nkey_file = \"room-key\"\n"),
            "these do: ku, next",
        ),
    ] {
        folder.write("node.toml", &changed)?;
        refused(folder.path(), &["room_keys.ku", expected])?;
    }
    let (without, _) = config.split_once("[room_keys.ku]").context("a room key")?;
    folder.write("node.toml", without)?;
    refused(folder.path(), &["keys.devkey.institution", "has no room key here"])
}

#[test]
fn a_node_whose_own_entry_lacks_an_attribute_is_refused() -> Result<()> {
    let folder = folder()?;
    for node in ["sto-1", "cph-1"] {
        let note = folder.documents.directory(1, |directory| {
            for entry in directory.nodes.iter_mut().filter(|entry| entry.id == node) {
                entry.host.clear();
            }
        });
        // The directory states each attribute, or it is no directory.
        assert!(note.is_err(), "{node}");
    }
    Ok(())
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
    assert_eq!(
        checked, 15,
        "the root, ten sections with page, drain and journal, an operator, an institution, an API key, a room key"
    );
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

#[test]
fn systemd_waits_until_a_node_with_the_default_deadline_is_drained() -> Result<()> {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/systir-relay.service");
    let unit = std::fs::read_to_string(unit)?;
    let seconds = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec="));
    let seconds: u64 = seconds.context("no TimeoutStopSec")?.parse()?;
    let deadline = systir_relay::config::DrainSection::default().deadline_seconds;
    // Tasks have 5 s, workers 3 s, and the runtime 5 s to end.
    assert!(seconds >= deadline + 30, "{seconds} s, with a deadline of {deadline} s");
    let documented = documented("node.toml", true)?;
    let documented = documented.get("drain").and_then(|drain| drain.get("deadline_seconds"));
    assert_eq!(documented.and_then(toml::Value::as_integer), Some(i64::try_from(deadline)?));
    // systemd must leave SIGTERM to the relay, which a second signal would end at once.
    for changed in ["KillSignal=", "ExecStop=", "KillMode=", "SendSIGHUP="] {
        assert!(!unit.contains(changed), "{changed}");
    }
    Ok(())
}

#[test]
fn the_drain_key_may_not_be_guessed_on_an_address_that_others_reach() -> Result<()> {
    let folder = folder()?;
    let config = folder.config();
    let drain = |lines: &str| format!("{config}\n[drain]\napi_key = \"ops\"\n{lines}\n");
    folder.write("ops.secret", "2c1f0b7d9e3a48655acd1e7f80b93624\n")?;
    folder.write("node.toml", &drain("secret_file = \"ops.secret\""))?;
    let (status, message) = relay(folder.path(), &["check"])?;
    assert_eq!(status, Some(0), "{message}");
    folder.write("node.toml", &drain("secret_file = \"none.secret\""))?;
    refused(folder.path(), &["node.toml:", "drain.secret_file: ", "cannot be read"])
}

/// The lines of warnings of `check`, which must succeed.
fn warnings(folder: &Path) -> Result<Vec<String>> {
    let (status, message) = relay(folder, &["check"])?;
    assert_eq!(status, Some(0), "{message}");
    assert!(!message.contains("hunter2"), "{message}");
    let lines = message.lines().filter_map(|line| line.strip_prefix("warning: "));
    Ok(lines.map(str::to_owned).collect())
}

#[test]
fn mistakes_that_prevent_no_start_are_warnings_of_one_line_each() -> Result<()> {
    let folder = folder()?;
    let secrets = ["node.toml", "secret", "room-key", "http.key", "cph-1.key", "cph-1.node-key"];
    let mode = |file: &str, mode| {
        std::fs::set_permissions(folder.path().join(file), std::fs::Permissions::from_mode(mode))
    };
    for file in secrets {
        mode(file, 0o600)?;
    }
    assert_eq!(warnings(folder.path())?, Vec::<String>::new());

    for (file, field) in [
        ("secret", "keys.devkey.secret_file: "),
        ("room-key", "room_keys.ku.key_file: "),
        ("http.key", "http.key: "),
        ("cph-1.key", "links.key: "),
        ("cph-1.node-key", "node.key: "),
    ] {
        mode(file, 0o644)?;
        let found = warnings(folder.path())?;
        let [line] = found.as_slice() else { panic!("{file}: {found:?}") };
        assert!(line.starts_with(field) && line.contains("chmod 600"), "{line}");
        mode(file, 0o600)?;
    }

    let domain = TrustDomain::new("nordu.net")?;
    let now = SystemTime::now();
    let authority = ca::create(&domain, now)?;
    for (begun, life, expected) in [(7_000, 7_200, " expires in "), (7_200, 3_600, " expired ")] {
        let since = now.checked_sub(Duration::from_secs(begun)).context("a time")?;
        let issued = ca::issue(&authority, &domain.relay("cph-1")?, since, Duration::from_secs(life))?;
        folder.write("cph-1.pem", &issued.certificate)?;
        folder.write("cph-1.key", &issued.key)?;
        let found = warnings(folder.path())?;
        let [line] = found.as_slice() else { panic!("{expected}: {found:?}") };
        assert!(line.starts_with("links.certificate: ") && line.contains(expected), "{line}");
    }
    Ok(())
}

/// A configuration whose files nobody else may read, with changes; and the lines of warnings.
fn warnings_of(folder: &Folder, changes: &[(&str, &str)]) -> Result<Vec<String>> {
    let mut config = folder.config();
    for (from, to) in changes {
        ensure!(config.contains(from), "{from} is not in the configuration");
        config = config.replace(from, to);
    }
    folder.write("node.toml", &config)?;
    for entry in std::fs::read_dir(folder.path())? {
        let path = entry?.path();
        if path.is_file() {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        }
    }
    warnings(folder.path())
}

#[track_caller]
fn one_line(found: &[String], begin: &str, part: &str) {
    let about: Vec<&String> = found.iter().filter(|line| line.starts_with(begin)).collect();
    let [line] = about.as_slice() else { panic!("{begin}: {found:?}") };
    assert!(line.contains(part), "{line}");
}

const HTTP_TLS: &str = "certificate = \"http.pem\"\nkey = \"http.key\"\n";
const GUESSED: &str = "[drain]\napi_key = \"ops\"\nsecret = \"hunter2\"\n[keys.devkey]";

#[test]
fn ports_without_tls_that_other_machines_reach_are_warnings() -> Result<()> {
    let folder = folder()?;
    let plain = [
        ("[http]\nlisten = \"127.0.0.1:0\"", "[http]\nlisten = \"192.0.2.7:7880\""),
        (HTTP_TLS, "behind_proxy = true\n"),
        ("[telemetry]\nlisten = \"127.0.0.1:0\"", "[telemetry]\nlisten = \"0.0.0.0:7872\""),
    ];
    let found = warnings_of(&folder, &plain)?;
    assert_eq!(found.len(), 2, "{found:?}");
    one_line(&found, "http.certificate: ", "192.0.2.7:7880");
    one_line(&found, "telemetry.listen: ", "0.0.0.0:7872");
    // A proxy on the same machine.
    let local = [(HTTP_TLS, "behind_proxy = true\n")];
    assert_eq!(warnings_of(&folder, &local)?, Vec::<String>::new());
    Ok(())
}

#[test]
fn ca_roots_that_have_expired_or_soon_will_are_warnings() -> Result<()> {
    for (days, expected) in [(320, " expires in "), (366, " expired ")] {
        let made = SystemTime::now().checked_sub(Duration::from_secs(days * 86_400)).context("a time")?;
        let folder = folder_of_ca(made)?;
        one_line(&warnings_of(&folder, &[])?, "policy.documents: a root ", expected);
        folder.write("etcd-ca.pem", &ca::create(&TrustDomain::new("etcd")?, made)?.certificate)?;
        let etcd =
            [("etcd = [\"http://127.0.0.1:1\"]", "etcd = [\"https://127.0.0.1:1\"]\nca = \"etcd-ca.pem\"")];
        let found = warnings_of(&folder, &etcd)?;
        match days {
            // Of a file, two weeks are enough.
            320 => assert!(!found.iter().any(|line| line.starts_with("registry.ca: ")), "{found:?}"),
            _ => one_line(&found, "registry.ca: ", expected),
        }
    }
    Ok(())
}

#[test]
fn a_weak_drain_secret_is_allowed_on_loopback_only_whichever_way_others_reach_the_port() -> Result<()> {
    let folder = folder()?;
    let drain = ("[keys.devkey]", GUESSED);
    one_line(&warnings_of(&folder, &[drain])?, "drain.secret: ", "can be guessed");
    for reached in ["behind_proxy = true\n", "proxy_protocol = [\"127.0.0.0/8\"]\n"] {
        let config = folder.config().replace("[keys.devkey]", GUESSED);
        let config = config.replace("[media]\n", &format!("{reached}[media]\n"));
        folder.write("node.toml", &config)?;
        refused(folder.path(), &["drain.secret: ", "can be guessed", "openssl rand -hex 32"])?;
    }
    Ok(())
}

#[test]
fn a_start_logs_mistakes_in_one_line_each_and_the_metric_counts_them() -> Result<()> {
    let made = SystemTime::now().checked_sub(Duration::from_secs(320 * 86_400)).context("a time")?;
    let folder = folder_of_ca(made)?;
    folder.write("room-key", "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n")?;
    let metrics = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let telemetry = format!("[telemetry]\nlisten = \"{metrics}\"");
    let changes = [("[keys.devkey]", GUESSED), ("[telemetry]\nlisten = \"127.0.0.1:0\"", telemetry.as_str())];
    let found = warnings_of(&folder, &changes)?;
    assert_eq!(found.len(), 3, "{found:?}");
    one_line(&found, "drain.secret: ", "can be guessed");
    one_line(&found, "room_keys.ku: ", "equal");
    let log = folder.path().join("log");
    let mut relay = Command::new(env!("CARGO_BIN_EXE_systir-relay"));
    relay.arg("--config").arg(folder.path().join("node.toml"));
    relay.stdout(std::fs::File::create(&log)?).stderr(std::fs::File::options().append(true).open(&log)?);
    let mut relay = Running(relay.spawn()?);
    let logged = |line: &String| std::fs::read_to_string(&log).is_ok_and(|log| log.contains(line.as_str()));
    relay.until("the lines are logged", || found.iter().all(logged))?;
    for count in
        ["mistake=\"weak-secret\"} 2", "mistake=\"certificate-expires-soon\"} 1", "mistake=\"plain-http\"} 0"]
    {
        relay.until(count, || scraped(metrics).is_some_and(|text| text.contains(count)))?;
    }
    Ok(())
}

/// A relay that ends with the test.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn until(&mut self, what: &str, holds: impl Fn() -> bool) -> Result<()> {
        for _ in 0..1_200 {
            if holds() {
                return Ok(());
            }
            ensure!(self.0.try_wait()?.is_none(), "{what}: the relay has ended");
            std::thread::sleep(Duration::from_millis(50));
        }
        anyhow::bail!("{what}: not within 60 s")
    }
}

fn scraped(from: std::net::SocketAddr) -> Option<String> {
    let mut stream = std::net::TcpStream::connect(from).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

#[test]
fn a_secret_that_can_be_guessed_is_refused() -> Result<()> {
    let folder = folder()?;
    for weak in ["hunter2", "hunter2hunter2hunter2hunter2hun", "00000000000000000000000000000000000000000000"]
    {
        folder.write("secret", weak)?;
        refused(folder.path(), &["node.toml:", "keys.devkey: ", "can be guessed", "openssl rand -hex 32"])?;
    }
    let section = "[keys.devkey]\n";
    folder.write(
        "node.toml",
        &folder.config().replace(section, &format!("{section}allow_weak_secret = true\n")),
    )?;
    let (status, message) = relay(folder.path(), &["check"])?;
    assert_eq!(status, Some(0), "{message}");
    Ok(())
}
