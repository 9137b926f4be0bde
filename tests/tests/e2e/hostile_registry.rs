//! etcd is not trusted: an attacker who rewrites it can stop meetings, but cannot move them to a node
//! that policy does not approve.

use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use systir_load::Config;
use systir_tests::cluster::Cluster;
use systir_tests::participants::Participants;
use systir_tests::process::eventually;
use systir_tests::scenario::run_scenario;

async fn etcd_request(etcd: &str, what: &str, body: Value) -> Result<Value> {
    let address = format!("{etcd}/v3/kv/{what}");
    Ok(reqwest::Client::new().post(address).json(&body).send().await?.error_for_status()?.json().await?)
}

#[test]
fn etcd_rewritten_by_an_attacker_moves_no_media_to_an_unapproved_node() -> Result<()> {
    run_scenario(async {
        let (etcd, cluster) = Cluster::three_nodes(&[("cph-1", 2), ("sto-1", 2)]).await?;
        let load = |prefix: &str, count| Config {
            url: cluster.url("cph-1"),
            api_key: "devkey".to_owned(),
            api_secret: "secret".to_owned(),
            room: "board".to_owned(),
            identity_prefix: prefix.to_owned(),
            participants: count,
            publishers: Some(count),
            audio: true,
            video: true,
            duration: Duration::from_secs(2),
            no_rejoin: true,
            ..Config::default()
        };
        // They stay until the end of the test.
        let meeting = Participants::join(load("first", 2)).await?;
        let prefix = "/systir/v1/nordunet/rooms/";
        let range = json!({"key": STANDARD.encode(prefix), "range_end": STANDARD.encode("/systir/v1/nordunet/rooms0")});
        let record = eventually("the room's record", Duration::from_secs(45), || async {
            etcd_request(&etcd.url(), "range", range.clone()).await.ok()?["kvs"].as_array()?.first().cloned()
        })
        .await?;
        let bytes = STANDARD.decode(record["value"].as_str().context("no value")?)?;
        let mut assignment: Value = serde_json::from_slice(&bytes)?;
        assignment["home"] = json!("aws-sto-1");
        assignment["spill"] = json!(["cph-1", "aws-sto-1", "sto-1"]);
        assignment["epoch"] = json!(7);
        let forged = json!({"key": record["key"], "value": STANDARD.encode(assignment.to_string())});
        // Again and again: the home writes the true record again.
        let url = etcd.url();
        let forging = tokio::spawn(async move {
            while etcd_request(&url, "put", forged.clone()).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let rooms = cluster.admin("cph-1", "rooms").await?;
        assert_eq!(rooms["rooms"][0]["home"], "cph-1", "the home that signed the grant: {rooms}");
        // More participants join while the record is forged; none is placed on the unapproved node.
        let late = systir_load::run(load("late", 2)).await?;
        assert!(!late.nodes.contains_key("aws-sto-1"), "{late:?}");
        forging.abort();
        let corrected = || async {
            let found = etcd_request(&etcd.url(), "range", range.clone()).await.ok()?;
            let value = STANDARD.decode(found["kvs"][0]["value"].as_str()?).ok()?;
            let record: Value = serde_json::from_slice(&value).ok()?;
            (record["home"] == "cph-1" && record["epoch"] == 1).then_some(())
        };
        eventually("the true record is written again", Duration::from_secs(45), corrected).await?;
        // A record with the last possible epoch crashes no node; it counts as no record.
        assignment["epoch"] = json!(u64::MAX);
        let last_epoch = json!({"key": record["key"], "value": STANDARD.encode(assignment.to_string())});
        etcd_request(&etcd.url(), "put", last_epoch).await?;
        for node in ["cph-1", "sto-1"] {
            eventually("the record with the last epoch is rejected", Duration::from_secs(45), || async {
                let rejected = cluster.counter(node, "systir_registry_unreadable_total").await.ok()?;
                (rejected > 0).then_some(())
            })
            .await?;
        }
        eventually("the true record is written again", Duration::from_secs(45), corrected).await?;
        let last = systir_load::run(load("last", 1)).await?;
        assert_eq!(last.joined, 1, "{last:?}");
        let report = meeting.leave().await?;
        assert_eq!(report.joined, 2, "{report:?}");
        assert!(report.ended.is_empty(), "the running meeting goes on: {report:?}");
        assert!(report.packets_expected > 100 && report.loss_percent < 5.0, "{report:?}");
        for counter in [
            "systir_datagrams_in_total",
            "systir_link_in_total",
            "systir_links",
            "systir_rooms",
            "systir_participants",
            "systir_signal_websockets",
            "systir_signal_streams",
            "systir_signal_messages_total",
            // It does not even read the record: ku.dk approves it in no role.
            "systir_registry_assigned",
        ] {
            assert_eq!(cluster.counter("aws-sto-1", counter).await?, 0, "{counter}");
        }
        Ok(())
    })
}
