//! Media over TCP (RFC 6544), for participants whose network blocks UDP, on both nodes of a room.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use systir_load::Config;
use systir_tests::browser::Browser;
use systir_tests::cluster::Cluster;
use systir_tests::lossy_path::Site;
use systir_tests::scenario::run_scenario;
use systir_tests::two_sites::{TwoSites, anna_and_bo};

#[test]
fn participants_over_tcp_and_over_udp_meet_across_two_nodes() -> Result<()> {
    run_scenario(async {
        let cluster = Cluster::demo(&[("cph-1", 3), ("sto-1", 3)]).await?;
        let load = |prefix: &str, tcp| Config {
            url: cluster.url("cph-1"),
            room: "lecture".to_owned(),
            identity_prefix: prefix.to_owned(),
            participants: 3,
            audio: true,
            video: true,
            tcp,
            duration: Duration::from_secs(6),
            ..Config::default()
        };
        let (over_tcp, over_udp) =
            tokio::join!(systir_load::run(load("tcp", true)), systir_load::run(load("udp", false)));
        for report in [over_tcp?, over_udp?] {
            ensure!(report.joined == 3, "{report:?}");
            ensure!(report.tracks_received == report.tracks_expected, "{report:?}");
            ensure!(report.loss_percent < 1.0 && report.ended.is_empty(), "{report:?}");
        }
        let mut accepted = 0;
        for node in ["cph-1", "sto-1"] {
            accepted += cluster.counter(node, "systir_tcp_accepted_total").await?;
            ensure!(cluster.counter(node, "systir_tcp_refused_total").await? == 0);
        }
        ensure!(accepted == 6, "two connections for each of three participants, not {accepted}");
        Ok(())
    })
}

/// JavaScript that hides the server's UDP candidates from a page, like a firewall.
const HIDE_UDP: &str = "(() => {
    const original = RTCPeerConnection.prototype.setRemoteDescription;
    RTCPeerConnection.prototype.setRemoteDescription = function (description) {
        const lines = description.sdp.split('\\r\\n').filter(line => !/^a=candidate:\\S+ \\d udp/i.test(line));
        return original.call(this, { type: description.type, sdp: lines.join('\\r\\n') });
    };
    window.connections = [];
    const Original = RTCPeerConnection;
    window.RTCPeerConnection = function (...given) {
        const connection = new Original(...given);
        window.connections.push(connection);
        return connection;
    };
    window.RTCPeerConnection.prototype = Original.prototype;
    return true;
})()";

/// JavaScript: the protocols of the page's connected transports.
const PROTOCOLS: &str = "(async () => {
    const found = [];
    for (const connection of window.connections) {
        const stats = await connection.getStats();
        for (const entry of stats.values()) {
            if (entry.type !== 'transport' || !entry.selectedCandidatePairId) continue;
            const pair = stats.get(entry.selectedCandidatePairId);
            found.push(stats.get(pair.remoteCandidateId).protocol);
        }
    }
    return found;
})()";

#[test]
fn a_browser_behind_a_firewall_and_one_without_receive_each_other() -> Result<()> {
    run_scenario(async {
        let cluster = Cluster::demo(&[("cph-1", 1), ("sto-1", 2)]).await?;
        let gateway = cluster.url("cph-1");
        tokio::task::spawn_blocking(move || -> Result<()> {
            let mut browser = Browser::start()?;
            browser.join(&gateway, "seminar", "anna")?;
            let url = format!("{gateway}/?room=seminar&name=chen");
            browser.command(&json!({"do": "open", "page": "chen", "url": url}))?;
            browser.eval("chen", HIDE_UDP)?;
            browser.command(&json!({"do": "click", "page": "chen", "selector": "#join-button"}))?;
            browser.wait_for_media("chen", 1)?;
            browser.wait_for_media("anna", 1)?;
            let protocols = browser.eval("chen", PROTOCOLS)?;
            let protocols = protocols.as_array().cloned().unwrap_or_default();
            ensure!(
                !protocols.is_empty() && protocols.iter().all(|protocol| protocol == "tcp"),
                "{protocols:?}"
            );
            Ok(())
        })
        .await??;
        Ok(())
    })
}

#[test]
fn chromium_and_the_native_client_fall_back_to_tcp_where_udp_is_blocked() -> Result<()> {
    run_scenario(async {
        const ROOM: &str = "bastion";
        let sites = TwoSites::start(1500, [1, 1]).await?;
        let both = [Site::Near, Site::Far];
        both.into_iter().try_for_each(|site| sites.block_udp(site))?;
        let (near, far) = (sites.url(Site::Near), sites.url(Site::Far));
        tokio::task::spawn_blocking(move || -> Result<()> {
            let (mut browser, mut bo) = anna_and_bo(&near, &far, ROOM)?;
            browser.wait_for_new_media("anna", &["bo"], 50)?;
            bo.wait_for_media(&["anna"], 50)?;
            ensure!(bo.finish()?, "bo's client ends with status 0");
            Ok(())
        })
        .await??;
        for site in both {
            let accepted = sites.counter(site, "systir_tcp_accepted_total").await?;
            ensure!(accepted >= 2, "two connections for a participant, not {accepted}");
        }
        Ok(())
    })
}
