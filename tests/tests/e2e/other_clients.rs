//! Unchanged LiveKit clients on other WebRTC stacks than Chromium's: the Go SDK (pion) and Firefox,
//! each with somebody on another node.

use anyhow::Result;
use livekit_protocol::TrackType;
use systir_tests::browser::Browser;
use systir_tests::cluster::{Cluster, token};
use systir_tests::driven_client::Talker;
use systir_tests::scenario::play;
use systir_tests::scripted::{Response, Scripted};

/// Runs what blocks.
async fn blocking<T: Send + 'static>(what: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(what).await?
}

#[test]
fn go_sdk_meets_itself_across_two_nodes() -> Result<()> {
    play(async {
        let cluster = Cluster::demo(&[("cph-1", 1), ("sto-1", 4)]).await?;
        let door = cluster.url("cph-1");
        let (anna, bob) = (token("gophers", "anna")?, token("gophers", "bob")?);
        blocking(move || {
            let mut anna = Talker::go(&door, &anna)?;
            let mut bob = Talker::go(&door, &bob)?;
            anna.carry_out("publish mic opus")?;
            anna.carry_out("publish screen h264")?;
            anna.carry_out("publish cam simulcast")?;
            bob.receives("anna", "mic", 40)?;
            bob.receives("anna", "screen", 15)?;
            bob.until("the highest layer", |said| {
                (said["event"] == "size" && said["width"] == 320).then_some(())
            })?;
            bob.forget("size");
            bob.carry_out("quality anna cam low")?;
            bob.until("the lowest layer", |said| {
                (said["event"] == "size" && said["width"] == 80).then_some(())
            })?;
            bob.forget("size");
            bob.carry_out("quality anna cam high")?;
            let back = |said: &serde_json::Value| {
                (said["event"] == "size" && said["width"] == 320).then(|| said["missing"].clone())
            };
            assert_eq!(bob.until("the highest layer again", back)?, 0, "no number is left out on the way");

            anna.carry_out("data reliable hello")?;
            anna.carry_out("data lossy quick bob")?;
            for text in ["hello", "quick"] {
                bob.until(text, |said| (said["text"] == text && said["of"] == "anna").then_some(()))?;
            }
            anna.carry_out("mute mic")?;
            bob.of_track("muted", "anna", "mic")?;
            anna.carry_out("unmute mic")?;
            bob.of_track("unmuted", "anna", "mic")?;
            anna.carry_out("unpublish screen")?;
            bob.of_track("unpublished", "anna", "screen")?;
            // pion gives the m-line of the former track to the next one.
            anna.carry_out("publish second vp8")?;
            bob.receives("anna", "second", 15)?;
            bob.carry_out("unsubscribe anna second")?;
            bob.of_track("ended", "anna", "second")?;
            bob.carry_out("subscribe anna second")?;
            bob.of_track("subscribed", "anna", "second")?;
            bob.receives("anna", "second", 15)?;
            anna.tell("leave")?;
            bob.until("anna's end", |said| (said["event"] == "went" && said["of"] == "anna").then_some(()))?;
            Ok(())
        })
        .await
    })
}

#[test]
fn firefox_meets_chromium_across_two_nodes() -> Result<()> {
    play(async {
        let cluster = Cluster::demo(&[("cph-1", 1), ("sto-1", 4)]).await?;
        let door = cluster.url("cph-1");
        let url = door.clone();
        let (mut firefox, mut chromium) = blocking(move || {
            let mut firefox = Talker::firefox()?;
            firefox.join_page(&url, "foxes", "reynard")?;
            let mut chromium = Browser::start()?;
            chromium.join(&url, "foxes", "ysengrin")?;
            firefox.watches("reynard", &["ysengrin"])?;
            chromium.sees_and_hears("ysengrin", 1)?;
            Ok((firefox, chromium))
        })
        .await?;
        // What Firefox sends is numbered and layered as it should be.
        let mut bob = Scripted::meet(&door, &token("foxes", "bob")?, "").await?;
        let camera = bob
            .said("Firefox's camera", |said| match said {
                Response::Join(join) => {
                    let fox = join.other_participants.iter().find(|who| who.name == "reynard")?;
                    fox.tracks.iter().find(|track| track.r#type() == TrackType::Video).cloned()
                }
                _ => None,
            })
            .await?;
        assert!(camera.codecs.iter().any(|codec| codec.layers.len() > 1), "{camera:?}");
        bob.receives("Firefox's camera", &camera.sid, |arrived| arrived.len() > 30).await?;
        blocking(move || {
        firefox.ask(&serde_json::json!({"do": "click", "page": "reynard", "selector": "#mic"}))?;
        let muted = "[...systirRoom().remoteParticipants.values()].some(p => p.name === 'reynard' && !p.isMicrophoneEnabled)";
        chromium.wait("ysengrin", muted, 20)?;
        firefox.ask(&serde_json::json!({"do": "close", "page": "reynard"}))?;
        let gone = "![...systirRoom().remoteParticipants.values()].some(p => p.name === 'reynard')";
        chromium.wait("ysengrin", gone, 45)?;
        Ok(())
    })
    .await
    })
}
