//! etcd: which node may read and write which records.

use anyhow::Result;
use clap::Subcommand;

mod node_config;
mod node_role;
mod roles;
mod script;

/// Subcommands of `systirctl etcd`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Prints a shell script of etcdctl commands that make one user and one role for each node of the operator: what
    /// the policies approve, and nothing else. Run it again after each change of policy.
    Roles(roles::Arguments),
}

/// Runs an `etcd` subcommand.
pub(crate) fn run(command: &Command, json: bool) -> Result<()> {
    match command {
        Command::Roles(arguments) => roles::run(arguments, json),
    }
}
