//! LiveKit's protocol by a client that does what no SDK would, across two nodes where it matters:
//! one person on the home, the other on its sister.

use anyhow::Result;
use livekit_protocol::{
    LeaveRequest, MuteTrackRequest, ParticipantTracks, Ping, TrackInfo, UpdateParticipantMetadata,
    UpdateSubscription, UpdateTrackSettings, VideoQuality, leave_request, participant_info, request_response,
};
use livekit_token::{AccessToken, VideoGrants};
use systir_tests::cluster::{Cluster, token};
use systir_tests::scenario::play;
use systir_tests::scripted::{Arrived, Coding, Happened, Request, Response, Scripted};

const LAYERS: [&str; 3] = ["q", "h", "f"];

/// Ada on the home, which has one seat, and Bob on the sister.
async fn two(room: &str, query: &str) -> Result<(Cluster, Scripted, Scripted)> {
    let cluster = Cluster::demo(&[("cph-1", 1), ("sto-1", 8)]).await?;
    let ada = Scripted::meet(&cluster.url("cph-1"), &token(room, "ada")?, query).await?;
    let bob = Scripted::meet(&cluster.url("cph-1"), &token(room, "bob")?, query).await?;
    Ok((cluster, ada, bob))
}

fn allowed(room: &str, identity: &str, grants: VideoGrants) -> Result<String> {
    let grants = VideoGrants { room_join: true, room: room.to_owned(), ..grants };
    Ok(AccessToken::with_api_key("devkey", "secret").with_identity(identity).with_grants(grants).to_jwt()?)
}

/// Numbers without a hole and timestamps that only grow.
fn is_one_stream(arrived: &[Arrived]) -> bool {
    arrived.windows(2).all(|pair| {
        let [before, after] = pair else { return true };
        after.seq == before.seq + 1 && after.time.wrapping_sub(before.time) as i32 >= 0
    })
}

fn shows(arrived: &[Arrived], layer: u8) -> bool {
    arrived.iter().rev().filter_map(|one| one.picture).take(5).filter(|one| one.layer == layer).count() == 5
}

fn is_active(said: &Response, sid: &str) -> Option<()> {
    let Response::Update(update) = said else { return None };
    let active = |who: &livekit_protocol::ParticipantInfo| {
        who.sid == sid && who.state() == participant_info::State::Active
    };
    update.participants.iter().any(active).then_some(())
}

fn reason(said: &Response) -> Option<request_response::Reason> {
    match said {
        Response::RequestResponse(response) => Some(response.reason()),
        _ => None,
    }
}

