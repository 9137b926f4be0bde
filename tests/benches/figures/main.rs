//! Measures the target figures of the project and prints them beside their goals: real relays, a
//! real etcd, synthetic participants of the load generator. `make bench` runs it.
//!
//! It is a benchmark, not a test: it never fails because a machine is slow. It prints the measured
//! values, the machine and the build profile.

mod attacks;
mod etcd_faults;
mod etcd_writes;
mod figure;
mod host;
mod link_hop;
mod machine;
mod one_node;
mod phases;
mod plain_send;
mod policy;
mod policy_change;
mod proc;
mod spill_joins;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use figure::{Figure, Report};
use systir_tests::cluster::Cluster;
use systir_tests::etcd::Etcd;
use systir_tests::process::{built, port_block};

/// Measures the figures of a cluster on this machine and prints them beside their goals.
#[derive(Debug, Parser)]
struct Options {
    /// Prints JSON.
    #[arg(long)]
    json: bool,
    /// Length of each measurement, seconds.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Participants on the node whose costs are measured; a fifth of them publish.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(5..=500))]
    participants: u16,
    /// Measures instead how long the cluster takes to recover after each fault of etcd.
    #[arg(long)]
    faults: bool,
    /// Measures instead what attacks from outside cost others.
    #[arg(long)]
    attacks: bool,
    /// Measures only how long a new bundle takes to be enforced.
    #[arg(long)]
    policy_change: bool,
    /// Cargo passes it to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match measure(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Ignored: the terminal may be closed.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let machine = machine::Machine::read(&built("systir-relay")?)?;
    if options.faults {
        let figures = runtime.block_on(etcd_faults::measure(progress))?;
        return print(options, Report { machine, figures });
    }
    if options.attacks {
        return runtime.block_on(attacks(options, &machine));
    }
    if options.policy_change {
        let figures = runtime.block_on(policy_change())?;
        return print(options, Report { machine, figures });
    }
    let mut figures: Vec<Figure> = Vec::new();
    progress("policy decisions");
    figures.extend(policy::measure()?);
    let plain = plain_send::measure()?;
    runtime.block_on(async {
        let participants = u32::from(options.participants);
        {
            let (etcd, cluster) = cluster(&[("cph-1", participants + 30), ("sto-1", 30)]).await?;
            progress("one node: joins, processor time, memory");
            figures.extend(one_node::measure(&cluster, participants as usize, options.seconds).await?);
            figures.push(plain);
            progress("joins to an assigned room");
            figures.extend(etcd_writes::measure(&cluster, &etcd.url()).await?);
        }
        {
            let (mut etcd, cluster) = cluster(&[("cph-1", 1), ("sto-1", 60)]).await?;
            progress("joins that spill over, with and without etcd");
            figures.extend(spill_joins::measure(&cluster, &mut etcd).await?);
        }
        let near = link_hop::NEAR as u32;
        {
            let (_etcd, cluster) = cluster(&[("cph-1", near), ("sto-1", 30)]).await?;
            progress("a link between two nodes");
            figures.extend(link_hop::measure(&cluster, options.seconds).await?);
        }
        figures.extend(policy_change().await?);
        anyhow::Ok(())
    })?;
    print(options, Report { machine, figures })
}

async fn attacks(options: &Options, machine: &machine::Machine) -> Result<()> {
    let (_etcd, cluster) = cluster(&[("cph-1", 200), ("sto-1", 30)]).await?;
    let rows = attacks::measure(&cluster, options.seconds, progress).await?;
    let text = if options.json {
        serde_json::to_string_pretty(&rows)?
    } else {
        format!("{}\n{}", machine.lines(), attacks::table(&rows))
    };
    writeln!(std::io::stdout(), "{text}").context("cannot print the figures")
}

async fn policy_change() -> Result<Vec<Figure>> {
    let rooms = policy_change::ROOMS as u32;
    let (_etcd, cluster) = cluster(&[("cph-1", rooms), ("sto-1", rooms)]).await?;
    progress("a new bundle in 200 rooms");
    policy_change::measure(&cluster).await
}

fn progress(what: &str) {
    let _ = writeln!(std::io::stderr(), "measuring: {what}");
}

fn print(options: &Options, report: Report) -> Result<()> {
    let text = if options.json { serde_json::to_string_pretty(&report)? } else { report.table() };
    writeln!(std::io::stdout(), "{text}").context("cannot print the figures")
}

/// Three relays, a process each, and an etcd.
async fn cluster(capacities: &[(&str, u32)]) -> Result<(Etcd, Cluster)> {
    let base = port_block()?;
    let etcd = Etcd::start(base + 20).await?;
    let cluster = Cluster::with_etcd(&etcd.url(), base, capacities).await?;
    Ok((etcd, cluster))
}
