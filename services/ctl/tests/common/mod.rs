//! Runs `systirctl` in a folder of its own, without a cluster.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A folder with the policy files of the demo.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy/policies");
        for file in ["ku.dk.cedar", "floor.cedar", "zones.toml", "vocabulary.toml", "classes.toml"] {
            fs::copy(policies.join(file), folder.path().join(file)).unwrap();
        }
        let roots = Path::new(env!("CARGO_MANIFEST_DIR")).join("../documents/tests/golden/nordu.net.pem");
        fs::copy(roots, folder.path().join("ca.pem")).unwrap();
        Self(folder)
    }

    pub(crate) fn at(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    pub(crate) fn read(&self, file: &str) -> String {
        fs::read_to_string(self.at(file)).unwrap()
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        fs::write(self.at(file), text).unwrap();
    }

    pub(crate) fn change(&self, file: &str, from: &str, to: &str) {
        let text = self.read(file);
        assert!(text.contains(from), "{from} is not in {text}");
        self.write(file, &text.replacen(from, to, 1));
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_systirctl"));
        command
            .args(line.split_whitespace())
            .current_dir(self.0.path())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command line; arguments have no spaces.
    fn output(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// Runs a command line that reads these lines.
    pub(crate) fn answer(&self, line: &str, answers: &str) -> Output {
        let mut command = self.command(line);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(answers.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// The error of a command that fails without this solver.
    pub(crate) fn fail_with_solver(&self, solver: &str, line: &str) -> String {
        let output = self.command(line).env("CVC5", solver).output().unwrap();
        let (stdout, stderr) = texts(&output);
        assert_eq!((output.status.code(), stdout.as_str()), (Some(1), ""), "{line}: {stderr}");
        stderr
    }

    /// Copies a file of `examples/policy`.
    pub(crate) fn copy_example(&self, file: &str, to: &str) {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/policy");
        fs::copy(examples.join(file), self.at(to)).unwrap();
    }

    /// The standard output of a command that succeeds.
    pub(crate) fn run(&self, line: &str) -> String {
        let output = self.output(line);
        let (stdout, stderr) = texts(&output);
        assert_eq!(output.status.code(), Some(0), "{line}: {stdout}{stderr}");
        assert_eq!(stderr, "", "{line}");
        stdout
    }

    pub(crate) fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.run(&format!("--json {line}"))).unwrap()
    }

    /// The error of a command that fails with this status.
    pub(crate) fn fail(&self, status: i32, line: &str) -> String {
        let output = self.output(line);
        let (stdout, stderr) = texts(&output);
        assert_eq!(output.status.code(), Some(status), "{line}: {stdout}{stderr}");
        assert!(!stderr.contains("panicked"), "{line}: {stderr}");
        stderr
    }

    pub(crate) fn key(&self, name: &str) -> Value {
        self.json(&format!("key create --name {name} --out keys"))
    }

    /// Builds the bundle of `ku.dk` from the demo's files.
    pub(crate) fn build_bundle(&self, version: u64, out: &str) -> String {
        self.run(&format!("{} --version {version} --out {out}", self.bundle_line()))
    }

    pub(crate) fn bundle_line(&self) -> String {
        "policy build --institution ku.dk --policy ku.dk.cedar --zones zones.toml --vocabulary vocabulary.toml --classes \
         classes.toml --renew-by 2099-01-01 --not-after 2099-02-01"
            .to_owned()
    }

    pub(crate) fn build_floor(&self, out: &str) -> String {
        self.run(&format!(
            "policy build --operator nordunet --policy floor.cedar --version 1 --renew-by 2099-01-01 --not-after \
             2099-02-01 --out {out}"
        ))
    }

    /// Builds `nordunet`'s directory with three nodes.
    pub(crate) fn build_directory(&self, out: &str) {
        self.run(&format!(
            "directory new --operator nordunet --trust-domain nordu.net --controlled-from DK --roots ca.pem --renew-by \
             2099-01-01 --not-after 2099-02-01 --out {out}"
        ));
        for (node, site, country, host) in [
            ("cph-1", "Copenhagen", "DK", ""),
            ("sto-1", "Stockholm", "SE", ""),
            ("aws-sto-1", "Stockholm", "SE", "--host amazon --host-controlled-from US"),
        ] {
            self.key(&format!("{node}/1"));
            self.run(&format!(
                "directory add {out} --id {node} --site {site} --region {node} --country {country} {host} --key \
                 keys/{node}-1.pub --prefix 192.0.2.0/24 --prefix 2001:db8::/32"
            ));
        }
    }
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}
