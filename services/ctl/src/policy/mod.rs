//! Policies: bundles of institutions and floors of operators.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;
use systir_documents::DocumentKind;

use crate::gateway_client::GatewayClient;
use crate::{publish, show, signing};

mod build;
mod check;
mod compat;
mod diff;
mod engine;
mod explain;
mod init;
mod looser;
mod page;
mod prove;
mod replay;
mod table;
mod what_if;

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
    /// Asks for an institution's usual policy and writes its profile.
    Init {
        /// File to write; an existing one is not overwritten.
        #[arg(long, value_name = "FILE", default_value = "profile.toml")]
        out: PathBuf,
    },
    /// Prints the JSON schema of a profile, for editors.
    ProfileSchema,
    /// Builds a bundle or a floor from a profile or from its source files. It is not signed yet.
    Build(build::Arguments),
    /// Adds a signature to a bundle or floor. Refuses a text that `policy check` refuses.
    Sign {
        /// The file; it becomes a signed note, or gets one more signature.
        file: PathBuf,
        /// The .key file.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        #[command(flatten)]
        looser: looser::Arguments,
    },
    /// Shows owner, version, dates, signers and rules of a bundle or floor.
    Show {
        #[command(flatten)]
        shown: show::Arguments,
        #[command(flatten)]
        page: page::PageArguments,
    },
    /// Publishes a signed bundle or floor through a gateway; the other nodes fetch it from there. Shows first what it
    /// permits more and less than the version that the gateway uses.
    Publish {
        /// The signed note.
        file: PathBuf,
        #[command(flatten)]
        looser: looser::Arguments,
    },
    /// Proves each guarantee of bundles, floors or profiles, for all rooms and nodes that could ever exist, or shows what is
    /// permitted against it (needs cvc5). Exit code 0 only if all are proved.
    Prove(prove::Arguments),
    /// Shows what a new version permits more and less than an old one, action by action (needs cvc5).
    Diff(diff::Arguments),
    /// Proves that a bundle permits nothing that the floor of another operator, or the guarantees of another institution,
    /// exclude (needs cvc5).
    Compat(compat::Arguments),
    /// Shows the decisions of a bundle, with their rules and sentences.
    Explain(explain::Arguments),
    /// Decides the decisions of a node's journal anew by a new bundle: who would have been refused, let in, or placed
    /// elsewhere. Rooms keep the class that the journal says.
    WhatIf(what_if::Arguments),
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
        Command::Init { out } => init::run(out),
        Command::ProfileSchema => {
            std::io::stdout().write_all(systir_policy_profile::SCHEMA.as_bytes())?;
            Ok(())
        }
        Command::Sign { file, key, looser } => {
            looser.ask_before_signing(file).await?;
            signing::sign(file, key, &KINDS, json)
        }
        Command::Show { shown, page } => match &page.html {
            Some(html) => page::run(&shown.file, &shown.key, page, html, json).await,
            None => show::run(shown, json),
        },
        Command::Publish { file, looser } => {
            looser.ask_before_publishing(file, gateway).await?;
            publish::run(file, gateway, json).await
        }
        Command::Prove(arguments) => prove::run(arguments, json),
        Command::Diff(arguments) => diff::run(arguments, json).await,
        Command::Compat(arguments) => compat::run(arguments, json).await,
        Command::Explain(arguments) => explain::run(arguments, json),
        Command::WhatIf(arguments) => what_if::run(arguments, json),
        Command::Test { table } => table::run(table, json),
    }
}
