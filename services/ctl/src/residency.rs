//! `systirctl where`: which nodes relay a room, as a gateway states it, and whether they are where they may be.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use serde_json::Value;

use crate::gateway_client::GatewayClient;
use crate::tables;

/// How often a room is looked for that nobody has joined yet.
const INTERVAL: Duration = Duration::from_secs(1);

/// Arguments of `systirctl where`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The room's name.
    room: String,
    /// A country in which the room may be, such as DK; may be given several times. Fails if a node of the room is elsewhere.
    #[arg(long, value_name = "COUNTRY")]
    country: Vec<String>,
    /// Seconds to wait until someone is in the room.
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=3600))]
    wait: u64,
}

/// Asks, prints and checks.
pub(crate) async fn run(arguments: &Arguments, gateway: &GatewayClient, json: bool) -> Result<()> {
    let Arguments { room, country, wait } = arguments;
    let end = Instant::now() + Duration::from_secs(*wait);
    let residency = loop {
        if let Some(found) = gateway.find_in_room(room, &["systir", "v1", "rooms", room, "where"]).await? {
            break found;
        }
        if Instant::now() >= end {
            bail!("nobody is in the room {room}");
        }
        tokio::time::sleep(INTERVAL).await;
    };
    tables::residency(&residency, json)?;
    if country.is_empty() { Ok(()) } else { check(&residency, country) }
}

/// All nodes of the room are in one of these countries.
fn check(residency: &Value, countries: &[String]) -> Result<()> {
    let Some(nodes) = residency["nodes"].as_array().filter(|nodes| !nodes.is_empty()) else {
        bail!("the gateway names no node of the room");
    };
    let text = |node: &Value, field: &str| node[field].as_str().unwrap_or("nowhere").to_owned();
    let elsewhere: Vec<String> = nodes
        .iter()
        .filter(|node| !countries.iter().any(|country| node["country"] == country.as_str()))
        .map(|node| format!("{} ({})", text(node, "node"), text(node, "country")))
        .collect();
    if !elsewhere.is_empty() {
        bail!("the room is outside {}: {}", countries.join(", "), elsewhere.join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::check;

    #[test]
    fn a_node_in_another_country_is_named() {
        let room = json!({"nodes": [{"node": "cph-1", "country": "DK"}, {"node": "aws-1", "country": "US"}, {"node": "x"}]});
        let countries = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let error = check(&room, &countries(&["DK", "SE"])).unwrap_err().to_string();
        assert_eq!(error, "the room is outside DK, SE: aws-1 (US), x (nowhere)");
        let near = json!({"nodes": [{"node": "cph-1", "country": "DK"}, {"node": "sto-1", "country": "SE"}]});
        check(&near, &countries(&["DK", "SE"])).unwrap();
        assert!(check(&json!({"nodes": []}), &countries(&["DK"])).is_err());
    }
}
