//! Policies: bundles of institutions and floors of operators.

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;
use systir_documents::DocumentKind;

use crate::gateway_client::GatewayClient;
use crate::{publish, show, signing};

mod build;
mod check;
mod engine;
mod explain;
mod table;

pub(crate) use engine::rules;

/// Subcommands of `systirctl policy`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Checks documents as a node does that loads them.
    Check {
        /// Bundles, floors or directories, signed or not.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// The floor of the operator on whose nodes the bundles will be used.
        #[arg(long, value_name = "FILE")]
        floor: Option<PathBuf>,
    },
    /// Builds a bundle or a floor from its source files. It is not signed yet.
    Build(build::Arguments),
    /// Adds a signature to a bundle or floor. Refuses a text that `policy check` refuses.
    Sign {
        /// The file; it becomes a signed note, or gets one more signature.
        file: PathBuf,
        /// The .key file.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// Shows owner, version, dates, signers and rules of a bundle or floor.
    Show(show::Arguments),
    /// Publishes a signed bundle or floor through a gateway; the other nodes fetch it from there.
    Publish {
        /// The signed note.
        file: PathBuf,
    },
    /// Shows the decisions of a bundle, with their rules and sentences.
    Explain(explain::Arguments),
    /// Compares decisions with a table of expected ones (TOML).
    Test {
        /// The table.
        table: PathBuf,
    },
}

/// Runs a `policy` subcommand.
pub(crate) async fn run(command: &Command, gateway: &GatewayClient, json: bool) -> Result<()> {
    const KINDS: [DocumentKind; 2] = [DocumentKind::Bundle, DocumentKind::Floor];
    match command {
        Command::Check { files, floor } => check::run(files, floor.as_deref(), json),
        Command::Build(arguments) => build::run(arguments, json),
        Command::Sign { file, key } => signing::sign(file, key, &KINDS, json),
        Command::Show(arguments) => show::run(arguments, json),
        Command::Publish { file } => publish::run(file, gateway, json).await,
        Command::Explain(arguments) => explain::run(arguments, json),
        Command::Test { table } => table::run(table, json),
    }
}
