//! Measures a Systir node and LiveKit's server with the same clients, one after the other on the same
//! machine, and prints both beside each other and beside the goals. `make compare` runs it.
//!
//! Like `make bench` it never fails because a machine is slow. Each figure is the median of several runs;
//! in each run the servers take turns, so that a slow minute of the machine meets all of them.

mod curves;
mod floor;
mod impaired;
mod joins;
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
use curves::CURVES;
use load::{LOADS, Load};
use servers::{Programs, Server};
use systir_tests::impaired_path::ImpairedPath;
use table::{Figure, Table};

/// The name of the meeting on an impaired link, for --only.
const IMPAIRED: &str = "impaired";
/// The name of the joins of all kinds of clients, for --only.
const JOINS: &str = "joins";

/// Compares a Systir node with LiveKit's server and prints the figures.
#[derive(Debug, Parser)]
struct Options {
    /// Fewer subscribers, and each figure measured once.
    #[arg(long)]
    quick: bool,
    /// Only this part: video, meeting, audio, data, joins or impaired; or a curve, which is measured only when it is
    /// asked for: subscribers, tracks or rooms. Can be repeated.
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
    let mut curves: Vec<_> = CURVES.iter().map(|load| load.name).collect();
    curves.dedup();
    LOADS.iter().map(|load| load.name).chain([JOINS, IMPAIRED]).chain(curves).collect()
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    fn loads(&self) -> Vec<Load> {
        let loads = LOADS.iter().filter(|load| self.wants(load.name));
        let curves = CURVES.iter().filter(|load| self.only.iter().any(|only| only == load.name));
        let size = |load: &Load| if self.quick { load.quick() } else { *load };
        loads.chain(curves).map(size).collect()
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
    let [mut loads, mut joins, mut impaired] = std::array::from_fn(|_| Table::new(&servers));
    for run in 1..=options.runs() {
        for load in options.loads() {
            for server in &servers {
                measured(&mut loads, run, &load.group(), *server, || {
                    runtime.block_on(load.measure(&path, &programs, *server))
                });
            }
            loads.add_floor(&load.group(), load.floor()?);
        }
    }
    for run in 1..=options.runs() {
        for server in servers.iter().filter(|_| options.wants(JOINS)) {
            measured(&mut joins, run, JOINS, *server, || {
                runtime.block_on(joins::measure(&path, &programs, *server))
            });
        }
    }
    for run in 1..=options.runs() {
        for server in servers.iter().filter(|_| options.wants(IMPAIRED)) {
            measured(&mut impaired, run, IMPAIRED, *server, || {
                runtime.block_on(impaired::measure(&path, &programs, *server))
            });
        }
    }
    let tables = [("Load", loads), ("Joins", joins), ("Impaired link", impaired)];
    ensure!(tables.iter().any(|(_, table)| !table.is_empty()), "nothing was measured");
    let mut text = machine.lines();
    for (title, table) in tables.iter().filter(|(_, table)| !table.is_empty()) {
        text.push_str(&format!("\n\n### {title}\n\n{table}"));
    }
    writeln!(std::io::stdout(), "{text}").context("cannot print the figures")
}

/// Measures one server, and says so: it takes a while. A server that fails one part still takes part in the others.
fn measured(
    table: &mut Table,
    run: u16,
    what: &str,
    server: Server,
    measure: impl FnOnce() -> Result<Vec<Figure>>,
) {
    // Ignored, here and below: the terminal may be closed.
    let _ = write!(std::io::stderr(), "run {run}: {what}, {server} ... ");
    let begun = Instant::now();
    let figures = measure();
    let seconds = begun.elapsed().as_secs();
    let _ = match &figures {
        Ok(_) => writeln!(std::io::stderr(), "{seconds} s"),
        Err(error) => writeln!(std::io::stderr(), "failed after {seconds} s: {error:#}"),
    };
    figures.into_iter().flatten().for_each(|figure| table.add(server, figure));
}
