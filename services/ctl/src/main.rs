//! `systirctl`: what an operator asks and does. It speaks to a gateway's HTTP interface with an
//! API key, as LiveKit's tools do, and makes development certificates on its own.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod ca;
mod gateway_client;
mod tables;
mod token;

const EXIT_CODES: &str = "Exit code: 0 done, 1 it could not be done, 64 the command line makes no sense.";

/// The operators' command line of a Systir cluster.
#[derive(Debug, Parser)]
#[command(name = "systirctl", version, about, after_help = EXIT_CODES)]
struct Arguments {
    #[command(flatten)]
    server: gateway_client::Server,
    /// Print JSON instead of tables.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The nodes of the cluster: where they stand, whose they are, how full.
    Nodes,
    /// The institution's rooms and the nodes that relay them.
    Rooms,
    /// Why a room is where it is: every node, the decision on it and the reason.
    Explain {
        /// The room's name.
        room: String,
    },
    /// Tokens for participants.
    #[command(subcommand)]
    Token(token::Command),
    /// A development certificate authority for the links between nodes.
    #[command(subcommand)]
    Ca(ca::Command),
}

/// `EX_USAGE` of sysexits: the command line makes no sense.
const USAGE: u8 = 64;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // `--help` and `--version` are no errors.
            let status = if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
            let _ = error.print();
            return status;
        }
    };
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("systirctl: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { server, json, command } = arguments;
    match command {
        Command::Nodes => tables::nodes(&server.get(&["systir", "v1", "nodes"]).await?, json),
        Command::Rooms => tables::rooms(&server.get(&["systir", "v1", "rooms"]).await?, json),
        Command::Explain { room } => {
            tables::explain(&server.get(&["systir", "v1", "rooms", &room, "explain"]).await?, json)
        }
        Command::Token(command) => token::run(&command, &server, json),
        Command::Ca(command) => ca::run(&command),
    }
}
