//! The spans of a join: one trace over all nodes that take part. A span holds node names, rule ids and reason
//! codes, never the name of a room or a participant, nor anything of a token. Nodes pass the trace on as W3C
//! `traceparent`; none is accepted from clients.

use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use systir_policy::{Action, Decision};
use systir_reason::Refusal;
use tracing::Span;
use tracing::field::{Empty, display};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The only header that nodes send; `tracestate` is not sent.
const HEADER: &str = "traceparent";

#[derive(Default)]
struct OutgoingHeader(String);

impl Injector for OutgoingHeader {
    fn set(&mut self, key: &str, value: String) {
        if key == HEADER {
            self.0 = value;
        }
    }
}

struct IncomingHeader<'a>(&'a str);

impl Extractor for IncomingHeader<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == HEADER).then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec![HEADER]
    }
}

/// The `traceparent` of the current span, for another node; empty when nothing is traced.
pub fn traceparent() -> String {
    let mut header = OutgoingHeader::default();
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut header);
    header.0
}

/// Makes a span a child of the one that another node sent. An invalid `traceparent` is ignored.
pub fn adopt(span: &Span, traceparent: &str) {
    // A `traceparent` has 55 bytes; later versions may append a little.
    if !traceparent.is_empty() && traceparent.len() <= 256 {
        let parent =
            TraceContextPropagator::new().extract_with_context(&Context::new(), &IncomingHeader(traceparent));
        // Fails when tracing is off; then there is no trace to continue.
        let _ = span.set_parent(parent);
    }
    record_id(span);
}

/// Records the trace id on the span, so that log lines contain it.
pub fn record_id(span: &Span) {
    let context = span.context();
    let current = context.span().span_context().clone();
    if current.is_valid() {
        span.record("trace_id", display(current.trace_id()));
    }
}

// Spans of a join have the level ERROR, so that log lines of every level contain the trace id. Whether
// spans are exported depends on `telemetry.otlp` alone.

/// A policy decision for a join.
pub fn decision(node: &str, action: Action, decision: &Decision) {
    // A decision outside a join belongs to no trace; policy's metrics count it.
    if Span::current().is_none() {
        return;
    }
    let span = tracing::error_span!(
        "policy",
        node,
        action = action.as_str(),
        allowed = decision.allowed,
        reason = decision.reason.as_str(),
        rules = rules(decision),
        version = Empty,
    );
    if let Some(version) = &decision.policy_version {
        span.record("version", display(version));
    }
}

/// Rule ids, the deciding one first.
pub fn rules(decision: &Decision) -> String {
    decision.rules.iter().map(|rule| rule.as_str()).collect::<Vec<_>>().join(",")
}

/// The span of a request for a seat, at the gateway.
pub fn reserve(node: &str, role: &str, reason: &str) -> Span {
    tracing::error_span!("reserve", node, role, reason, rules = Empty, outcome = Empty)
}

/// The span of a request for a seat, at the node that is asked.
pub fn asked_for_seat(node: &str, traceparent: &str) -> Span {
    let span = tracing::error_span!(
        parent: None, "seat", node, trace_id = Empty, outcome = Empty, reason = Empty, rules = Empty
    );
    adopt(&span, traceparent);
    span
}

/// The span of another node's request for a room's grant.
pub fn asked_for_grant(node: &str, traceparent: &str) -> Span {
    let span = tracing::error_span!(parent: None, "grant", node, trace_id = Empty);
    adopt(&span, traceparent);
    span
}

/// Records this node's answer to a request for a seat.
pub fn answered<T>(span: &Span, answer: &Result<T, Refusal>) {
    match answer {
        Err(refusal) => {
            span.record("outcome", "refused");
            span.record("reason", refusal.reason.as_str());
            span.record("rules", refusal.rules.join(","));
        }
        Ok(_) => {
            span.record("outcome", "admitted");
        }
    }
}

/// The span of a participant's session at its media node, from its arrival to its join message. It has no
/// parent in this process, because that span would stay open as long.
pub fn session(node: &str, traceparent: &str) -> Span {
    let span = tracing::error_span!(parent: None, "session", node, trace_id = Empty, outcome = Empty);
    adopt(&span, traceparent);
    span
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    fn traced(work: impl FnOnce()) {
        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work);
    }

    #[test]
    fn a_trace_continues_at_the_node_that_receives_it() {
        traced(|| {
            let gateway = tracing::error_span!("gateway", trace_id = Empty);
            let sent = gateway.in_scope(traceparent);
            let there = tracing::error_span!("reserve", trace_id = Empty);
            adopt(&there, &sent);
            let id = |span: &Span| span.context().span().span_context().trace_id();
            assert_eq!(id(&gateway), id(&there));
            assert!(sent.contains(&id(&gateway).to_string()), "{sent}");
        });
    }

    #[test]
    fn an_invalid_traceparent_begins_a_new_trace() {
        traced(|| {
            for sent in ["", "00", "00-zz-yy-01", &"0".repeat(4096), "00-\u{e6}-\u{f8}-\u{e5}"] {
                let span = tracing::error_span!("reserve", trace_id = Empty);
                adopt(&span, sent);
                assert!(span.context().span().span_context().is_valid());
            }
        });
    }

    #[test]
    fn without_a_collector_no_traceparent_is_sent() {
        assert_eq!(tracing::error_span!("gateway").in_scope(traceparent), "");
    }
}
