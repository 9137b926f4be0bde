//! `systir-relay`: runs one node, checks a configuration, or runs the demo cluster.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use systir_relay::config::{ConfigError, FieldError, RelayConfig};
use systir_relay::node::StopSignals;
use systir_relay::{demo, dry_run, node, telemetry};

/// A node of a cascading SFU cluster.
#[derive(Debug, Parser)]
#[command(name = "systir-relay", version, about, args_conflicts_with_subcommands = true)]
struct Arguments {
    /// Configuration file of the node (TOML); each field is also SYSTIR_<SECTION>__<FIELD> in the
    /// environment.
    #[arg(long, env = "SYSTIR_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<CliCommand>,
}

#[derive(Debug, Subcommand)]
enum CliCommand {
    /// Checks a configuration and its files, reports errors with their place; starts nothing.
    Check {
        /// Configuration file to check.
        #[arg(long, env = "SYSTIR_CONFIG", value_name = "FILE")]
        config: PathBuf,
    },
    /// Runs three nodes on loopback with an embedded registry, or one of them; Ctrl-C stops all.
    Demo(demo::DemoOptions),
}

/// `EX_USAGE` of sysexits.h: the configuration or the command line is invalid.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // clap reports `--help` and `--version` as errors; they exit with 0.
            let status = if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
            let _ = error.print();
            return status;
        }
    };
    match arguments.command {
        Some(CliCommand::Check { config }) => match checked(&config) {
            Ok((_, warnings)) => {
                for warning in warnings {
                    eprintln!("warning: {warning}");
                }
                eprintln!("{}: valid", config.display());
                ExitCode::SUCCESS
            }
            Err(problem) => fail(&problem, USAGE),
        },
        Some(CliCommand::Demo(options)) => match demo::open_log(&options.log_file()) {
            Ok(log) => run(demo::telemetry(), "demo", Some(log), |signals| demo::run(options, signals.first)),
            Err(error) => fail(&format!("{error:#}"), 1),
        },
        None => {
            let Some(file) = arguments.config else {
                return fail("--config FILE or the command `demo` is required; see --help", USAGE);
            };
            let (config, warnings) = match checked(&file) {
                Ok(checked) => checked,
                Err(problem) => return fail(&problem, USAGE),
            };
            let name = config.node.name.clone();
            run(config.telemetry.clone(), &name, None, |signals| {
                for warning in warnings {
                    tracing::warn!("{warning}");
                }
                node::run(config, file, signals)
            })
        }
    }
}

/// Loads and checks a configuration with all its files. Returns it with warnings, or the error with its
/// place.
fn checked(file: &Path) -> Result<(RelayConfig, Vec<String>), String> {
    let config = RelayConfig::load(file).map_err(|error| error.to_string())?;
    let warnings = dry_run::dry_run(&config, file).map_err(|error| match error.downcast::<FieldError>() {
        Ok(error) => ConfigError::locate(file, error).to_string(),
        Err(error) => format!("{}: {error:#}", file.display()),
    })?;
    Ok((config, warnings))
}

fn fail(problem: &str, status: u8) -> ExitCode {
    eprintln!("systir-relay: {problem}");
    ExitCode::from(status)
}

/// Starts logging, runs `work` until it ends or a signal stops it, and sends the remaining spans.
fn run<F, W>(
    telemetry: systir_relay::config::TelemetrySection,
    name: &str,
    log: Option<File>,
    work: W,
) -> ExitCode
where
    W: FnOnce(StopSignals) -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("the tokio runtime cannot start: {error}"), 71),
    };
    let ended = runtime.block_on(async {
        let guard = telemetry::start(&telemetry, name, log)?;
        let signals = StopSignals::default();
        let waiting = tokio::spawn(wait_for_signals(signals.clone()));
        let ended = work(signals).await;
        waiting.abort();
        drop(guard);
        ended
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("{error:#}"), 1),
    }
}

/// Waits for two signals: SIGTERM, or Ctrl-C.
async fn wait_for_signals(signals: StopSignals) {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())
        .inspect_err(|error| {
            tracing::warn!(%error, "SIGTERM cannot be handled; only Ctrl-C stops this process cleanly");
        })
        .ok();
    for stop in [signals.first, signals.second] {
        let terminated = async {
            match &mut terminate {
                Some(terminate) => drop(terminate.recv().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = terminated => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        tracing::info!("stopping after a signal");
        stop.cancel();
    }
}
