//! Logs and traces: one subscriber for the process. Spans are sent over OTLP when a collector is configured;
//! they hold no participant names, room names or tokens.

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

use crate::config::TelemetrySection;

/// These crates log whole client messages at trace level, which must never be in a log, whatever filter the
/// operator sets.
const LOGS_MESSAGES: [&str; 2] = ["tungstenite", "tokio_tungstenite"];

fn holds_no_message(metadata: &Metadata<'_>) -> bool {
    let crate_name = metadata.target().split("::").next().unwrap_or_default();
    *metadata.level() < Level::TRACE || !LOGS_MESSAGES.contains(&crate_name)
}

/// Keeps the exporter alive; dropping it sends the remaining spans.
#[derive(Debug, Default)]
pub struct TracingGuard(Option<SdkTracerProvider>);

impl Drop for TracingGuard {
    fn drop(&mut self) {
        if let Some(provider) = self.0.take()
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

/// A layer that writes log lines.
type LogLayer<S> = Box<dyn tracing_subscriber::Layer<S> + Send + Sync>;

/// Log lines go to standard error. With a file they go to the file, and warnings and errors also to standard
/// error.
fn log_layers<S>(config: &TelemetrySection, file: Option<File>) -> anyhow::Result<Vec<LogLayer<S>>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let filter = || {
        let filter = EnvFilter::try_new(&config.log).map_err(|error| {
            anyhow::anyhow!("telemetry.log: `{}` is not a valid filter: {error}", config.log)
        });
        filter.map(|filter| filter.and(filter_fn(holds_no_message)))
    };
    let terminal = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let terminal = if config.json { terminal.json().boxed() } else { terminal.with_target(false).boxed() };
    let Some(file) = file else { return Ok(vec![terminal.with_filter(filter()?).boxed()]) };
    let to_file = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(Mutex::new(file));
    let to_file = if config.json { to_file.json().boxed() } else { to_file.boxed() };
    Ok(vec![
        to_file.with_filter(filter()?).boxed(),
        terminal.with_filter(filter()?.and(LevelFilter::WARN)).boxed(),
    ])
}

/// Starts logging and tracing; call it once per process. With `file`, log lines go there, and warnings and
/// errors also to standard error.
///
/// # Errors
/// When the log filter or the collector's address is invalid.
pub fn start(config: &TelemetrySection, node: &str, file: Option<File>) -> anyhow::Result<TracingGuard> {
    let log_layers = log_layers(config, file)?;
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
    // Only spans of Systir's own crates are exported, never log lines. The filters for logs and for traces
    // are independent.
    let own_spans = filter_fn(|metadata| metadata.is_span() && metadata.target().starts_with("systir_"));
    let spans = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("systir-relay"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(own_spans)
    });
    tracing_subscriber::registry().with(spans).with(log_layers).try_init()?;
    Ok(TracingGuard(provider))
}
