//! An OTLP collector that keeps the spans that nodes send.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};

/// The parts of a span that tests check.
#[derive(Debug, Clone)]
pub struct Span {
    /// The node that sent it.
    pub node: String,
    /// Its name.
    pub name: String,
    /// Its trace id, in hexadecimal.
    pub trace: String,
    /// Its span id, in hexadecimal.
    pub id: String,
    /// The id of its parent span; empty for the root.
    pub parent: String,
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
    /// The whole span as text, with events, links and the resource.
    pub text: String,
}

impl Span {
    /// The value of an attribute; empty when the span does not have it.
    #[must_use]
    pub fn attribute(&self, attribute: &str) -> &str {
        self.attributes.get(attribute).map_or("", String::as_str)
    }
}

/// The collector; it stops with the runtime of the test.
#[derive(Debug, Clone, Default)]
pub struct Collector(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for resource in request.into_inner().resource_spans {
            let of_resource =
                resource.resource.map(|resource| attributes(&resource.attributes)).unwrap_or_default();
            let node = of_resource.get("service.instance.id").cloned().unwrap_or_default();
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                kept.push(Span {
                    node: node.clone(),
                    text: format!("{of_resource:?} {span:?}"),
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    attributes: attributes(&span.attributes),
                    name: span.name,
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Starts it on loopback; returns its URL for `telemetry.otlp`.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn start() -> Result<(Self, String)> {
        let collector = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("http://{}", listener.local_addr()?);
        let service = TraceServiceServer::new(collector.clone());
        let incoming = futures::stream::unfold(listener, |listener| async {
            let accepted = listener.accept().await.map(|(stream, _)| stream);
            Some((accepted, listener))
        });
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
        Ok((collector, address))
    }

    /// All spans received so far.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(pairs: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &AnyValue| match &value.value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::BoolValue(value)) => value.to_string(),
        Some(Value::IntValue(value)) => value.to_string(),
        other => format!("{other:?}"),
    };
    let attribute = |pair: &KeyValue| Some((pair.key.clone(), text(pair.value.as_ref()?)));
    pairs.iter().filter_map(attribute).collect()
}