#[test]
fn layers_change_at_key_frames_within_one_stream_across_nodes() -> Result<()> {
    play(async {
        let (_cluster, mut ada, mut bob) = two("layers", "").await?;
        let track = ada.publish("cam", Coding::Vp8, &LAYERS).await?;
        bob.sees_track("ada", |seen| {
            seen.sid == track.sid && seen.codecs.iter().any(|codec| codec.layers.len() == 3)
        })
        .await?;
        bob.receives("the highest layer", &track.sid, |arrived| shows(arrived, 2)).await?;
        let setting = |settings: UpdateTrackSettings| {
            Request::TrackSetting(UpdateTrackSettings { track_sids: vec![track.sid.clone()], ..settings })
        };
        let quality =
            |quality: VideoQuality| UpdateTrackSettings { quality: quality.into(), ..Default::default() };
        for (settings, layer) in [
            (quality(VideoQuality::Low), 0),
            (quality(VideoQuality::Medium), 1),
            (UpdateTrackSettings { width: 300, height: 170, ..Default::default() }, 0),
            (UpdateTrackSettings { width: 1280, height: 720, ..Default::default() }, 2),
        ] {
            bob.send(setting(settings));
            bob.receives(&format!("layer {layer}"), &track.sid, |arrived| shows(arrived, layer)).await?;
        }
        let arrived = bob.arrived(&track.sid);
        assert!(is_one_stream(&arrived), "{arrived:?}");
        let pictures: Vec<_> = arrived.iter().filter_map(|one| one.picture).collect();
        for pair in pictures.windows(2) {
            assert!(
                pair[0].layer == pair[1].layer || pair[1].key,
                "a layer begins with a key frame: {pair:?}"
            );
            let (before, after) = (pair[0].id.unwrap_or_default(), pair[1].id.unwrap_or_default());
            assert_eq!(after, before.wrapping_add(1) & 0x7FFF, "picture ids have no hole: {pair:?}");
        }
        // Disabled, nothing comes; a message that went the same way afterwards proves it.
        bob.send(setting(UpdateTrackSettings { disabled: true, ..Default::default() }));
        bob.send(Request::PingReq(Ping { timestamp: 7, rtt: 0 }));
        bob.said("pong", |said| {
            matches!(said, Response::PongResp(pong) if pong.last_ping_timestamp == 7).then_some(())
        })
        .await?;
        ada.say(true, "flush", &[]);
        bob.heard("flush").await?;
        bob.forget_arrivals();
        ada.say(true, "flush again", &[]);
        bob.heard("flush again").await?;
        assert!(bob.arrived(&track.sid).len() <= 1, "{:?}", bob.arrived(&track.sid));
        bob.send(setting(quality(VideoQuality::High)));
        bob.receives("the picture again", &track.sid, |arrived| shows(arrived, 2)).await?;
        Ok(())
    })
}

#[test]
fn h264_and_sound_arrive_and_the_codec_need_not_be_named() -> Result<()> {
    play(async {
        let (_cluster, mut ada, mut bob) = two("codecs", "").await?;
        let named = ada.publish("named", Coding::H264, &[]).await?;
        let sound = ada.publish("sound", Coding::Opus, &[]).await?;
        bob.receives("H.264", &named.sid, |arrived| shows(arrived, 2)).await?;
        bob.receives("sound", &sound.sid, |arrived| arrived.len() > 20).await?;
        bob.said("speakers", |said| match said {
            Response::SpeakersChanged(changed) => {
                changed.speakers.iter().any(|one| one.active && one.sid == ada.sid).then_some(())
            }
            _ => None,
        })
        .await?;
        // Not named, the first codec of the m-line is assumed until the packets say otherwise.
        let unnamed = ada.announce("unnamed", Coding::H264, &[], false).await?;
        ada.offer("unnamed", Coding::H264, &[]);
        bob.sees_track("ada", |seen| seen.sid == unnamed.sid && seen.mime_type == "video/H264").await?;
        bob.receives("H.264 that was not named", &unnamed.sid, |arrived| shows(arrived, 2)).await?;
        Ok(())
    })
}

#[test]
fn track_may_be_offered_before_it_is_announced() -> Result<()> {
    play(async {
        let (_cluster, mut ada, bob) = two("early", "").await?;
        ada.offer("cam", Coding::Vp8, &[]);
        ada.said("answer", |said| matches!(said, Response::Answer(_)).then_some(())).await?;
        let track = ada.announce("cam", Coding::Vp8, &[], true).await?;
        bob.receives("the picture", &track.sid, |arrived| shows(arrived, 2)).await?;
        Ok(())
    })
}

