//! A join is one trace over all nodes that take part, with the deciding rule. Spans name no room and no
//! participant. Log lines about the join carry the trace id.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use systir_tests::cluster::token;
use systir_tests::collector::{Collector, Span};
use systir_tests::etcd::Etcd;
use systir_tests::process::{eventually, port_block};
use systir_tests::relay::RelayConfigs;
use systir_tests::scenario;
use systir_tests::signal_client::SignalClient;

const ROOM: &str = "confidential-seminar";

#[test]
fn a_join_that_spills_is_one_trace_with_the_deciding_rule() -> Result<()> {
    scenario::run_scenario(async {
        let base = port_block()?;
        let etcd = Etcd::start(base + 20).await?;
        let (collector, otlp) = Collector::start().await?;
        let configs = RelayConfigs::new(base)?;
        let etcd_url = format!("[\"{}\"]", etcd.url());
        let environment = [
            ("SYSTIR_REGISTRY__ETCD", etcd_url.as_str()),
            ("SYSTIR_TELEMETRY__OTLP", otlp.as_str()),
            ("SYSTIR_NODE__CAPACITY", "1"),
        ];
        let home = configs.start("cph-1", &environment)?;
        let sister = configs.start("sto-1", &environment)?;
        home.wait_ready().await?;
        sister.wait_ready().await?;
        home.wait_until_sees("sto-1").await?;

        let (first, second, third) =
            (token(ROOM, "anna-lind")?, token(ROOM, "bo-krag")?, token(ROOM, "chen-wu")?);
        let _anna = SignalClient::join_plain(base + 10, &first).await?;
        let _bo = SignalClient::join_plain(base + 10, &second).await?;
        let refused = SignalClient::join_plain(base + 10, &third).await.err().map(|error| error.to_string());
        assert!(refused.as_deref().is_some_and(|reason| reason.contains("full")), "{refused:?}");

        // Spans are sent in batches; the last when the node stops.
        let home_log = home.stop()?;
        let sister_log = sister.stop()?;
        let spans = collector.spans();
        let of =
            |trace: &str| spans.iter().filter(|span| span.trace == trace).cloned().collect::<Vec<Span>>();
        let sessions: Vec<&Span> = spans
            .iter()
            .filter(|span| span.name == "session" && span.attribute("outcome") == "joined")
            .collect();
        assert_eq!(sessions.len(), 2, "{spans:#?}");

        let spilled = sessions.iter().find(|span| span.node == "sto-1").map(|span| of(&span.trace));
        let spilled = spilled.unwrap_or_else(|| panic!("no session on the sister: {spans:#?}"));
        let names = |node: &str| {
            spilled
                .iter()
                .filter(|span| span.node == node)
                .map(|span| span.name.as_str())
                .collect::<BTreeSet<_>>()
        };
        let at_gateway = ["gateway", "placement", "policy", "relay-signal", "reserve", "token"];
        assert_eq!(names("cph-1"), BTreeSet::from(at_gateway), "{spilled:#?}");
        assert_eq!(names("sto-1"), BTreeSet::from(["policy", "seat", "session"]), "{spilled:#?}");

        // One tree: every span but the root has a parent in the same trace.
        let ids: BTreeSet<&str> = spilled.iter().map(|span| span.id.as_str()).collect();
        let roots: Vec<&Span> = spilled.iter().filter(|span| span.parent.is_empty()).collect();
        assert!(matches!(roots[..], [root] if root.name == "gateway"), "{roots:#?}");
        assert!(spilled.iter().all(|span| span.parent.is_empty() || ids.contains(span.parent.as_str())));
        assert_eq!(
            (roots[0].attribute("outcome"), roots[0].attribute("reason")),
            ("admitted", "spill-approved")
        );

        let reservations: Vec<_> = spilled.iter().filter(|span| span.name == "reserve").collect();
        let at = |node: &str| reservations.iter().find(|span| span.attribute("node") == node);
        assert_eq!(at("sto-1").map(|span| span.attribute("outcome")), Some("admitted"), "{reservations:#?}");
        assert!(
            at("sto-1").is_some_and(|span| span.attribute("rules").contains("spill")),
            "{reservations:#?}"
        );
        let decisions = spilled.iter().filter(|span| span.name == "policy");
        for decision in decisions {
            assert_eq!(decision.attribute("allowed"), "true", "{decision:#?}");
            assert!(!decision.attribute("rules").is_empty(), "{decision:#?}");
            assert!(decision.attribute("version").starts_with("1-"), "{decision:#?}");
        }

        let refused =
            spans.iter().find(|span| span.name == "gateway" && span.attribute("outcome") == "refused");
        assert_eq!(refused.map(|span| span.attribute("reason")), Some("approved-full"), "{spans:#?}");

        for span in &spans {
            for secret in [ROOM, "anna", "bo-krag", "chen", "eyJ", "devkey", &URL_SAFE_NO_PAD.encode(ROOM)] {
                assert!(!span.text.contains(secret), "{secret} is in {}", span.text);
            }
        }

        let trace = &roots[0].trace;
        let line =
            |log: &str, text: &str| log.lines().any(|line| line.contains(text) && line.contains(trace));
        assert!(line(&home_log, "a join was placed"), "{home_log}");
        assert!(line(&sister_log, "a participant joined"), "{sister_log}");
        Ok(())
    })
}

#[test]
fn an_invalid_token_is_a_trace_with_the_reason_and_without_the_token() -> Result<()> {
    scenario::run_scenario(async {
        let base = port_block()?;
        let (collector, otlp) = Collector::start().await?;
        let configs = RelayConfigs::new(base)?;
        let node = configs.start("cph-1", &[("SYSTIR_TELEMETRY__OTLP", otlp.as_str())])?;
        eventually("the gateway", Duration::from_secs(45), || async {
            node.telemetry("/healthz").await.ok()
        })
        .await?;
        let good = token(ROOM, "anna-lind")?;
        let forged = format!("{}AAAA", &good[..good.len() - 4]);
        assert!(SignalClient::join_plain(base + 10, &forged).await.is_err());
        let (_, metrics) = node.telemetry("/metrics").await?;
        assert!(
            metrics.contains("systir_joins_total{outcome=\"refused\",reason=\"token-signature\"} 1"),
            "{metrics}"
        );
        node.stop()?;
        let spans = collector.spans();
        let gateway = spans.iter().find(|span| span.name == "gateway");
        assert_eq!(gateway.map(|span| span.attribute("reason")), Some("token-signature"), "{spans:#?}");
        assert!(
            spans.iter().any(|span| span.name == "token" && span.attribute("outcome") == "token-signature")
        );
        assert!(
            spans.iter().all(|span| !span.text.contains("eyJ") && !span.text.contains(ROOM)),
            "{spans:#?}"
        );
        Ok(())
    })
}
