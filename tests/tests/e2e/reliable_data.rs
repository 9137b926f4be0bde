//! Reliable data of LiveKit's Go SDK arrives complete and in order, on one node and over a link.

use anyhow::Result;
use serde_json::Value;
use systir_tests::cluster::{Cluster, token};
use systir_tests::driven_client::DrivenClient;
use systir_tests::scenario::run_scenario;

/// Messages that are sent at once, and their length in bytes: short ones, and a file of 1 MB.
const BURSTS: [(u64, u64); 2] = [(300, 1_000), (67, 15_000)];
/// Length of a data stream in bytes.
const STREAM: u64 = 1_000_000;

fn event_of(reader: &mut DrivenClient, name: &str) -> Result<Value> {
    reader.wait_for(name, |event| (event["event"] == name).then(|| event.clone()))
}

#[test]
fn bursts_and_data_streams_arrive_whole_on_the_same_node_and_over_a_link() -> Result<()> {
    run_scenario(async {
        let cluster = Cluster::demo(&[("cph-1", 2), ("sto-1", 4)]).await?;
        let gateway = cluster.url("cph-1");
        let [anna, bo, cleo] = ["anna", "bo", "cleo"].map(|name| token("files", name));
        let (anna, bo, cleo) = (anna?, bo?, cleo?);
        tokio::task::spawn_blocking(move || {
            let mut anna = DrivenClient::go(&gateway, &anna)?;
            let mut readers = Vec::new();
            for (node, token) in [("cph-1", bo), ("sto-1", cleo)] {
                let mut reader = DrivenClient::go(&gateway, &token)?;
                anna.wait_for("the reader", |event| {
                    (event["event"] == "participant-connected").then_some(())
                })?;
                // The first message opens the way.
                anna.command("data reliable hello")?;
                reader.wait_for("hello", |event| (event["text"] == "hello").then_some(()))?;
                readers.push((node, reader));
            }
            for round in 0..3 {
                for (count, size) in BURSTS {
                    anna.command(&format!("burst {count} {size}"))?;
                    for (node, reader) in &mut readers {
                        let burst = event_of(reader, "burst")?;
                        eprintln!(
                            "round {round}: {count} messages of {size} bytes, reader on {node}: {burst}"
                        );
                        assert_eq!(burst["received"], count, "{node}: {burst}");
                        assert_eq!(burst["ordered"], true, "{node}: {burst}");
                    }
                }
                anna.command(&format!("stream {STREAM}"))?;
                eprintln!("{STREAM} bytes: {}", event_of(&mut anna, "written")?);
                for (node, reader) in &mut readers {
                    let stream = event_of(reader, "stream")?;
                    eprintln!("data stream, reader on {node}: {stream}");
                    assert_eq!(stream["bytes"], STREAM, "{node}: {stream}");
                    assert_eq!(stream["intact"], true, "{node}: {stream}");
                }
            }
            Ok(())
        })
        .await?
    })
}
