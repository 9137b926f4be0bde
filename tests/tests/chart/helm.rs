//! Helm, and the objects that it renders.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// The examples of the chart.
pub(crate) const EXAMPLES: [&str; 3] = ["story", "one-site", "two-regions"];

/// The oldest version of Kubernetes that the chart accepts, one between, and the newest that has schemas.
pub(crate) const KUBERNETES: [&str; 3] = ["1.33", "1.35", "1.37"];

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub(crate) fn chart() -> PathBuf {
    root().join("helm/systir")
}

/// The values file of an example.
pub(crate) fn example(name: &str) -> PathBuf {
    chart().join(format!("examples/{name}.yaml"))
}

/// A tool that `tests/chart/tools` made.
fn tool(name: &str) -> Result<PathBuf> {
    let path = root().join("target/tools").join(name);
    ensure!(path.exists(), "missing: target/tools/{name} (run tests/chart/tools)");
    Ok(path)
}

/// `helm` with these arguments.
pub(crate) fn helm(arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(tool("helm")?);
    // Nothing of the user's settings.
    let home = root().join("target/tools/helm-home");
    command.env("HELM_CACHE_HOME", &home).env("HELM_CONFIG_HOME", &home).env("HELM_DATA_HOME", &home);
    command.args(arguments).stdin(Stdio::null()).output().context("helm cannot run")
}

/// `helm template` with values files and `--set` values: the text, or the error.
pub(crate) fn template(files: &[PathBuf], sets: &[&str]) -> Result<String> {
    let (chart, files): (_, Vec<String>) =
        (chart().display().to_string(), files.iter().map(|file| file.display().to_string()).collect());
    let mut arguments =
        vec!["template", "systir", &chart, "--namespace", "media", "--kube-version", KUBERNETES[0]];
    arguments.extend(files.iter().flat_map(|file| ["--values", file]));
    arguments.extend(sets.iter().flat_map(|set| ["--set-json", set]));
    let output = helm(&arguments)?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    ensure!(output.status.success(), "{}", text(&output.stderr));
    ensure!(output.stderr.is_empty(), "helm warns: {}", text(&output.stderr));
    Ok(text(&output.stdout))
}

/// What [`objects`] rendered already: several tests read the same.
static RENDERED: Mutex<BTreeMap<String, Vec<Value>>> = Mutex::new(BTreeMap::new());

/// The objects of an example, each checked against the schemas of all versions.
pub(crate) fn objects(name: &str, sets: &[&str]) -> Result<Vec<Value>> {
    let key = format!("{name} {sets:?}");
    let rendered = || RENDERED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(objects) = rendered().get(&key) {
        return Ok(objects.clone());
    }
    let objects = checked(&template(&[example(name)], sets)?)?;
    rendered().insert(key, objects.clone());
    Ok(objects)
}

/// The objects of a rendered text, checked against the schemas of all versions.
pub(crate) fn checked(text: &str) -> Result<Vec<Value>> {
    let mut command = Command::new(tool("python/bin/python")?);
    command.arg(root().join("tests/chart/objects")).arg(tool("schemas")?).args(KUBERNETES);
    let output = with_input(&mut command, text)?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Runs a script of `tests/chart` with this standard input: its standard error, if it fails.
pub(crate) fn script(name: &str, arguments: &[&Path], input: &str) -> Result<String> {
    let mut command = Command::new(tool("python/bin/python")?);
    command.arg(root().join("tests/chart").join(name)).args(arguments);
    let output = with_input(&mut command, input)?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn with_input(command: &mut Command, input: &str) -> Result<Output> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let mut pipe = child.stdin.take().context("no standard input")?;
    let input = input.to_owned();
    let writer = std::thread::spawn(move || pipe.write_all(input.as_bytes()));
    let output = child.wait_with_output()?;
    let _ = writer.join();
    Ok(output)
}

/// The objects of this kind.
pub(crate) fn of_kind<'a>(objects: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    objects.iter().filter(move |object| object["kind"] == kind)
}

/// The object of this kind and name.
pub(crate) fn named<'a>(objects: &'a [Value], kind: &str, name: &str) -> Result<&'a Value> {
    objects
        .iter()
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
        .with_context(|| format!("there is no {kind} {name}"))
}

/// The items of a list; none if it is missing.
pub(crate) fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// The item of a list with this name.
pub(crate) fn item<'a>(list: &'a Value, name: &str) -> Result<&'a Value> {
    items(list).find(|item| item["name"] == name).with_context(|| format!("no {name} in {list}"))
}

/// The text at a place of an object.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> Result<&'a str> {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .with_context(|| format!("no text at {pointer} in {object}"))
}
