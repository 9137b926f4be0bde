//! A link to the home that flaps, on a path that is cut again and again: the room keeps one home, and its
//! participants meet again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result};
use systir_tests::lossy_path::{CutDirection, Impairment, Site};
use systir_tests::meeting::wait_until_all_hear;
use systir_tests::process::eventually;
use systir_tests::scenario::run_scenario_within;
use systir_tests::scripted::ScriptedCodec;
use systir_tests::two_sites::TwoSites;
use tokio::time::sleep;

use crate::revoked_home::{any_nordic_home, room_at_home};

const LIMIT: Duration = Duration::from_secs(45);

/// For how many milliseconds the path is cut, and then whole. A link is lost after 0.6 s.
const FLAPS: [(u64, u64); 10] = [
    (500, 1_500),
    (3_000, 400),
    (700, 700),
    (2_000, 300),
    (1_000, 2_500),
    (600, 200),
    (2_500, 1_000),
    (1_500, 600),
    (900, 3_000),
    (3_000, 500),
];
/// Below the time that all flaps take.
const GRANT: &str = "grant_seconds = 10";

/// What each participant publishes.
const CODECS: [ScriptedCodec; 2] = [ScriptedCodec::Opus, ScriptedCodec::Vp8];

const SITES: [Site; 2] = [Site::Near, Site::Far];

/// The home of the room by epoch, as the nodes stated it.
type Epochs = BTreeMap<u64, BTreeSet<String>>;

async fn flap(sites: &TwoSites) -> Result<()> {
    for (cut, whole) in FLAPS {
        sites.impair(&[Impairment::Cut(CutDirection::Both)])?;
        sleep(Duration::from_millis(cut)).await;
        sites.impair(&[])?;
        sleep(Duration::from_millis(whole)).await;
    }
    Ok(())
}

/// Notes, until it is dropped, which epochs the nodes are in.
async fn watch_epochs(sites: &TwoSites, room: &str, epochs: &mut Epochs) {
    loop {
        for site in SITES {
            let Ok(residency) = sites.residency(site, room).await else { continue };
            let grant = &residency["grant"];
            if let (Some(epoch), Some(home)) = (grant["epoch"].as_u64(), grant["home"].as_str()) {
                epochs.entry(epoch).or_default().insert(home.to_owned());
            }
        }
        sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn a_flapping_link_to_the_home_leaves_one_home_and_drops_nobody() -> Result<()> {
    run_scenario_within(Duration::from_secs(240), async {
        // Either node may be home, so that the far one could take over while it cannot reach the home.
        let sites = TwoSites::start_with(1500, [2, 5], GRANT, any_nordic_home).await?;
        let room = room_at_home("cph-1", async |path| sites.admin(Site::Near, path).await).await?;
        // The near ones fill the home node.
        let mut members = Vec::new();
        for (site, identity, node) in [
            (Site::Near, "anna", "cph-1"),
            (Site::Near, "bo", "cph-1"),
            (Site::Far, "carl", "sto-1"),
            (Site::Far, "dina", "sto-1"),
        ] {
            let member = sites.join(site, &room, identity, &CODECS).await?;
            assert_eq!(member.client.node, node, "{identity}");
            members.push(member);
        }
        wait_until_all_hear(&members).await?;
        let before = sites.residency(Site::Far, &room).await?;
        assert_eq!(before["grant"]["home"], "cph-1", "{before:#}");

        let lost = sites.path.lost_packets()?;
        let mut epochs = Epochs::new();
        // At the far site, where the home cannot be asked.
        let join_late = async {
            sites.wait_for_metric(Site::Far, "systir_links", LIMIT, |links| links == 0).await?;
            sites.join(Site::Far, &room, "late", &CODECS).await
        };
        let late = tokio::select! {
            both = async { tokio::try_join!(flap(&sites), join_late) } => both?.1,
            () = watch_epochs(&sites, &room, &mut epochs) => anyhow::bail!("it never ends"),
        };
        assert!(sites.path.lost_packets()? > lost, "the path was cut");

        let (grant, serial) = eventually("both nodes hold one grant of the home", LIMIT, || async {
            let near = sites.residency(Site::Near, &room).await.ok()?;
            let far = sites.residency(Site::Far, &room).await.ok()?;
            let same = near["grant"]["hash"] == far["grant"]["hash"];
            let home = far["grant"]["home"] == "cph-1";
            let both = far["nodes"].as_array()?.len() == 2;
            (same && home && both).then(|| (far["grant"].clone(), far["grant"]["serial"].as_u64()))
        })
        .await?;
        members.push(late);
        members.iter().for_each(|member| member.client.clear_packets());
        wait_until_all_hear(&members).await?;
        eprintln!("epochs: {epochs:?}; at the end {grant}");
        for (epoch, homes) in &epochs {
            assert_eq!(homes.len(), 1, "epoch {epoch} has one home: {epochs:?}");
        }
        let first = before["grant"]["epoch"].as_u64().context("no epoch")?;
        let last = grant["epoch"].as_u64().context("no epoch")?;
        assert!((last, serial) > (first, before["grant"]["serial"].as_u64()), "the grant was renewed");

        for member in &mut members {
            assert!(!member.was_interrupted(), "{} was interrupted", member.identity);
        }
        Ok(())
    })
}
