//! Directories: the nodes of an operator.

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;
use systir_documents::DocumentKind;

use crate::gateway_client::GatewayClient;
use crate::{publish, show, signing};

mod edit;
mod new;

/// Subcommands of `systirctl directory`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Starts a directory without nodes, version 1. It is not signed yet.
    New(new::Arguments),
    /// Adds a node or changes one, and raises the version. What is not given stays as it was.
    Add(edit::Node),
    /// Removes a node, and raises the version: nodes that take this version connect to it no more.
    Remove {
        #[command(flatten)]
        file: edit::Target,
        /// The node's name.
        #[arg(long)]
        id: String,
    },
    /// Replaces the certificates of the trust domain's CAs, and raises the version. While one CA replaces another, give both.
    Roots {
        #[command(flatten)]
        file: edit::Target,
        /// Certificates (PEM); may be given several times.
        #[arg(long, value_name = "FILE", required = true)]
        roots: Vec<PathBuf>,
    },
    /// Adds a signature to a directory. Refuses a text that `policy check` refuses.
    Sign {
        /// The file; it becomes a signed note, or gets one more signature.
        file: PathBuf,
        /// The .key file.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// Publishes a signed directory through a gateway; the other nodes fetch it from there.
    Publish {
        /// The signed note.
        file: PathBuf,
    },
    /// Shows operator, version, dates, signers and nodes.
    Show(show::Arguments),
}

/// Runs a `directory` subcommand.
pub(crate) async fn run(command: &Command, gateway: &GatewayClient, json: bool) -> Result<()> {
    match command {
        Command::New(arguments) => new::run(arguments, json),
        Command::Add(arguments) => edit::add(arguments, json),
        Command::Remove { file, id } => edit::remove(file, id, json),
        Command::Roots { file, roots } => edit::roots(file, roots, json),
        Command::Sign { file, key } => signing::sign(file, key, &[DocumentKind::Directory], json),
        Command::Publish { file } => publish::run(file, gateway, json).await,
        Command::Show(arguments) => show::run(arguments, json),
    }
}
