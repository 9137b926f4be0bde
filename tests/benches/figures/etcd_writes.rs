//! Counts etcd writes for joins to an assigned room. Writes of room records are counted apart from writes
//! of the nodes' records, which carry load hints and change at most about once a second.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use systir_load::{Config, run};
use systir_tests::cluster::Cluster;

use crate::figure::Figure;
use crate::host::with_host;

/// The number of joins to the assigned room.
const JOINS: usize = 20;

/// A snapshot of etcd: its revision, and how often each key was written.
pub(crate) struct Writes {
    revision: i64,
    by_key: BTreeMap<String, i64>,
}

impl Writes {
    pub(crate) async fn now(etcd: &str) -> Result<Self> {
        // All keys that start with a slash.
        let body = serde_json::json!({"key": STANDARD.encode("/"), "range_end": STANDARD.encode("0")});
        let answer = reqwest::Client::new().post(format!("{etcd}/v3/kv/range")).json(&body).send().await?;
        let answer: Value = answer.error_for_status()?.json().await?;
        // 64-bit numbers are strings in this JSON.
        let number = |value: &Value| value.as_str().and_then(|text| text.parse().ok());
        let revision = number(&answer["header"]["revision"]).context("no revision in etcd's answer")?;
        let mut by_key = BTreeMap::new();
        for record in answer["kvs"].as_array().into_iter().flatten() {
            let key = STANDARD.decode(record["key"].as_str().unwrap_or_default())?;
            let version = number(&record["version"]).context("a record without a version")?;
            by_key.insert(String::from_utf8_lossy(&key).into_owned(), version);
        }
        Ok(Self { revision, by_key })
    }

    /// Writes since `before` of keys that contain `part`.
    pub(crate) fn since(&self, before: &Self, part: &str) -> i64 {
        let then = |key: &String| before.by_key.get(key).copied().unwrap_or_default();
        self.by_key.iter().filter(|(key, _)| key.contains(part)).map(|(key, count)| count - then(key)).sum()
    }
}

pub(crate) async fn measure(cluster: &Cluster, etcd: &str) -> Result<Vec<Figure>> {
    let load = |prefix: &str, participants| Config {
        url: cluster.url("cph-1"),
        room: "assigned".to_owned(),
        identity_prefix: prefix.to_owned(),
        participants,
        publishers: Some(1),
        audio: true,
        rate: 10.0,
        duration: Duration::from_millis(100),
        ..Config::default()
    };
    // One participant keeps the room assigned.
    let guests = async {
        let before = Writes::now(etcd).await?;
        let report = run(load("guest", JOINS)).await;
        let after = Writes::now(etcd).await?;
        anyhow::Ok((before, after, report?))
    };
    let (before, after, report) = with_host(load("host", 1), guests).await?;
    ensure!(report.joined == JOINS, "not all joined: {:?}", report.refused);
    let (rooms, hints) = (after.since(&before, "/rooms/"), after.since(&before, "/nodes/"));
    let other = after.revision - before.revision - rooms - hints;
    let per_join = |writes: i64| writes as f64 / JOINS as f64;
    Ok(vec![
        Figure::new(
            "etcd writes per join, assigned room",
            per_join(rooms + other),
            "",
            0.0,
            format!("{JOINS} joins: {rooms} writes of the room's record, {other} other writes"),
        ),
        Figure::without_goal(
            "etcd writes of load hints",
            per_join(hints),
            "per join",
            format!(
                "{hints} in {JOINS} joins and departures, at most one a second for a node, and at its limits"
            ),
        ),
    ])
}
