//! Starts a directory.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use systir_documents::{Directory, Lifetime};

use crate::dates;
use crate::directory::edit::{read_roots, write};

/// Arguments of `systirctl directory new`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The operator, such as nordunet.
    #[arg(long)]
    operator: String,
    /// The trust domain of its nodes, such as nordu.net.
    #[arg(long)]
    trust_domain: String,
    /// The country from which the operator can be compelled, such as DK.
    #[arg(long, value_name = "COUNTRY")]
    controlled_from: String,
    /// The certificates of the trust domain's CAs (PEM); may be given several times.
    #[arg(long, value_name = "FILE", required = true)]
    roots: Vec<PathBuf>,
    /// After this date no new rooms and no new nodes in rooms, until a newer version comes.
    #[arg(long, value_name = "DATE", value_parser = dates::parse)]
    renew_by: u64,
    /// After this date nothing is allowed on the nodes, until a newer version comes.
    #[arg(long, value_name = "DATE", value_parser = dates::parse)]
    not_after: u64,
    /// File to write; an existing one is not overwritten.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Writes version 1, without nodes.
pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    let Arguments { renew_by, not_after, .. } = *arguments;
    if arguments.out.exists() {
        bail!(
            "{} exists: it is not overwritten; change it with `systirctl directory add`",
            arguments.out.display()
        );
    }
    let directory = Directory {
        operator: arguments.operator.clone(),
        trust_domain: arguments.trust_domain.clone(),
        controlled_from: arguments.controlled_from.clone(),
        version: 1,
        lifetime: Lifetime { issued: dates::now(), renew_by, not_after },
        roots: read_roots(&arguments.roots)?,
        nodes: Vec::new(),
    };
    write(&arguments.out, directory, json)
}
