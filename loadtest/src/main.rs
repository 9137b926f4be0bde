//! `systir-load`: the command line of the load generator.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use owo_colors::{OwoColorize, Stream};
use systir_load::{Config, Progress, Report, run_with};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Exit code for an invalid command line (`EX_USAGE`).
const USAGE: u8 = 64;
/// Exit code when some participants were refused or did not stay.
const INCOMPLETE: u8 = 2;
/// Exit code after a second Ctrl-C: 128 + SIGINT, as shells report it.
const INTERRUPTED: i32 = 130;

fn main() -> ExitCode {
    let config = match Config::try_parse() {
        Ok(config) => config,
        Err(error) => {
            // clap prints help and version to standard output, errors to standard error.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    if let Err(error) = config.check() {
        print_error(&error);
        return ExitCode::from(USAGE);
    }
    match start(config) {
        Ok(report) if report.joined == 0 => ExitCode::FAILURE,
        Ok(report) if !report.refused.is_empty() || !report.ended.is_empty() => ExitCode::from(INCOMPLETE),
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&error);
            ExitCode::FAILURE
        }
    }
}

fn start(config: Config) -> anyhow::Result<Report> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = config.threads {
        runtime.worker_threads(threads.max(1));
    }
    let runtime = runtime.enable_all().build().context("cannot start threads")?;
    let json = config.json;
    let cancel = CancellationToken::new();
    let interrupt = cancel.clone();
    runtime.spawn(async move {
        let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => if interrupted.is_err() { return },
            _ = terminate.recv() => {}
        }
        interrupt.cancel();
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(INTERRUPTED);
        }
    });
    let bar = Bar::new(config.participants, json);
    let report = runtime.block_on(run_with(config, cancel, |progress| bar.show(progress)))?;
    bar.0.finish_and_clear();
    let text = if json { serde_json::to_string_pretty(&report)? } else { report.table() };
    writeln!(std::io::stdout(), "{text}").context("cannot print the result")?;
    Ok(report)
}

fn print_error(error: &anyhow::Error) {
    let mut stderr = std::io::stderr();
    let label = "error:".if_supports_color(Stream::Stderr, |text| text.red()).to_string();
    // There is no other place to report a closed terminal.
    let _ = writeln!(stderr, "{label} {error:#}");
}

struct Bar(ProgressBar);

impl Bar {
    fn new(participants: usize, quiet: bool) -> Self {
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(participants as u64), target);
        bar.set_style(style("{msg:9} {bar:40} {pos}/{len} participants, {elapsed}"));
        bar.set_message("joining");
        Self(bar)
    }

    fn show(&self, progress: Progress) {
        let bar = &self.0;
        match progress {
            Progress::Joined => bar.inc(1),
            Progress::Refused { identity, reason } => {
                bar.inc(1);
                let label = "refused".if_supports_color(Stream::Stderr, |text| text.yellow()).to_string();
                let line = format!("{label} {identity}: {reason}");
                if std::io::stderr().is_terminal() && !bar.is_hidden() {
                    bar.println(line);
                } else {
                    let _ = writeln!(std::io::stderr(), "{line}");
                }
            }
            Progress::Measuring(Some(length)) => {
                bar.set_style(style("{msg:9} {bar:40} {pos}/{len} s{prefix}"));
                bar.set_length(whole_seconds(length));
                bar.set_position(0);
                bar.set_message("measuring");
            }
            Progress::Measuring(None) => {
                bar.set_style(style("{msg:9} {spinner} {pos} s{prefix}, Ctrl-C to end"));
                bar.set_position(0);
                bar.set_message("measuring");
            }
            Progress::Measured { elapsed, tracks } => {
                bar.set_position(whole_seconds(elapsed));
                bar.set_prefix(format!(", {} of {} tracks", tracks.received, tracks.expected));
            }
            Progress::Leaving => bar.set_message("leaving"),
        }
    }
}

fn whole_seconds(time: Duration) -> u64 {
    time.as_secs_f64().round() as u64
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
