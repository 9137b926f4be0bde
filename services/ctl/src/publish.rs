//! Publishes a signed document through a gateway.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::gateway_client::GatewayClient;
use crate::tables::text;

/// Sends the note to a gateway, which verifies it and passes it on to the other nodes.
pub(crate) async fn run(file: &Path, gateway: &GatewayClient, json: bool) -> Result<()> {
    let note = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let answer = gateway.post(&["systir", "v1", "documents"], note).await?;
    let mut out = std::io::stdout();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&answer)?)?;
        return Ok(());
    }
    let document = &answer["document"];
    let state = if answer["new"] == true { "is in use now" } else { "was in use already" };
    writeln!(
        out,
        "version {} of the {} of {} {state} at {}; the other nodes fetch it from there",
        text(document, "version"),
        text(document, "kind"),
        text(document, "owner"),
        gateway.url
    )?;
    Ok(())
}
