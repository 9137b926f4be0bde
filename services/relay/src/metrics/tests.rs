//! The output is valid OpenMetrics, checked with a strict parser.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use prometheus_client::encoding::text::encode;
use systir_documents::{Lifetime, SigningKey};
use systir_policy::demo::DemoDocuments;
use systir_reason::Reason;
use systir_registry::{GrantSigner, LocalStore};

use super::*;

/// Samples by family, or the first error of the text.
fn parse(text: &str) -> Result<BTreeMap<String, Vec<String>>, String> {
    let mut families: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
    let mut series = BTreeSet::new();
    let mut current = String::new();
    let body = text.strip_suffix("# EOF\n").ok_or("no # EOF at the end")?;
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or(line)?;
            if families.insert(name.to_owned(), (kind.to_owned(), Vec::new())).is_some() {
                return Err(format!("family {name} appears twice"));
            }
            current = name.to_owned();
            continue;
        }
        if line.starts_with("# HELP ") || line.starts_with("# UNIT ") {
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').ok_or(line)?;
        value.parse::<f64>().map_err(|error| format!("{line}: {error}"))?;
        if !series.insert(sample.to_owned()) {
            return Err(format!("sample {sample} appears twice"));
        }
        let name = sample.split('{').next().unwrap_or_default();
        let (kind, samples) = families.get_mut(&current).ok_or(line)?;
        let suffix = name.strip_prefix(&current).ok_or_else(|| format!("{name} in the family {current}"))?;
        let fits = match kind.as_str() {
            "counter" => suffix == "_total",
            "gauge" => suffix.is_empty(),
            "histogram" => ["_bucket", "_sum", "_count"].contains(&suffix),
            _ => false,
        };
        if !fits {
            return Err(format!("{name} is not a sample of a {kind}"));
        }
        samples.push(sample.to_owned());
    }
    Ok(families.into_iter().map(|(name, (_, samples))| (name, samples)).collect())
}

#[test]
fn counters_are_openmetrics() {
    let metrics = NodeMetrics::default();
    let key = SigningKey::from_seed("cph-1", [1; 32]).unwrap();
    let signer = GrantSigner {
        node: "cph-1".to_owned(),
        trust_domain: "nordu.net".to_owned(),
        key: key.into(),
        life: std::time::Duration::MAX,
    };
    let lifetime = Lifetime { issued: 0, renew_by: u64::MAX, not_after: u64::MAX };
    let documents = DemoDocuments::new(lifetime, "", |_| (Vec::new(), Vec::new())).unwrap();
    let engine = documents.engine().unwrap();
    let authority = Arc::new(systir_policy::Authority::new(engine, "cph-1", Arc::default()));
    let assignments = Assignments::new(Arc::new(LocalStore::default().registry()), signer, authority);
    metrics.joins.join_placed(Reason::Home);
    metrics.joins.join_refused(Reason::TokenExpired);
    metrics.joins.step("spill", Reason::SpillApproved, true);
    metrics.joins.step("refuse", Reason::ApprovedFull, false);
    metrics.joins.reservation_refused(Reason::Full);
    metrics.rooms.join_seconds.observe(0.02);
    let mut text = String::new();
    encode(&mut text, &metrics.registry(&assignments)).unwrap();
    let families = parse(&text).unwrap_or_else(|wrong| panic!("{wrong}:\n{text}"));
    assert_eq!(families["systir_joins"].len(), 2);
    assert!(text.contains("systir_joins_total{outcome=\"refused\",reason=\"token-expired\"} 1"), "{text}");
    assert!(text.contains("role=\"spill\",reason=\"spill-approved\",answer=\"admitted\"} 1"), "{text}");
}

#[test]
fn collected_metrics_are_openmetrics() {
    use systir_cascade::{LinkInfo, LinkMetrics, LinkStats, NamedLinks, Parity};
    #[derive(Debug)]
    struct TestLinks(&'static [&'static str]);
    impl NamedLinks for TestLinks {
        fn links_by_name(&self) -> Vec<(String, LinkInfo)> {
            let domain = systir_identity::TrustDomain::new("nordu.net").unwrap();
            let link = |(link, name): (u32, &&str)| {
                let (peer, stats) = (domain.relay(name).unwrap(), LinkStats::default());
                let info = LinkInfo { peer, link, parity: Parity::Smaller, rooms: Vec::new(), stats };
                ((*name).to_owned(), info)
            };
            (1..).zip(self.0).map(link).collect()
        }

        fn connection_ends(&self) -> Vec<(String, SystemTime)> {
            self.0.iter().map(|name| ((*name).to_owned(), SystemTime::UNIX_EPOCH)).collect()
        }

        fn identity_counts(&self) -> systir_cascade::IdentityCounts {
            systir_cascade::IdentityCounts::default()
        }

        fn lost_between_threads(&self) -> (u64, u64) {
            (2, 3)
        }
    }
    for peers in [&[][..], &["sto-1"], &["sto-1", "cph-1"]] {
        let seats = Arc::new(systir_placement::Seats::new(4, Default::default()));
        let local = Arc::new(LocalStore::default().registry());
        let collectors: Vec<Box<dyn Collector>> = vec![
            Box::new(systir_worker::WorkerMetrics::new(
                vec![Arc::default(), Arc::default()],
                systir_worker::tcp::ConnectionLimiter::default(),
            )),
            Box::new(LinkMetrics::new(Arc::new(TestLinks(peers)))),
            Box::new(systir_admission::SeatMetrics(seats)),
            Box::new(systir_gateway::SignalMetrics { sockets: Arc::default(), streams: Arc::default() }),
            Box::new(systir_registry::RegistryMetrics::new(local, "cph-1")),
        ];
        let mut registry = Registry::with_prefix("systir");
        for collector in collectors {
            registry.register_collector(collector);
        }
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let families = parse(&text).unwrap_or_else(|wrong| panic!("{wrong}:\n{text}"));
        assert_eq!(families["systir_datagrams_in"], ["systir_datagrams_in_total"]);
        assert_eq!(families["systir_signal_messages"].len(), 4, "two legs, two directions");
        let packets = families.get("systir_link_packets").map_or(0, Vec::len);
        assert_eq!(packets, 2 * peers.len(), "one sample per node and direction");
        assert!(text.contains("systir_link_gone_lost_total 3\n"), "{text}");
        assert!(text.contains("systir_seats_capacity 4\n"), "{text}");
        assert!(families.contains_key("systir_registry_connected"), "{text}");
    }
}

#[test]
fn the_parser_rejects_invalid_openmetrics() {
    for wrong in [
        "# TYPE a counter\na_total 1\n",
        "# TYPE a counter\na 1\n# EOF\n",
        "# TYPE a gauge\na 1\na 2\n# EOF\n",
        "# TYPE a gauge\na 1\n# TYPE a gauge\n# EOF\n",
        "# TYPE a gauge\na one\n# EOF\n",
    ] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}
