//! Unchanged LiveKit clients on WebRTC stacks other than libwebrtc: the Go SDK (pion) and Firefox, each
//! with another participant on another node.

use anyhow::Result;
use livekit_protocol::TrackType;
use systir_tests::browser::Browser;
use systir_tests::cluster::{Cluster, token};
use systir_tests::driven_client::DrivenClient;
use systir_tests::scenario::run_scenario;
use systir_tests::scripted::{Response, ScriptedClient};

/// Runs a blocking function.
async fn blocking<T: Send + 'static>(what: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(what).await?
}

#[test]
fn go_sdk_meets_itself_across_two_nodes() -> Result<()> {
    run_scenario(async {
        let cluster = Cluster::demo(&[("cph-1", 1), ("sto-1", 4)]).await?;
        let gateway = cluster.url("cph-1");
        let (anna, bob) = (token("gophers", "anna")?, token("gophers", "bob")?);
        blocking(move || {
            let mut anna = DrivenClient::go(&gateway, &anna)?;
            let mut bob = DrivenClient::go(&gateway, &bob)?;
            anna.command("publish mic opus")?;
            anna.command("publish screen h264")?;
            anna.command("publish cam simulcast")?;
            bob.wait_for_frames("anna", "mic", 40)?;
            bob.wait_for_frames("anna", "screen", 15)?;
            bob.wait_for("the highest layer", |event| {
                (event["event"] == "size" && event["width"] == 320).then_some(())
            })?;
            bob.discard("size");
            bob.command("quality anna cam low")?;
            bob.wait_for("the lowest layer", |event| {
                (event["event"] == "size" && event["width"] == 80).then_some(())
            })?;
            bob.discard("size");
            bob.command("quality anna cam high")?;
            let back = |event: &serde_json::Value| {
                (event["event"] == "size" && event["width"] == 320).then(|| event["missing"].clone())
            };
            assert_eq!(bob.wait_for("the highest layer again", back)?, 0, "no sequence number is missing");

            anna.command("data reliable hello")?;
            anna.command("data lossy quick bob")?;
            for text in ["hello", "quick"] {
                bob.wait_for(text, |event| {
                    (event["text"] == text && event["participant"] == "anna").then_some(())
                })?;
            }
            anna.command("mute mic")?;
            bob.wait_for_track_event("muted", "anna", "mic")?;
            anna.command("unmute mic")?;
            bob.wait_for_track_event("unmuted", "anna", "mic")?;
            anna.command("unpublish screen")?;
            bob.wait_for_track_event("unpublished", "anna", "screen")?;
            // pion reuses the m-line of the unpublished track.
            anna.command("publish second vp8")?;
            bob.wait_for_frames("anna", "second", 15)?;
            bob.command("unsubscribe anna second")?;
            bob.wait_for_track_event("ended", "anna", "second")?;
            bob.command("subscribe anna second")?;
            bob.wait_for_track_event("subscribed", "anna", "second")?;
            bob.wait_for_frames("anna", "second", 15)?;
            anna.send_line("leave")?;
            bob.wait_for("anna leaves", |event| {
                (event["event"] == "participant-disconnected" && event["participant"] == "anna").then_some(())
            })?;
            Ok(())
        })
        .await
    })
}

#[test]
fn firefox_meets_chromium_across_two_nodes() -> Result<()> {
    run_scenario(async {
        let cluster = Cluster::demo(&[("cph-1", 1), ("sto-1", 4)]).await?;
        let gateway = cluster.url("cph-1");
        let url = gateway.clone();
        let (mut firefox, mut chromium) = blocking(move || {
            let mut firefox = DrivenClient::firefox()?;
            firefox.join_page(&url, "foxes", "reynard")?;
            let mut chromium = Browser::start()?;
            chromium.join(&url, "foxes", "ysengrin")?;
            firefox.wait_for_media("reynard", &["ysengrin"])?;
            chromium.wait_for_media("ysengrin", 1)?;
            Ok((firefox, chromium))
        })
        .await?;
        // Firefox's camera has simulcast layers, and its packets arrive.
        let mut bob = ScriptedClient::join_and_connect(&gateway, &token("foxes", "bob")?, "").await?;
        let camera = bob
            .wait_for_response("Firefox's camera", |response| match response {
                Response::Join(join) => {
                    let firefox = join.other_participants.iter().find(|one| one.name == "reynard")?;
                    firefox.tracks.iter().find(|track| track.r#type() == TrackType::Video).cloned()
                }
                _ => None,
            })
            .await?;
        assert!(camera.codecs.iter().any(|codec| codec.layers.len() > 1), "{camera:?}");
        bob.wait_for_packets("Firefox's camera", &camera.sid, |packets| packets.len() > 30).await?;
        blocking(move || {
        firefox.browser_command(&serde_json::json!({"do": "click", "page": "reynard", "selector": "#mic"}))?;
        let muted = "[...systirRoom().remoteParticipants.values()].some(p => p.name === 'reynard' && !p.isMicrophoneEnabled)";
        chromium.wait("ysengrin", muted, 20)?;
        firefox.browser_command(&serde_json::json!({"do": "close", "page": "reynard"}))?;
        let gone = "![...systirRoom().remoteParticipants.values()].some(p => p.name === 'reynard')";
        chromium.wait("ysengrin", gone, 45)?;
        Ok(())
    })
    .await
    })
}