#[test]
fn data_goes_to_whom_it_is_meant_for_and_names_its_sender() -> Result<()> {
    play(async {
        let (cluster, ada, mut bob) = two("data", "").await?;
        let mut eve = Scripted::meet(&cluster.url("sto-1"), &token("data", "eve")?, "").await?;
        ada.say(true, "to all", &[]);
        let (label, packet) = bob.heard("to all").await?;
        assert_eq!((label.as_str(), packet.participant_identity.as_str()), ("_reliable", "ada"));
        assert_eq!(packet.participant_sid, ada.sid);
        eve.heard("to all").await?;
        ada.say(false, "quick", &["bob"]);
        let (label, _) = bob.heard("quick").await?;
        assert_eq!(label, "_lossy");
        ada.say(true, "to bob", &["bob"]);
        ada.say(true, "to all again", &[]);
        bob.heard("to bob").await?;
        eve.heard("to all again").await?;
        assert!(!eve.has_heard("to bob") && !eve.has_heard("quick"), "it was not meant for her");
        // Who claims to be somebody else is stamped all the same.
        let forged = livekit_protocol::DataPacket {
            participant_identity: "bob".into(),
            value: Some(livekit_protocol::data_packet::Value::User(livekit_protocol::UserPacket {
                payload: b"forged".to_vec(),
                ..Default::default()
            })),
            ..Default::default()
        };
        ada.send_packet(true, forged);
        assert_eq!(eve.heard("forged").await?.1.participant_identity, "ada");
        Ok(())
    })
}

#[test]
fn client_that_toggles_without_end_disturbs_nobody_and_its_last_word_arrives() -> Result<()> {
    play(async {
        let cluster = Cluster::demo(&[("cph-1", 2), ("sto-1", 8)]).await?;
        let door = cluster.url("cph-1");
        let lively = VideoGrants { can_update_own_metadata: Some(true), ..VideoGrants::default() };
        let mut eve = Scripted::meet(&door, &allowed("toggles", "eve", lively)?, "").await?;
        let mut ada = Scripted::meet(&door, &token("toggles", "ada")?, "").await?;
        let mut bob = Scripted::meet(&door, &token("toggles", "bob")?, "").await?;
        let track = eve.publish("mic", Coding::Opus, &[]).await?;
        for listener in [&mut ada, &mut bob] {
            listener.sees_track("eve", |seen| seen.sid == track.sid).await?;
        }
        let set = |muted: bool| Request::Mute(MuteTrackRequest { sid: track.sid.clone(), muted });
        // More than it may at once: the rest is held back.
        for _ in 0..600 {
            eve.send(set(true));
            eve.send(set(false));
        }
        eve.send(set(true));
        let metadata = "the last word".to_owned();
        eve.send(Request::UpdateMetadata(UpdateParticipantMetadata { metadata, ..Default::default() }));
        for listener in [&mut ada, &mut bob] {
            listener
                .said("the last word", |said| match said {
                    Response::Update(update) => update
                        .participants
                        .iter()
                        .any(|who| who.metadata == "the last word" && who.tracks.iter().all(|t| t.muted))
                        .then_some(()),
                    _ => None,
                })
                .await?;
        }
        eve.send(Request::PingReq(Ping { timestamp: 9, rtt: 0 }));
        eve.said("pong", |said| {
            matches!(said, Response::PongResp(pong) if pong.last_ping_timestamp == 9).then_some(())
        })
        .await?;
        // Everybody is still there, on both nodes.
        bob.say(true, "still here", &[]);
        ada.heard("still here").await?;
        eve.heard("still here").await?;
        let log = cluster.log("demo")?;
        assert!(!log.contains("a link is down") && !log.contains("does not read"), "{log}");
        Ok(())
    })
}

