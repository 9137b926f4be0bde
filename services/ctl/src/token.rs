//! Tokens for participants, in LiveKit's format.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{ArgAction, Subcommand, value_parser};
use livekit_token::{AccessToken, VideoGrants};
use serde_json::json;

use crate::gateway_client::GatewayClient;

/// Subcommands of `systirctl token`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Creates a token for one participant and one room.
    Create {
        /// The room's name.
        #[arg(long)]
        room: String,
        /// The participant's identity, unique in the room.
        #[arg(long)]
        identity: String,
        /// The participant's display name; the identity if not given.
        #[arg(long)]
        name: Option<String>,
        /// Allows only subscribing, not publishing.
        #[arg(long, action = ArgAction::SetTrue)]
        view_only: bool,
        /// Allows administering the room.
        #[arg(long, action = ArgAction::SetTrue)]
        admin: bool,
        /// Minutes until the token expires; at most 525600 (a year).
        #[arg(long, default_value_t = 360, value_parser = value_parser!(u64).range(1..=525_600))]
        minutes: u64,
    },
}

/// Runs a `token` subcommand.
pub(crate) fn run(command: &Command, gateway: &GatewayClient, json: bool) -> Result<()> {
    let Command::Create { room, identity, name, view_only, admin, minutes } = command;
    let grants = VideoGrants {
        room_join: true,
        room: room.clone(),
        room_admin: *admin,
        can_publish: Some(!view_only),
        can_subscribe: Some(true),
        can_publish_data: Some(!view_only),
        ..Default::default()
    };
    let token = AccessToken::with_api_key(&gateway.api_key, &gateway.api_secret)
        .with_identity(identity)
        .with_name(name.as_deref().unwrap_or(identity))
        .with_grants(grants)
        .with_ttl(Duration::from_secs(minutes * 60))
        .to_jwt()
        .context("no token can be made with these values")?;
    let mut out = std::io::stdout();
    if json {
        writeln!(out, "{}", json!({"token": token, "url": gateway.url, "room": room, "identity": identity}))?;
    } else {
        writeln!(out, "{token}")?;
    }
    Ok(())
}
