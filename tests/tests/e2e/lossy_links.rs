//! A link over a path that loses packets and has a small MTU, as between cities: participants at both
//! sites still receive continuous audio and video.

use std::time::Duration;

use anyhow::Result;
use systir_load::{Config, Report};
use systir_tests::lossy_path::{Impairment, Site};
use systir_tests::participants::Participants;
use systir_tests::scenario::run_scenario;
use systir_tests::two_sites::{TwoSites, anna_and_bo};
use tokio_util::sync::CancellationToken;

/// Participants at each site.
const PARTICIPANTS: usize = 2;
const LENGTH: Duration = Duration::from_secs(8);
/// Video packets as large as browsers send them: at the smallest MTU some need two datagrams.
const FULL_PACKET: usize = 1_180;

/// Runs a meeting of [`LENGTH`]; returns the measurements of each site's participants.
async fn meeting(sites: &TwoSites, room: &str) -> Result<[(Site, Report); 2]> {
    let stop = CancellationToken::new();
    let load =
        |site| Config { no_rejoin: true, packet: FULL_PACKET, ..sites.load_config(site, room, PARTICIPANTS) };
    // The near ones fill the home node, so that the far ones are placed on the sister.
    let near = Participants::join_until(load(Site::Near), &stop).await?;
    let far = Participants::join_until(load(Site::Far), &stop).await?;
    tokio::time::sleep(LENGTH).await;
    stop.cancel();
    Ok([(Site::Near, near.leave().await?), (Site::Far, far.leave().await?)])
}

async fn audio_and_video_are_continuous(mtu: u16) -> Result<()> {
    let sites = TwoSites::start(mtu, [PARTICIPANTS as u32, PARTICIPANTS as u32]).await?;
    for loss in [0, 1, 5] {
        let lost_before = sites.path.lost_packets()?;
        sites.impair(&[Impairment::Loss(loss)])?;
        // The seats of the previous meeting are free again.
        for site in [Site::Near, Site::Far] {
            sites
                .wait_for_metric(site, "systir_seats_used", Duration::from_secs(30), |used| used == 0)
                .await?;
        }
        let reports = meeting(&sites, &format!("mtu-{mtu}-loss-{loss}")).await?;
        let lost = sites.path.lost_packets()? - lost_before;
        assert_eq!(lost > 0, loss > 0, "{lost} packets were lost on the path");
        for (site, report) in &reports {
            eprintln!(
                "mtu {mtu}, loss {loss} %, {site:?}: {} video frames, longest freeze {:.0} ms; audio missed {:.3} %, \
                 at most {} packets in a row; lost {} of {} packets; latency p99 {:.0} ms",
                report.video_frames,
                report.freeze_max_ms,
                report.audio_missed_percent,
                report.audio_missed_run,
                report.packets_lost,
                report.packets_expected,
                report.latency_p99_ms,
            );
            let node = if *site == Site::Near { "cph-1" } else { "sto-1" };
            assert_eq!(report.nodes.get(node), Some(&PARTICIPANTS), "{report:?}");
            assert!(report.ended.is_empty(), "{report:?}");
            assert_eq!(report.tracks_received, report.tracks_expected, "{report:?}");
            assert_eq!(report.video_tracks_received, PARTICIPANTS * (2 * PARTICIPANTS - 1), "{report:?}");
            assert_eq!(report.tracks_frozen, 0, "no video freezes for a second: {report:?}");
            // Audio more than 0.2 s late counts as missed, also when this host stalls.
            assert!(report.audio_missed_percent < 3.0, "audio is continuous: {report:?}");
        }
    }
    for site in [Site::Near, Site::Far] {
        let requested = sites.counter(site, "systir_link_nacked_packets_total").await?;
        assert!(requested > 0, "lost packets are requested again over the link: {site:?}");
    }
    Ok(())
}

#[test]
fn media_is_continuous_with_an_mtu_of_1500_and_packet_loss() -> Result<()> {
    run_scenario(audio_and_video_are_continuous(1500))
}

#[test]
fn media_is_continuous_with_the_mtu_of_a_tunnel_and_packet_loss() -> Result<()> {
    run_scenario(audio_and_video_are_continuous(1400))
}

#[test]
fn media_is_continuous_with_the_smallest_mtu_and_packet_loss() -> Result<()> {
    run_scenario(audio_and_video_are_continuous(1280))
}

/// With real decoders and jitter buffers.
#[test]
fn chromium_and_the_native_client_receive_each_other_over_the_worst_path() -> Result<()> {
    run_scenario(async {
        const ROOM: &str = "worst";
        let sites = TwoSites::start(1280, [1, 1]).await?;
        sites.impair(&[Impairment::Loss(5)])?;
        let before = sites.path.lost_packets()?;
        let (near, far) = (sites.url(Site::Near), sites.url(Site::Far));
        tokio::task::spawn_blocking(move || {
            let (mut browser, mut bo) = anna_and_bo(&near, &far, ROOM)?;
            browser.wait_for_new_media("anna", &["bo"], 100)?;
            bo.wait_for_media(&["anna"], 100)?;
            let (pause, concealed) = browser.longest_pause_and_concealed_share("anna", "bo", 100)?;
            eprintln!(
                "mtu 1280, loss 5 %: Chromium's longest pause between video frames was {pause:.0} ms; \
                 it concealed {:.2} % of the audio",
                concealed * 100.0
            );
            assert!(concealed < 0.05, "audio is continuous: {concealed}");
            assert!(bo.finish()?, "bo's client ends with status 0");
            anyhow::Ok(())
        })
        .await??;
        assert!(sites.path.lost_packets()? > before, "the path lost no packets");
        for site in [Site::Near, Site::Far] {
            assert!(sites.counter(site, "systir_link_in_total").await? > 100, "media crossed the link");
        }
        Ok(())
    })
}