#[test]
fn token_says_what_may_be_published_sent_and_changed() -> Result<()> {
    play(async {
        let cluster = Cluster::demo(&[]).await?;
        let door = cluster.url("cph-1");
        let mut bob = Scripted::meet(&door, &token("rights", "bob")?, "").await?;
        let quiet = VideoGrants {
            can_publish: Some(false),
            can_publish_data: Some(false),
            can_update_own_metadata: Some(false),
            ..VideoGrants::default()
        };
        let mut guest = Scripted::meet(&door, &allowed("rights", "guest", quiet)?, "").await?;
        guest.send(Request::AddTrack(systir_tests::scripted::announcement("cam", Coding::Vp8, &[], true)));
        assert_eq!(guest.said("refusal", reason).await?, request_response::Reason::NotAllowed);
        guest.send(Request::UpdateMetadata(UpdateParticipantMetadata {
            name: "Boss".into(),
            request_id: 5,
            ..Default::default()
        }));
        assert_eq!(guest.said("refusal", reason).await?, request_response::Reason::NotAllowed);
        guest.say(true, "psst", &[]);

        let sound_only =
            VideoGrants { can_publish_sources: vec!["microphone".into()], ..VideoGrants::default() };
        let mut singer = Scripted::meet(&door, &allowed("rights", "singer", sound_only)?, "").await?;
        singer.send(Request::AddTrack(systir_tests::scripted::announcement("cam", Coding::Vp8, &[], true)));
        assert_eq!(singer.said("refusal", reason).await?, request_response::Reason::NotAllowed);
        let sound = singer.publish("mic", Coding::Opus, &[]).await?;
        bob.receives("the singer", &sound.sid, |arrived| arrived.len() > 5).await?;
        singer.say(true, "loud", &[]);
        bob.heard("loud").await?;
        assert!(!bob.has_heard("psst"), "the guest may not send data");

        let blind = VideoGrants { can_subscribe: Some(false), ..VideoGrants::default() };
        let mut blind = Scripted::meet(&door, &allowed("rights", "blind", blind)?, "").await?;
        blind.send(Request::Subscription(UpdateSubscription {
            track_sids: vec![sound.sid.clone()],
            subscribe: true,
            ..Default::default()
        }));
        blind
            .said("a refusal of the subscription", |said| match said {
                Response::SubscriptionPermissionUpdate(update) => (!update.allowed).then_some(()),
                _ => None,
            })
            .await?;
        assert!(blind.arrived(&sound.sid).is_empty());
        Ok(())
    })
}

#[test]
fn name_metadata_and_attributes_reach_the_other_node() -> Result<()> {
    play(async {
        let cluster = Cluster::demo(&[("cph-1", 1)]).await?;
        let door = cluster.url("cph-1");
        let own = VideoGrants { can_update_own_metadata: Some(true), ..VideoGrants::default() };
        let mut ada = Scripted::meet(&door, &allowed("names", "ada", own)?, "").await?;
        let mut bob = Scripted::meet(&door, &token("names", "bob")?, "").await?;
        let attributes = std::collections::HashMap::from([("seat".to_owned(), "4".to_owned())]);
        let change = UpdateParticipantMetadata {
            name: "Ada L.".into(),
            metadata: "speaks".into(),
            attributes,
            request_id: 3,
        };
        ada.send(Request::UpdateMetadata(change));
        assert_eq!(ada.said("consent", reason).await?, request_response::Reason::Ok);
        bob.said("the change", |said| match said {
            Response::Update(update) => update
                .participants
                .iter()
                .any(|who| {
                    let seat = who.attributes.get("seat").map(String::as_str);
                    (who.name.as_str(), who.metadata.as_str(), seat) == ("Ada L.", "speaks", Some("4"))
                })
                .then_some(()),
            _ => None,
        })
        .await?;
        Ok(())
    })
}

#[test]
fn same_identity_again_sends_the_former_away_also_from_another_node() -> Result<()> {
    play(async {
        let (cluster, mut ada, mut bob) = two("twice", "").await?;
        // Ada's seat on the home is taken by herself: her second self goes to the sister.
        let _again = Scripted::meet(&cluster.url("sto-1"), &token("twice", "ada")?, "").await?;
        let left = |said: &Response| match said {
            Response::Leave(leave) => Some((leave.reason(), leave.action())),
            _ => None,
        };
        let wanted =
            (livekit_protocol::DisconnectReason::DuplicateIdentity, leave_request::Action::Disconnect);
        assert_eq!(ada.said("leave", left).await?, wanted);
        let _bob = Scripted::meet(&cluster.url("cph-1"), &token("twice", "bob")?, "").await?;
        assert_eq!(bob.said("leave", left).await?, wanted);
        Ok(())
    })
}

