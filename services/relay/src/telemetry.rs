//! Logs and traces: one subscriber for the process. Spans leave over OTLP when a collector is
//! named; names of people and rooms, and tokens, are in none of them.

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::config::Telemetry;

/// These print what people say to the relay, whole, at their lowest level; a log may not have it,
/// whatever filter the operator writes.
const TALKATIVE: [&str; 2] = ["tungstenite", "tokio_tungstenite"];

fn names_nobody(metadata: &Metadata<'_>) -> bool {
    let crate_name = metadata.target().split("::").next().unwrap_or_default();
    *metadata.level() < Level::TRACE || !TALKATIVE.contains(&crate_name)
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

/// Starts logging; call it once.
///
/// # Errors
/// When the filter or the collector's address cannot be understood.
pub fn start(config: &Telemetry, node: &str) -> anyhow::Result<Guard> {
    let filter = EnvFilter::try_new(&config.log)
        .map_err(|error| anyhow::anyhow!("telemetry.log: `{}` is no filter: {error}", config.log))?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = if config.json { lines.json().boxed() } else { lines.with_target(false).boxed() };
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
    tracing_subscriber::registry()
        .with(spans)
        .with(lines.with_filter(filter.and(filter_fn(names_nobody))))
        .try_init()?;
    Ok(Guard(provider))
}
