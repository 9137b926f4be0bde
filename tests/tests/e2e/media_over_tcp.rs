//! People whose network lets no UDP out meet the others: media over TCP (RFC 6544), on the node
//! that carries them, whichever it is.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use systir_load::Config;
use systir_tests::browser::Browser;
use systir_tests::cluster::Cluster;
use systir_tests::lossy_path::Place;
use systir_tests::scenario::play;
use systir_tests::two_sites::{Afar, anna_and_bo};

#[test]
fn people_without_udp_meet_people_with_it_across_two_nodes() -> Result<()> {
    play(async {
        let cluster = Cluster::demo(&[("cph-1", 3), ("sto-1", 3)]).await?;
        let people = |prefix: &str, tcp| Config {
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
        let (walled, free) =
            tokio::join!(systir_load::run(people("walled", true)), systir_load::run(people("free", false)));
        for report in [walled?, free?] {
            ensure!(report.joined == 3, "{report:?}");
            ensure!(report.tracks_heard == report.tracks_expected, "{report:?}");
            ensure!(report.loss_percent < 1.0 && report.ended.is_empty(), "{report:?}");
        }
        let mut accepted = 0;
        for node in ["cph-1", "sto-1"] {
            accepted += cluster.counter(node, "systir_tcp_accepted_total").await?;
            ensure!(cluster.counter(node, "systir_tcp_refused_total").await? == 0);
        }
        ensure!(accepted == 6, "each of three has two connections, not {accepted}");
        Ok(())
    })
}

/// Hides the server's UDP addresses from a page, as a firewall would.
const WALL: &str = "(() => {
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

/// What the connected transports of a page travel over.
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
fn a_browser_behind_a_firewall_sees_and_hears_one_that_is_not() -> Result<()> {
    play(async {
        let cluster = Cluster::demo(&[("cph-1", 1), ("sto-1", 2)]).await?;
        let door = cluster.url("cph-1");
        tokio::task::spawn_blocking(move || -> Result<()> {
            let mut browser = Browser::start()?;
            browser.join(&door, "seminar", "anna")?;
            let url = format!("{door}/?room=seminar&name=chen");
            browser.carry_out(&json!({"do": "open", "page": "chen", "url": url}))?;
            browser.eval("chen", WALL)?;
            browser.carry_out(&json!({"do": "click", "page": "chen", "selector": "#join-button"}))?;
            browser.sees_and_hears("chen", 1)?;
            browser.sees_and_hears("anna", 1)?;
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
fn chromium_and_the_native_client_find_the_way_by_themselves_where_no_udp_passes() -> Result<()> {
    play(async {
        const ROOM: &str = "bastion";
        let afar = Afar::start(1500, [1, 1]).await?;
        let places = [Place::Near, Place::Far];
        places.into_iter().try_for_each(|place| afar.wall(place))?;
        let (near, far) = (afar.url(Place::Near), afar.url(Place::Far));
        tokio::task::spawn_blocking(move || -> Result<()> {
            let (mut browser, mut bo) = anna_and_bo(&near, &far, ROOM)?;
            browser.watches("anna", &["bo"], 50)?;
            bo.sees_and_hears(&["anna"], 50)?;
            ensure!(bo.end()?, "bo leaves in good order");
            Ok(())
        })
        .await??;
        for place in places {
            let accepted = afar.counter(place, "systir_tcp_accepted_total").await?;
            ensure!(accepted >= 2, "both connections of a person, not {accepted}");
        }
        Ok(())
    })
}