#[test]
fn without_auto_subscribe_each_track_is_asked_for_both_ways() -> Result<()> {
    play(async {
        let (_cluster, mut ada, mut bob) = two("choice", "auto_subscribe=0").await?;
        let cam = ada.publish("cam", Coding::Vp8, &[]).await?;
        let mic = ada.publish("mic", Coding::Opus, &[]).await?;
        bob.sees_track("ada", |seen| seen.sid == mic.sid).await?;
        let ada_sid = ada.sid.clone();
        let ask = |subscribe: bool, track: &TrackInfo, nested: bool| {
            let sids = vec![track.sid.clone()];
            let mut request = UpdateSubscription { subscribe, ..Default::default() };
            if nested {
                let participant_sid = ada_sid.clone();
                request.participant_tracks = vec![ParticipantTracks { participant_sid, track_sids: sids }];
            } else {
                request.track_sids = sids;
            }
            Request::Subscription(request)
        };
        bob.send(ask(true, &cam, false));
        bob.receives("the picture", &cam.sid, |arrived| shows(arrived, 2)).await?;
        assert!(bob.arrived(&mic.sid).is_empty(), "it was not asked for");
        bob.send(ask(true, &mic, true));
        bob.receives("the sound", &mic.sid, |arrived| arrived.len() > 10).await?;
        ada.said("the first subscription", |said| match said {
            Response::TrackSubscribed(told) => (told.track_sid == mic.sid).then_some(()),
            _ => None,
        })
        .await?;
        bob.send(ask(false, &cam, true));
        bob.send(ask(false, &mic, false));
        bob.said("an offer without them", |said| match said {
            Response::Offer(offer) => (offer.mid_to_track_id.is_empty() && offer.id > 2).then_some(()),
            _ => None,
        })
        .await?;
        bob.send(ask(true, &cam, true));
        bob.forget_arrivals();
        bob.receives("the picture again", &cam.sid, |arrived| shows(arrived, 2)).await?;
        Ok(())
    })
}

#[test]
fn mute_unpublish_and_leave_are_seen_on_the_other_node() -> Result<()> {
    play(async {
        let (_cluster, mut ada, mut bob) = two("goodbye", "").await?;
        let cam = ada.publish("cam", Coding::Vp8, &[]).await?;
        bob.receives("the picture", &cam.sid, |arrived| shows(arrived, 2)).await?;
        for muted in [true, false] {
            ada.send(Request::Mute(MuteTrackRequest { sid: cam.sid.clone(), muted }));
            bob.sees_track("ada", |seen| seen.sid == cam.sid && seen.muted == muted).await?;
        }
        bob.forget_arrivals();
        bob.receives("the picture again", &cam.sid, |arrived| shows(arrived, 2)).await?;
        ada.unpublish("cam");
        bob.said("no tracks", |said| match said {
            Response::Update(update) => update
                .participants
                .iter()
                .any(|who| who.sid == ada.sid && who.tracks.is_empty())
                .then_some(()),
            _ => None,
        })
        .await?;
        // The same again: the line's second life.
        let second = ada.publish("cam", Coding::Vp8, &[]).await?;
        bob.receives("the second picture", &second.sid, |arrived| shows(arrived, 2)).await?;
        ada.send(Request::Leave(LeaveRequest::default()));
        bob.said("the end", |said| match said {
            Response::Update(update) => update
                .participants
                .iter()
                .any(|who| who.sid == ada.sid && who.state() == participant_info::State::Disconnected)
                .then_some(()),
            _ => None,
        })
        .await?;
        ada.until("the end of signalling", |one| matches!(one, Happened::Closed).then_some(())).await?;
        Ok(())
    })
}

