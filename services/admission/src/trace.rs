//! One trace for one join, over every node that it touches. A span says which node, which rule and
//! which reason code; it never holds the name of a room or a person, nor anything of a token.
//! Between nodes the trace travels as W3C `traceparent`; from clients none is taken.

use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use systir_policy::{Action, Decision};
use systir_proto::cluster::v1::ReserveReply;
use systir_proto::cluster::v1::reserve_reply::Result as Reserved;
use tracing::Span;
use tracing::field::{Empty, display};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::reason::Reason;

/// The one header that travels.
const HEADER: &str = "traceparent";

#[derive(Default)]
struct Carrier(String);

impl Injector for Carrier {
    fn set(&mut self, key: &str, value: String) {
        if key == HEADER {
            self.0 = value;
        }
    }
}

struct Carried<'a>(&'a str);

impl Extractor for Carried<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == HEADER).then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec![HEADER]
    }
}

/// What another node is told of the current span; empty when nothing is traced.
pub(crate) fn traceparent() -> String {
    let mut carrier = Carrier::default();
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut carrier);
    carrier.0
}

/// Hangs a span under the one that another node told of. What is no `traceparent` is passed over.
pub(crate) fn adopt(span: &Span, traceparent: &str) {
    // Its forms have 55 bytes; later versions may append, but no page of text.
    if !traceparent.is_empty() && traceparent.len() <= 256 {
        let parent =
            TraceContextPropagator::new().extract_with_context(&Context::new(), &Carried(traceparent));
        // Fails where nothing is traced, which is as well.
        let _ = span.set_parent(parent);
    }
    tell_id(span);
}

/// Writes the trace's id on the span, where log lines show it.
pub(crate) fn tell_id(span: &Span) {
    let context = span.context();
    let known = context.span().span_context().clone();
    if known.is_valid() {
        span.record("trace_id", display(known.trace_id()));
    }
}

// Spans of a join are made at the highest level, so that log lines of any level carry the trace's
// id; whether they are sent anywhere is decided by `telemetry.otlp` alone.

/// A policy decision on a join's way.
pub(crate) fn decision(node: &str, action: Action, decision: &Decision) {
    decided(node, action.as_str(), decision);
}

/// May a node carry the room's media, be it as home or as sister?
pub(crate) fn carries(node: &str, decision: &Decision) {
    decided(node, "carry", decision);
}

fn decided(node: &str, action: &str, decision: &Decision) {
    // Outside of a join there is no trace that it would belong to; it is counted all the same.
    if Span::current().is_none() {
        return;
    }
    let span = tracing::error_span!(
        "policy",
        node,
        action,
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
pub(crate) fn rules(decision: &Decision) -> String {
    decision.rules.iter().map(|rule| rule.as_str()).collect::<Vec<_>>().join(",")
}

/// A node is asked for a seat, as the front door sees it.
pub(crate) fn reserve(node: &str, role: &str, reason: &str) -> Span {
    tracing::error_span!("reserve", node, role, reason, rules = Empty, outcome = Empty)
}

/// This node is asked for a seat by another.
pub(crate) fn asked_for_seat(node: &str, traceparent: &str) -> Span {
    let span = tracing::error_span!(
        parent: None, "seat", node, trace_id = Empty, outcome = Empty, reason = Empty, rules = Empty
    );
    adopt(&span, traceparent);
    span
}

/// What this node answered.
pub(crate) fn answered(span: &Span, reply: &ReserveReply) {
    match &reply.result {
        Some(Reserved::Refused(refused)) => {
            span.record("outcome", "refused");
            span.record("reason", Reason::from(refused.code()).as_str());
            span.record("rules", refused.rules.join(","));
        }
        Some(Reserved::Admitted(_)) => {
            span.record("outcome", "admitted");
        }
        None => {}
    }
}

/// A participant's session at its media node: from its arrival to its join message. Of no parent
/// in this process, which would otherwise last as long.
pub(crate) fn session(node: &str, traceparent: &str) -> Span {
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
    fn a_trace_goes_on_at_the_node_that_is_told_of_it() {
        traced(|| {
            let door = tracing::error_span!("door", trace_id = Empty);
            let told = door.in_scope(traceparent);
            let there = tracing::error_span!("reserve", trace_id = Empty);
            adopt(&there, &told);
            let id = |span: &Span| span.context().span().span_context().trace_id();
            assert_eq!(id(&door), id(&there));
            assert!(told.contains(&id(&door).to_string()), "{told}");
        });
    }

    #[test]
    fn nonsense_from_another_node_begins_a_trace_of_its_own() {
        traced(|| {
            for told in ["", "00", "00-zz-yy-01", &"0".repeat(4096), "00-\u{e6}-\u{f8}-\u{e5}"] {
                let span = tracing::error_span!("reserve", trace_id = Empty);
                adopt(&span, told);
                assert!(span.context().span().span_context().is_valid());
            }
        });
    }

    #[test]
    fn without_a_collector_nothing_is_told() {
        assert_eq!(tracing::error_span!("door").in_scope(traceparent), "");
    }
}
