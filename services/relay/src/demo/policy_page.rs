//! The page about the policy, made by `systirctl`, which proves the guarantees if the solver is there. The demo goes on without it.

use std::path::PathBuf;
use std::process::Stdio;

use systir_documents::PublicKey;
use systir_policy::demo::INSTITUTION;
use tokio::process::Command;

use super::instructions::sibling_program;

/// Makes the page in English and Danish, beside the documents in this folder.
pub(super) async fn make(folder: PathBuf, key: PublicKey) {
    for language in ["en", "da"] {
        let mut show = Command::new(sibling_program("systirctl"));
        show.args(["policy", "show"]).arg(folder.join(format!("{INSTITUTION}.note")));
        show.args(["--key", &key.to_string(), "--language", language, "--html"]);
        show.arg(folder.join(format!("{INSTITUTION}.{language}.html")));
        show.arg("--floor").arg(folder.join("floor.note"));
        show.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        match show.output().await {
            Ok(done) if done.status.success() => {}
            Ok(done) => {
                let why = String::from_utf8_lossy(&done.stderr);
                tracing::info!(why = why.trim(), "there is no page about the policy");
            }
            Err(error) => tracing::info!(%error, "there is no page about the policy"),
        }
    }
}