#[test]
fn more_than_twenty_tracks_fit_one_connection() -> Result<()> {
    play(async {
        let (_cluster, mut ada, bob) = two("many", "").await?;
        let mut sids = Vec::new();
        for number in 0..24 {
            let coding = if number % 2 == 0 { Coding::Vp8 } else { Coding::Opus };
            sids.push(ada.publish(&format!("track-{number}"), coding, &[]).await?.sid);
        }
        for sid in &sids {
            bob.receives("every track", sid, |arrived| arrived.len() > 5).await?;
        }
        Ok(())
    })
}

#[test]
fn json_is_answered_in_json_and_old_requests_politely() -> Result<()> {
    play(async {
        let cluster = Cluster::demo(&[]).await?;
        let door = cluster.url("cph-1");
        let mut ada = Scripted::meet(&door, &token("json", "ada")?, "sdk=js&version=2.0.0").await?;
        let sid = ada.sid.clone();
        ada.said("itself active", |said| is_active(said, &sid)).await?;
        ada.send_text(r#"{"pingReq":{"timestamp":"41"}}"#);
        ada.said("a pong", |said| {
            matches!(said, Response::PongResp(pong) if pong.last_ping_timestamp == 41).then_some(())
        })
        .await?;
        ada.send(Request::Simulate(livekit_protocol::SimulateScenario::default()));
        ada.send(Request::SyncState(livekit_protocol::SyncState::default()));
        ada.send(Request::SubscriptionPermission(livekit_protocol::SubscriptionPermission {
            all_participants: true,
            ..Default::default()
        }));
        ada.send_text("{nonsense");
        ada.send(Request::Ping(1));
        ada.said("a pong", |said| matches!(said, Response::Pong(_)).then_some(())).await?;
        let answer = reqwest::get(format!("{door}/rtc/v1?access_token=x")).await?;
        assert_eq!(answer.status(), 404);
        assert!(
            answer.headers().contains_key("access-control-allow-origin"),
            "a page of any origin can read it"
        );
        assert!(reqwest::Client::new().head(&door).send().await?.status().is_success());
        Ok(())
    })
}

#[test]
fn coming_back_with_a_lost_session_means_to_join_anew() -> Result<()> {
    play(async {
        let (cluster, mut ada, bob) = two("again", "").await?;
        let cam = ada.publish("cam", Coding::Vp8, &[]).await?;
        bob.receives("the picture", &cam.sid, |arrived| shows(arrived, 2)).await?;
        ada.cut();
        let resume = format!("reconnect=1&sid={}", ada.sid);
        let resumed = Scripted::join(&cluster.url("cph-1"), &token("again", "ada")?, &resume).await;
        let refused = resumed.err().map(|error| format!("{error:#}")).unwrap_or_default();
        assert!(refused.contains("Leave") && refused.contains("StateMismatch"), "{refused}");
        let mut again = Scripted::meet(&cluster.url("cph-1"), &token("again", "ada")?, "").await?;
        let second = again.publish("cam", Coding::Vp8, &[]).await?;
        assert_ne!(cam.sid, second.sid);
        bob.receives("the picture of the second session", &second.sid, |arrived| shows(arrived, 2)).await?;
        Ok(())
    })
}

#[test]
fn quick_comings_and_goings_leave_nobody_behind() -> Result<()> {
    play(async {
        let cluster = Cluster::demo(&[]).await?;
        let door = cluster.url("cph-1");
        let mut watcher = Scripted::meet(&door, &token("door", "watcher")?, "").await?;
        for number in 0..10 {
            let guest = Scripted::join(&door, &token("door", &format!("guest-{number}"))?, "").await?;
            if number % 2 == 0 {
                guest.cut();
            }
            drop(guest);
        }
        let last = Scripted::meet(&door, &token("door", "last")?, "").await?;
        last.say(true, "still here", &[]);
        watcher.heard("still here").await?;
        systir_tests::process::eventually(
            "only two are left",
            std::time::Duration::from_secs(30),
            || async { (cluster.counter("cph-1", "systir_participants").await.ok()? == 2).then_some(()) },
        )
        .await?;
        Ok(())
    })
}
