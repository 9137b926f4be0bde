//! Runs the containers of a rendered pod on this machine, as the kubelet would: volumes, environment, arguments. Paths of the
//! containers are below a folder of the pod.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use systir_tests::process::built;

use crate::helm::{items, text};

/// Folders of the containers that are below the pod's folder here.
const FOLDERS: [&str; 2] = ["/etc/systir", "/var/lib/systir"];

/// One pod of a StatefulSet, or a pod by itself.
pub(crate) struct Pod<'a> {
    /// Its name, and so its host's name for it.
    pub(crate) name: String,
    spec: &'a Value,
    folder: PathBuf,
    /// The values of Secrets, by name and key.
    pub(crate) secrets: BTreeMap<(String, String), String>,
}

impl<'a> Pod<'a> {
    /// A pod of this specification, with its files below `folder`.
    pub(crate) fn new(name: &str, spec: &'a Value, folder: &Path) -> Self {
        Self { name: name.to_owned(), spec, folder: folder.join(name), secrets: BTreeMap::new() }
    }

    /// A path or text of a container, as it is here.
    pub(crate) fn here(&self, text: &str) -> String {
        FOLDERS.iter().fold(text.to_owned(), |text, folder| {
            text.replace(folder, &format!("{}{folder}", self.folder.display()))
        })
    }

    /// Writes the files of each mounted volume: `content` gives them by volume, each with its name.
    pub(crate) fn mount(
        &self,
        container: &Value,
        content: impl Fn(&Value) -> Result<Vec<(String, String)>>,
    ) -> Result<()> {
        for mount in items(&container["volumeMounts"]) {
            ensure!(
                mount.get("subPath").is_none() && mount.get("subPathExpr").is_none(),
                "{mount} never changes"
            );
            let folder = PathBuf::from(self.here(text(mount, "/mountPath")?));
            std::fs::create_dir_all(&folder)?;
            if mount["name"] == "state" {
                continue;
            }
            ensure!(mount["readOnly"] == true || mount["name"] == "links", "{mount} is writable");
            let volume = items(&self.spec["volumes"]).find(|volume| volume["name"] == mount["name"]);
            let volume = volume.with_context(|| format!("no volume for {mount}"))?;
            for (name, text) in content(volume)? {
                let file = folder.join(name);
                std::fs::write(&file, text)?;
                std::fs::set_permissions(file, Permissions::from_mode(mode(volume)))?;
            }
        }
        Ok(())
    }

    /// The environment of a container.
    pub(crate) fn environment(&self, container: &Value) -> Result<Vec<(String, String)>> {
        let mut all: Vec<(String, String)> = Vec::new();
        for variable in items(&container["env"]) {
            let source = &variable["valueFrom"];
            let value = if let Some(value) = variable["value"].as_str() {
                expand(value, &all)
            } else if let Some(field) = source["fieldRef"]["fieldPath"].as_str() {
                match field {
                    "metadata.name" => self.name.clone(),
                    "status.hostIP" => "127.0.0.1".to_owned(),
                    other => bail!("no field {other}"),
                }
            } else {
                let (name, key) = (
                    text(source, "/secretKeyRef/name")?.to_owned(),
                    text(source, "/secretKeyRef/key")?.to_owned(),
                );
                let secret = self.secrets.get(&(name.clone(), key.clone()));
                secret.with_context(|| format!("no secret {name}/{key}"))?.clone()
            };
            all.push((text(variable, "/name")?.to_owned(), self.here(&value)));
        }
        Ok(all)
    }

    /// The arguments of a container.
    pub(crate) fn arguments(&self, container: &Value) -> Result<Vec<String>> {
        let environment = self.environment(container)?;
        items(&container["args"])
            .map(|argument| {
                let argument = argument.as_str().with_context(|| format!("{argument} is no text"))?;
                Ok(self.here(&expand(argument, &environment)))
            })
            .collect()
    }

    /// The command of a container, with the program of this workspace.
    pub(crate) fn command(&self, container: &Value) -> Result<Command> {
        ensure!(container["command"].as_array().is_some_and(|words| words.len() == 1), "{container}");
        let mut command = Command::new(built(text(container, "/command/0")?)?);
        // Nothing but what the container sets.
        command.env_clear().envs(self.environment(container)?).args(self.arguments(container)?);
        Ok(command)
    }
}

/// The mode of a volume's files. Drivers and spiffe-helper let the group read theirs.
fn mode(volume: &Value) -> u32 {
    if volume.get("configMap").is_some() {
        return 0o644;
    }
    let set = volume["secret"]["defaultMode"].as_u64().or(volume["projected"]["defaultMode"].as_u64());
    let other = if volume.get("csi").is_some() || volume.get("emptyDir").is_some() { 0o640 } else { 0o644 };
    set.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(other)
}

/// Replaces `$(NAME)` by the value of an earlier variable.
fn expand(text: &str, environment: &[(String, String)]) -> String {
    environment.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("$({name})"), value))
}
