//! `systirctl`, the command line for operators. It calls a gateway's HTTP API with an API key, as LiveKit's
//! tools do. Tokens, development certificates, keys and signed documents are made locally.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod audit;
mod ca;
mod dates;
mod directory;
mod doctor;
mod document_file;
mod drain;
mod etcd;
mod files;
mod gateway_client;
mod journal_files;
mod key;
mod newest;
mod policy;
mod publish;
mod residency;
mod show;
mod signing;
mod tables;
mod token;

const EXIT_CODES: &str = "Exit codes: 0 success, 1 failure, 64 invalid command line.";

/// Command line for operators of a Systir cluster.
#[derive(Debug, Parser)]
#[command(name = "systirctl", version, about, after_help = EXIT_CODES)]
struct Arguments {
    #[command(flatten)]
    gateway: gateway_client::GatewayClient,
    /// Print JSON instead of tables.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lists the nodes of the cluster: site, country, operator, host, participants and state.
    Nodes,
    /// Lists the institution's rooms and their nodes.
    Rooms,
    /// Explains a room's placement: every node, the policy decision on it and the reason.
    Explain {
        /// The room's name.
        room: String,
    },
    /// Shows which nodes relay a room, where, and who controls them; checks that they are in given countries.
    Where(residency::Arguments),
    /// Empties a node before it is stopped: its participants are asked to reconnect to approved nodes with free seats.
    /// Shows the progress until nobody is left, or until the deadline.
    Drain(drain::Arguments),
    /// Ends a drain: the node admits participants and rooms again.
    Undrain {
        /// The node, whose URL --url gives.
        node: String,
    },
    /// Shows the decisions in journals of nodes: what was let in, what was kept out, and why.
    Audit(audit::Arguments),
    /// Checks a node and its machine, whether the node runs or not: configuration, documents, certificates, keys, addresses,
    /// ports, limits of the kernel, clock, etcd, other nodes. Says what is wrong and what to do.
    Doctor(doctor::Arguments),
    /// Lists the signed documents that a gateway uses: versions, dates, signers.
    Documents,
    /// Creates tokens for participants.
    #[command(subcommand)]
    Token(token::Command),
    /// Creates keys that sign documents, and keys of nodes.
    #[command(subcommand)]
    Key(key::Command),
    /// Builds, checks, signs and shows policies: an institution's bundle, an operator's floor.
    #[command(subcommand)]
    Policy(policy::Command),
    /// Changes, signs and shows an operator's directory of nodes.
    #[command(subcommand)]
    Directory(directory::Command),
    /// Makes etcd's users and roles.
    #[command(subcommand)]
    Etcd(etcd::Command),
    /// Runs a development certificate authority for links between nodes.
    #[command(subcommand)]
    Ca(ca::Command),
}

/// `EX_USAGE` of sysexits.h: invalid command line.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("systirctl: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let status = runtime.block_on(answer());
    // A file system that does not answer holds up no command that has answered.
    runtime.shutdown_background();
    status
}

async fn answer() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // `--help` and `--version` are not errors.
            let status = if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
            let _ = error.print();
            return status;
        }
    };
    match run(arguments).await {
        Ok(status) => status,
        Err(error) => {
            // Errors quote files and answers of others.
            eprintln!("systirctl: {}", tables::printable_lines(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { gateway, json, command } = arguments;
    let done = match command {
        Command::Doctor(arguments) => return doctor::run(&arguments, json).await,
        Command::Nodes => tables::nodes(&gateway.get(&["systir", "v1", "nodes"]).await?, json),
        Command::Rooms => tables::rooms(&gateway.get(&["systir", "v1", "rooms"]).await?, json),
        Command::Explain { room } => {
            tables::explain(&gateway.get(&["systir", "v1", "rooms", &room, "explain"]).await?, json)
        }
        Command::Where(arguments) => residency::run(&arguments, &gateway, json).await,
        Command::Drain(arguments) => drain::run(&arguments, &gateway, json).await,
        Command::Undrain { node } => drain::undo(&node, &gateway, json).await,
        Command::Audit(arguments) => audit::run(&arguments, json),
        Command::Documents => tables::documents(&gateway.get(&["systir", "v1", "documents"]).await?, json),
        Command::Token(command) => token::run(&command, &gateway, json),
        Command::Key(command) => key::run(&command, json),
        Command::Policy(command) => policy::run(&command, &gateway, json).await,
        Command::Directory(command) => directory::run(&command, &gateway, json).await,
        Command::Etcd(command) => etcd::run(&command, json),
        Command::Ca(command) => ca::run(&command),
    };
    done.map(|()| ExitCode::SUCCESS)
}
