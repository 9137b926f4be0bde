//! Lines as they are between cities: packets get lost on them, and large ones do not pass. People
//! at both ends see moving pictures and hear whole words all the same.

use std::time::Duration;

use anyhow::Result;
use systir_load::{Config, Report};
use systir_tests::lossy_path::{Place, Trouble};
use systir_tests::participants::Crowd;
use systir_tests::scenario::play;
use systir_tests::two_sites::{Afar, anna_and_bo};
use tokio_util::sync::CancellationToken;

/// People at each end.
const PEOPLE: usize = 2;
const LENGTH: Duration = Duration::from_secs(8);
/// Packets as full as browsers make them: on the smallest path some need two datagrams.
const FULL_PACKET: usize = 1_180;

/// What the people at both ends saw and heard in a meeting of [`LENGTH`].
async fn meeting(afar: &Afar, room: &str) -> Result<[(Place, Report); 2]> {
    let over = CancellationToken::new();
    let people = |place| Config { no_rejoin: true, packet: FULL_PACKET, ..afar.people(place, room, PEOPLE) };
    // Those near fill the home, so that the others are served where they are.
    let near = Crowd::come_until(people(Place::Near), &over).await?;
    let far = Crowd::come_until(people(Place::Far), &over).await?;
    tokio::time::sleep(LENGTH).await;
    over.cancel();
    Ok([(Place::Near, near.go().await?), (Place::Far, far.go().await?)])
}

async fn pictures_move_and_words_are_whole(mtu: u16) -> Result<()> {
    let afar = Afar::start(mtu, [PEOPLE as u32, PEOPLE as u32]).await?;
    for loss in [0, 1, 5] {
        let lost_before = afar.line.lost()?;
        afar.trouble(&[Trouble::Loss(loss)])?;
        // Those of the meeting before have gone, and left their seats.
        for place in [Place::Near, Place::Far] {
            afar.until(place, "systir_seats_used", Duration::from_secs(30), |used| used == 0).await?;
        }
        let reports = meeting(&afar, &format!("mtu-{mtu}-loss-{loss}")).await?;
        let lost = afar.line.lost()? - lost_before;
        assert_eq!(lost > 0, loss > 0, "{lost} packets were lost on the line");
        for (place, report) in &reports {
            eprintln!(
                "mtu {mtu}, loss {loss} %, {place:?}: {} pictures, longest freeze {:.0} ms; sound missed {:.3} %, \
                 at most {} packets; given up {} of {}; age p99 {:.0} ms",
                report.pictures,
                report.freeze_max_ms,
                report.sound_missed_percent,
                report.sound_missed_run,
                report.packets_lost,
                report.packets_expected,
                report.latency_p99_ms,
            );
            let node = if *place == Place::Near { "cph-1" } else { "sto-1" };
            assert_eq!(report.nodes.get(node), Some(&PEOPLE), "{report:?}");
            assert!(report.ended.is_empty(), "{report:?}");
            assert_eq!(report.tracks_heard, report.tracks_expected, "{report:?}");
            assert_eq!(report.tracks_seen, PEOPLE * (2 * PEOPLE - 1), "{report:?}");
            assert_eq!(report.tracks_frozen, 0, "no picture stands still for a second: {report:?}");
            // What is later than 0.2 s counts as missed, be it for a stall of the machine.
            assert!(report.sound_missed_percent < 3.0, "sound has no gaps: {report:?}");
        }
    }
    for place in [Place::Near, Place::Far] {
        let asked = afar.counter(place, "systir_link_asked_again_total").await?;
        assert!(asked > 0, "what the line lost is asked for over the link: {place:?}");
    }
    Ok(())
}

#[test]
fn large_packets_pass_and_some_are_lost() -> Result<()> {
    play(pictures_move_and_words_are_whole(1500))
}

#[test]
fn a_tunnel_takes_its_share_of_each_packet() -> Result<()> {
    play(pictures_move_and_words_are_whole(1400))
}

#[test]
fn the_smallest_path_that_there_is() -> Result<()> {
    play(pictures_move_and_words_are_whole(1280))
}

/// The clients that people really have, whose decoders and jitter buffers are the judges.
#[test]
fn chromium_and_the_native_client_see_and_hear_each_other_over_the_worst_line() -> Result<()> {
    play(async {
        const ROOM: &str = "worst";
        let afar = Afar::start(1280, [1, 1]).await?;
        afar.trouble(&[Trouble::Loss(5)])?;
        let before = afar.line.lost()?;
        let (near, far) = (afar.url(Place::Near), afar.url(Place::Far));
        tokio::task::spawn_blocking(move || {
            let (mut browser, mut bo) = anna_and_bo(&near, &far, ROOM)?;
            browser.watches("anna", &["bo"], 100)?;
            bo.sees_and_hears(&["anna"], 100)?;
            let (pause, concealed) = browser.worst("anna", "bo", 100)?;
            eprintln!(
                "mtu 1280, loss 5 %: Chromium's longest pause between pictures was {pause:.0} ms; \
                 it made up {:.2} % of the sound",
                concealed * 100.0
            );
            assert!(concealed < 0.05, "sound has no gaps: {concealed}");
            assert!(bo.end()?, "bo leaves in good order");
            anyhow::Ok(())
        })
        .await??;
        assert!(afar.line.lost()? > before, "the line lost nothing");
        for place in [Place::Near, Place::Far] {
            assert!(afar.counter(place, "systir_link_in_total").await? > 100, "media crossed the link");
        }
        Ok(())
    })
}
