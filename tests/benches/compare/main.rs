//! Measures a Systir node and LiveKit's server with the same clients, one after the other on the same
//! machine, and prints both beside each other and beside the goals. `make compare` runs it.
//!
//! Like `make bench` it never fails because a machine is slow. Each figure is the median of several runs;
//! in each run the servers take turns, so that a slow minute of the machine meets all of them.

mod floor;
mod impaired;
mod load;
#[path = "../figures/machine.rs"]
mod machine;
#[path = "../figures/proc.rs"]
mod proc;
mod servers;
mod table;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use clap::builder::PossibleValuesParser;
use load::LOADS;
use servers::{Programs, Server};
use systir_tests::impaired_path::ImpairedPath;
use table::Table;

/// The name of the meeting on an impaired link, for --only.
const IMPAIRED: &str = "impaired";

/// Compares a Systir node with LiveKit's server and prints the figures.
#[derive(Debug, Parser)]
struct Options {
    /// Fewer subscribers, and each figure measured once.
    #[arg(long)]
    quick: bool,
    /// Only this part: video, meeting, audio, data or impaired. Can be repeated.
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(names()))]
    only: Vec<String>,
    /// Only this server: systir, livekit (its defaults) or tuned. Can be repeated.
    #[arg(long, value_name = "SERVER", value_parser = PossibleValuesParser::new(Server::ALL.map(Server::option)))]
    server: Vec<String>,
    /// Runs of each part [default: 3, with --quick 1]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=20))]
    runs: Option<u16>,
    /// The relay's program; its profile decides what the figures say.
    #[arg(long, value_name = "FILE", default_value = "target/release/systir-relay")]
    relay: PathBuf,
    /// LiveKit's server.
    #[arg(long, value_name = "FILE", default_value = "target/compare/server")]
    livekit: PathBuf,
    /// The Go client, optimised.
    #[arg(long, value_name = "FILE", default_value = "target/compare/client")]
    client: PathBuf,
    /// Cargo passes it to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

fn names() -> Vec<&'static str> {
    LOADS.iter().map(|load| load.name).chain([IMPAIRED]).collect()
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    fn servers(&self) -> Vec<Server> {
        let wanted = |server: &Server| {
            self.server.is_empty() || self.server.iter().any(|only| only == server.option())
        };
        Server::ALL.into_iter().filter(wanted).collect()
    }

    fn runs(&self) -> u16 {
        self.runs.unwrap_or(if self.quick { 1 } else { 3 })
    }

    /// The programs, from the workspace's folder: benchmarks run in that of their crate.
    fn programs(&self) -> Result<Programs> {
        let workspace = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
        let find = |file: &PathBuf| {
            let path = workspace.join(file);
            path.canonicalize().with_context(|| format!("{} is missing: run `make compare`", file.display()))
        };
        let livekit = if self.servers().iter().all(|server| *server == Server::Systir) {
            self.livekit.clone()
        } else {
            find(&self.livekit)?
        };
        Ok(Programs { relay: find(&self.relay)?, livekit, client: find(&self.client)? })
    }
}

fn main() -> ExitCode {
    match measure(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Ignored: the terminal may be closed.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<()> {
    let (programs, servers) = (options.programs()?, options.servers());
    let machine = machine::Machine::read(&programs.relay)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let path = ImpairedPath::new()?;
    let (mut loads, mut impaired) = (Table::new(&servers), Table::new(&servers));
    for run in 1..=options.runs() {
        for load in LOADS.iter().filter(|load| options.wants(load.name)) {
            let load = if options.quick { load.quick() } else { *load };
            for server in &servers {
                let begun = progress(run, load.name, *server);
                let figures = runtime.block_on(load.measure(&path, &programs, *server));
                done(begun, &figures);
                figures.into_iter().flatten().for_each(|figure| loads.add(*server, figure));
            }
            loads.add_floor(load.name, load.floor()?);
        }
    }
    for run in 1..=options.runs() {
        for server in servers.iter().filter(|_| options.wants(IMPAIRED)) {
            let begun = progress(run, IMPAIRED, *server);
            let figures = runtime.block_on(impaired::measure(&path, &programs, *server));
            done(begun, &figures);
            figures.into_iter().flatten().for_each(|figure| impaired.add(*server, figure));
        }
    }
    ensure!(!(loads.is_empty() && impaired.is_empty()), "nothing was measured");
    let mut text = machine.lines();
    for (title, table) in [("Load", loads), ("Impaired link", impaired)] {
        if !table.is_empty() {
            text.push_str(&format!("\n\n### {title}\n\n{table}"));
        }
    }
    writeln!(std::io::stdout(), "{text}").context("cannot print the figures")
}

/// Announces a measurement that takes a while.
fn progress(run: u16, what: &str, server: Server) -> Instant {
    let _ = write!(std::io::stderr(), "run {run}: {what}, {server} ... ");
    Instant::now()
}

/// The end of a measurement. A server that fails one still takes part in the others.
fn done<T>(begun: Instant, figures: &Result<T>) {
    let seconds = begun.elapsed().as_secs();
    let _ = match figures {
        Ok(_) => writeln!(std::io::stderr(), "{seconds} s"),
        Err(error) => writeln!(std::io::stderr(), "failed after {seconds} s: {error:#}"),
    };
}
