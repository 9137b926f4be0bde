//! Each video codec that browsers send crosses a link and is decoded as that codec.

use anyhow::Result;
use systir_tests::browser::Browser;
use systir_tests::cluster::{Cluster, token};
use systir_tests::scenario::run_scenario;

const ROOM: &str = "studio";

/// JavaScript that publishes a moving canvas with one codec and without a backup codec.
fn publish(codec: &str) -> String {
    format!(
        "(async () => {{
            const canvas = document.createElement('canvas');
            [canvas.width, canvas.height] = [320, 180];
            const pen = canvas.getContext('2d');
            let angle = 0;
            window.moving = setInterval(() => {{
                pen.fillStyle = `hsl(${{(angle += 7) % 360}} 60% 50%)`;
                pen.fillRect(angle % 300, angle % 160, 40, 40);
            }}, 60);
            const [track] = canvas.captureStream(15).getVideoTracks();
            const publication = await systirRoom().localParticipant.publishTrack(track, {{
                name: '{codec}', source: 'screen_share', simulcast: false,
                videoCodec: '{codec}', backupCodec: false, scalabilityMode: 'L1T1',
            }});
            return publication.trackSid;
        }})()"
    )
}

/// JavaScript: have video frames of that codec been decoded?
fn decoded(codec: &str) -> String {
    format!(
        "(async () => {{
            for (const remote of systirRoom().remoteParticipants.values()) {{
                for (const publication of remote.trackPublications.values()) {{
                    if (publication.trackName !== '{codec}' || !publication.track) continue;
                    const stats = [...(await publication.track.getRTCStatsReport()).values()];
                    const inbound = stats.find(entry => entry.type === 'inbound-rtp');
                    const codec = stats.find(entry => entry.id === inbound?.codecId);
                    if (inbound?.framesDecoded > 20 && codec?.mimeType.toLowerCase() === 'video/{codec}') return true;
                }}
            }}
            return false;
        }})()"
    )
}

#[test]
fn vp8_vp9_av1_and_h264_are_decoded_on_the_other_side_of_a_link() -> Result<()> {
    run_scenario(async {
        let cluster = Cluster::demo(&[("cph-1", 1), ("sto-1", 4)]).await?;
        let gateway = cluster.url("cph-1");
        tokio::task::spawn_blocking(move || {
            let mut browser = Browser::start()?;
            for participant in ["anna", "bo"] {
                browser.join_with_token(&gateway, ROOM, participant, &token(ROOM, participant)?)?;
            }
            for codec in ["vp8", "vp9", "av1", "h264"] {
                let sid = browser.eval("anna", &publish(codec))?;
                browser.wait("bo", &decoded(codec), 40)?;
                // One codec at a time: all run on few cores.
                let end = format!(
                    "(() => {{
                        const local = systirRoom().localParticipant;
                        clearInterval(window.moving);
                        const publication = local.trackPublications.get({sid});
                        return local.unpublishTrack(publication.track, true).then(() => true);
                    }})()"
                );
                browser.eval("anna", &end)?;
            }
            anyhow::Ok(())
        })
        .await??;
        assert!(cluster.counter("cph-1", "systir_link_out_total").await? > 100, "media crossed the link");
        Ok(())
    })
}
