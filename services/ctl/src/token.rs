//! Tokens for participants, as LiveKit's tools make them.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{ArgAction, Subcommand, value_parser};
use livekit_token::{AccessToken, VideoGrants};
use serde_json::json;

use crate::gateway_client::Server;

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes a token that lets one person into one room.
    Create {
        /// The room.
        #[arg(long)]
        room: String,
        /// The person's identity, unique in the room.
        #[arg(long)]
        identity: String,
        /// The name that others see.
        #[arg(long)]
        name: Option<String>,
        /// May look and listen only.
        #[arg(long, action = ArgAction::SetTrue)]
        view_only: bool,
        /// May administer the room.
        #[arg(long, action = ArgAction::SetTrue)]
        admin: bool,
        /// Minutes that it can be used to join, a year at most.
        #[arg(long, default_value_t = 360, value_parser = value_parser!(u64).range(1..=525_600))]
        minutes: u64,
    },
}

/// Carries it out.
pub(crate) fn run(command: &Command, server: &Server, json: bool) -> Result<()> {
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
    let token = AccessToken::with_api_key(&server.api_key, &server.api_secret)
        .with_identity(identity)
        .with_name(name.as_deref().unwrap_or(identity))
        .with_grants(grants)
        .with_ttl(Duration::from_secs(minutes * 60))
        .to_jwt()
        .context("no token can be made of this")?;
    let mut out = std::io::stdout();
    if json {
        writeln!(out, "{}", json!({"token": token, "url": server.url, "room": room, "identity": identity}))?;
    } else {
        writeln!(out, "{token}")?;
    }
    Ok(())
}
