//! `systir-relay`: one node, or three of them for a demonstration.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use systir_relay::config::{Config, ConfigError, Fault};
use systir_relay::{demo, node, startup_files, telemetry};
use tokio_util::sync::CancellationToken;

/// A node of a cascading media relay cluster.
#[derive(Debug, Parser)]
#[command(name = "systir-relay", version, about, args_conflicts_with_subcommands = true)]
struct Arguments {
    /// The node's configuration (TOML); each field is also SYSTIR_<SECTION>__<FIELD>.
    #[arg(long, env = "SYSTIR_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Says what is wrong with a configuration, and where; starts nothing.
    Check {
        /// The configuration.
        #[arg(long, env = "SYSTIR_CONFIG", value_name = "FILE")]
        config: PathBuf,
    },
    /// Three nodes on loopback with an embedded registry, or one of them; Ctrl-C ends all.
    Demo(demo::Options),
}

/// `EX_USAGE` of sysexits: the configuration or the command line cannot be used.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // `--help` and `--version` are no errors.
            let status = if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
            let _ = error.print();
            return status;
        }
    };
    match arguments.command {
        Some(Command::Check { config }) => match checked(&config) {
            Ok((_, gaps)) => {
                for gap in gaps {
                    eprintln!("warning: {gap}");
                }
                eprintln!("{}: fine", config.display());
                ExitCode::SUCCESS
            }
            Err(what) => complain(&what, USAGE),
        },
        Some(Command::Demo(options)) => match demo::open_log(&options.log_file()) {
            Ok(log) => run(demo::telemetry(), "demo", Some(log), |stop| demo::run(options, stop)),
            Err(error) => complain(&format!("{error:#}"), 1),
        },
        None => {
            let Some(file) = arguments.config else {
                return complain("--config FILE is needed (or `demo`); see --help", USAGE);
            };
            let (config, gaps) = match checked(&file) {
                Ok(checked) => checked,
                Err(what) => return complain(&what, USAGE),
            };
            let name = config.node.name.clone();
            run(config.telemetry.clone(), &name, None, |stop| {
                for gap in gaps {
                    tracing::warn!("{gap}");
                }
                node::run(config, stop)
            })
        }
    }
}

/// A configuration whose every file was looked at and what should be known of it, or what is wrong
/// and where.
fn checked(file: &Path) -> Result<(Config, Vec<String>), String> {
    let config = Config::load(file).map_err(|error| error.to_string())?;
    let gaps = startup_files::dry_run(&config).map_err(|error| match error.downcast::<Fault>() {
        Ok(fault) => ConfigError::locate(file, fault).to_string(),
        Err(error) => format!("{}: {error:#}", file.display()),
    })?;
    Ok((config, gaps))
}

fn complain(what: &str, status: u8) -> ExitCode {
    eprintln!("systir-relay: {what}");
    ExitCode::from(status)
}

/// Logging on, then the work until it ends or a signal asks it to, then what is left of the spans.
fn run<F, W>(telemetry: systir_relay::config::Telemetry, name: &str, log: Option<File>, work: W) -> ExitCode
where
    W: FnOnce(CancellationToken) -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("no runtime: {error}"), 71),
    };
    let ended = runtime.block_on(async {
        let guard = telemetry::start(&telemetry, name, log)?;
        let stop = CancellationToken::new();
        let asked = tokio::spawn(wait_for_signal(stop.clone()));
        let ended = work(stop).await;
        asked.abort();
        drop(guard);
        ended
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&format!("{error:#}"), 1),
    }
}

async fn wait_for_signal(stop: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = match signal(SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(error) => {
            tracing::warn!(%error, "SIGTERM cannot be handled; only Ctrl-C ends this process in good order");
            let _ = tokio::signal::ctrl_c().await;
            stop.cancel();
            return;
        }
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    tracing::info!("asked to stop");
    stop.cancel();
}
