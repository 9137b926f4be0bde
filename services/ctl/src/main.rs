//! `systirctl`: what an operator asks and does. It speaks to a front door's HTTP interface with an
//! API key, as LiveKit's tools do, and makes development certificates on its own.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod ask;
mod ca;
mod show;
mod token;

/// The operators' command line of a Systir cluster.
#[derive(Debug, Parser)]
#[command(name = "systirctl", version, about)]
struct Arguments {
    #[command(flatten)]
    server: ask::Server,
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

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
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
        Command::Nodes => show::nodes(&server.get(&["systir", "v1", "nodes"]).await?, json),
        Command::Rooms => show::rooms(&server.get(&["systir", "v1", "rooms"]).await?, json),
        Command::Explain { room } => {
            show::explain(&server.get(&["systir", "v1", "rooms", &room, "explain"]).await?, json)
        }
        Command::Token(command) => token::run(&command, &server, json),
        Command::Ca(command) => ca::run(&command),
    }
}
