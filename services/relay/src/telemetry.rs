//! Logs and traces: one subscriber for the process. Spans leave over OTLP when a collector is
//! named; names of participants and rooms, and tokens, are in none of them.

use std::fs::File;
use std::io::IsTerminal as _;
use std::sync::Mutex;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterExt as _, LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::config::Telemetry;

/// These crates log clients' messages whole at their lowest level; a log must not hold them, whatever
/// filter the operator writes.
const VERBOSE: [&str; 2] = ["tungstenite", "tokio_tungstenite"];

fn holds_no_message(metadata: &Metadata<'_>) -> bool {
    let crate_name = metadata.target().split("::").next().unwrap_or_default();
    *metadata.level() < Level::TRACE || !VERBOSE.contains(&crate_name)
}

/// Keeps the exporter alive; dropping it sends what is left.
#[derive(Debug, Default)]
pub struct Guard(Option<SdkTracerProvider>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(provider) = self.0.take()
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

/// Log lines on their way out.
type Lines<S> = Box<dyn tracing_subscriber::Layer<S> + Send + Sync>;

/// Lines go to standard error; with a file they go there, and to standard error from warnings on.
fn lines<S>(config: &Telemetry, file: Option<File>) -> anyhow::Result<Vec<Lines<S>>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let filter = || {
        let filter = EnvFilter::try_new(&config.log)
            .map_err(|error| anyhow::anyhow!("telemetry.log: `{}` is no filter: {error}", config.log));
        filter.map(|filter| filter.and(filter_fn(holds_no_message)))
    };
    let terminal = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let terminal = if config.json { terminal.json().boxed() } else { terminal.with_target(false).boxed() };
    let Some(file) = file else { return Ok(vec![terminal.with_filter(filter()?).boxed()]) };
    let written = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(Mutex::new(file));
    let written = if config.json { written.json().boxed() } else { written.boxed() };
    Ok(vec![
        written.with_filter(filter()?).boxed(),
        terminal.with_filter(filter()?.and(LevelFilter::WARN)).boxed(),
    ])
}

/// Starts logging; call it once. Lines go to `file` when there is one, and warnings to standard error
/// as well.
///
/// # Errors
/// When the filter or the collector's address cannot be understood.
pub fn start(config: &Telemetry, node: &str, file: Option<File>) -> anyhow::Result<Guard> {
    let lines = lines(config, file)?;
    let provider = match &config.otlp {
        None => None,
        Some(address) => {
            let exporter = opentelemetry_otlp::SpanExporter::builder()
                .with_tonic()
                .with_endpoint(address)
                .build()
                .map_err(|error| {
                    anyhow::anyhow!("telemetry.otlp: spans cannot be sent to {address}: {error}")
                })?;
            let resource = opentelemetry_sdk::Resource::builder()
                .with_service_name("systir-relay")
                .with_attribute(opentelemetry::KeyValue::new("service.instance.id", node.to_owned()))
                .build();
            Some(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
        }
    };
    // Only spans of ours leave the machine, never log lines: what a span may hold is written down in
    // one place. What is logged and what is traced do not depend on each other.
    let ours = filter_fn(|metadata| metadata.is_span() && metadata.target().starts_with("systir_"));
    let spans = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("systir-relay"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(ours)
    });
    tracing_subscriber::registry().with(spans).with(lines).try_init()?;
    Ok(Guard(provider))
}
