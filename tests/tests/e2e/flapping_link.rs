//! A link to the home that flaps, on a path that is cut again and again: the room keeps one home, and its
//! participants meet again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result};
use systir_load::Config;
use systir_tests::lossy_path::{CutDirection, Impairment, Site};
use systir_tests::participants::{Participants, wait_until_observer_receives};
use systir_tests::process::eventually;
use systir_tests::scenario::run_scenario_within;
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
        let load = |site, prefix: &str, count| Config {
            identity_prefix: prefix.to_owned(),
            ..sites.load_config(site, &room, count)
        };
        let everybody_hears = async |participants: usize| -> Result<()> {
            for site in SITES {
                wait_until_observer_receives(load(site, "observer", 1), 2 * participants, LIMIT).await?;
            }
            Ok(())
        };
        // The near ones fill the home node.
        let near = Participants::join(load(Site::Near, "near", 2)).await?;
        let far = Participants::join(load(Site::Far, "far", 2)).await?;
        everybody_hears(4).await?;
        let before = sites.residency(Site::Far, &room).await?;
        assert_eq!(before["grant"]["home"], "cph-1", "{before:#}");

        let lost = sites.path.lost_packets()?;
        let mut epochs = Epochs::new();
        // At the far site, where the home cannot be asked.
        let join_late = async {
            sites.wait_for_metric(Site::Far, "systir_links", LIMIT, |links| links == 0).await?;
            Participants::join(load(Site::Far, "late", 1)).await
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
        everybody_hears(5).await?;
        eprintln!("epochs: {epochs:?}; at the end {grant}");
        for (epoch, homes) in &epochs {
            assert_eq!(homes.len(), 1, "epoch {epoch} has one home: {epochs:?}");
        }
        let first = before["grant"]["epoch"].as_u64().context("no epoch")?;
        let last = grant["epoch"].as_u64().context("no epoch")?;
        assert!((last, serial) > (first, before["grant"]["serial"].as_u64()), "the grant was renewed");

        for (node, count, participants) in [("cph-1", 2, near), ("sto-1", 2, far), ("sto-1", 1, late)] {
            let report = participants.leave().await?;
            eprintln!("{node}: rejoined {}, {:?}", report.rejoined, report.interruptions);
            assert!(report.ended.is_empty() && report.rejoined == 0, "nobody was dropped: {report:?}");
            assert_eq!(report.nodes.get(node), Some(&count), "{report:?}");
            assert_eq!(report.tracks_received, report.tracks_expected, "{report:?}");
        }
        Ok(())
    })
}
