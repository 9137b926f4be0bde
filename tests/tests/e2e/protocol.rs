//! LiveKit's protocol, with a scripted client that can do what no SDK does. Where two nodes matter, one
//! participant is on the home node and the other on its sister.

use anyhow::Result;
use livekit_protocol::{
    LeaveRequest, MuteTrackRequest, ParticipantTracks, Ping, TrackInfo, UpdateParticipantMetadata,
    UpdateSubscription, UpdateTrackSettings, VideoQuality, leave_request, participant_info, request_response,
};
use livekit_token::{AccessToken, VideoGrants};
use systir_tests::cluster::{Cluster, token};
use systir_tests::scenario::run_scenario;
use systir_tests::scripted::{ClientEvent, ReceivedPacket, Request, Response, ScriptedClient, ScriptedCodec};

const LAYERS: [&str; 3] = ["q", "h", "f"];

/// Ada on the home node, which has one seat, and Bob on the sister.
async fn ada_and_bob(room: &str, query: &str) -> Result<(Cluster, ScriptedClient, ScriptedClient)> {
    let cluster = Cluster::demo(&[("cph-1", 1), ("sto-1", 8)]).await?;
    let ada = ScriptedClient::join_and_connect(&cluster.url("cph-1"), &token(room, "ada")?, query).await?;
    let bob = ScriptedClient::join_and_connect(&cluster.url("cph-1"), &token(room, "bob")?, query).await?;
    Ok((cluster, ada, bob))
}

fn token_with(room: &str, identity: &str, grants: VideoGrants) -> Result<String> {
    let grants = VideoGrants { room_join: true, room: room.to_owned(), ..grants };
    Ok(AccessToken::with_api_key("devkey", "secret").with_identity(identity).with_grants(grants).to_jwt()?)
}

/// Are the sequence numbers contiguous and the timestamps never decreasing?
fn is_one_stream(packets: &[ReceivedPacket]) -> bool {
    packets.windows(2).all(|pair| {
        let [before, after] = pair else { return true };
        after.seq == before.seq + 1 && after.time.wrapping_sub(before.time) as i32 >= 0
    })
}

/// Are the last five video packets of this layer?
fn shows(packets: &[ReceivedPacket], layer: u8) -> bool {
    packets.iter().rev().filter_map(|one| one.frame).take(5).filter(|one| one.layer == layer).count() == 5
}

fn is_active(response: &Response, sid: &str) -> Option<()> {
    let Response::Update(update) = response else { return None };
    let active = |one: &livekit_protocol::ParticipantInfo| {
        one.sid == sid && one.state() == participant_info::State::Active
    };
    update.participants.iter().any(active).then_some(())
}

fn reason(response: &Response) -> Option<request_response::Reason> {
    match response {
        Response::RequestResponse(response) => Some(response.reason()),
        _ => None,
    }
}

#[test]
fn layers_change_at_key_frames_within_one_stream_across_nodes() -> Result<()> {
    run_scenario(async {
        let (_cluster, mut ada, mut bob) = ada_and_bob("layers", "").await?;
        let track = ada.publish("cam", ScriptedCodec::Vp8, &LAYERS).await?;
        bob.wait_for_track("ada", |info| {
            info.sid == track.sid && info.codecs.iter().any(|codec| codec.layers.len() == 3)
        })
        .await?;
        bob.wait_for_packets("the highest layer", &track.sid, |packets| shows(packets, 2)).await?;
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
            bob.wait_for_packets(&format!("layer {layer}"), &track.sid, |packets| shows(packets, layer))
                .await?;
        }
        let packets = bob.packets(&track.sid);
        assert!(is_one_stream(&packets), "{packets:?}");
        let frames: Vec<_> = packets.iter().filter_map(|one| one.frame).collect();
        for pair in frames.windows(2) {
            assert!(
                pair[0].layer == pair[1].layer || pair[1].key,
                "a layer starts with a key frame: {pair:?}"
            );
            let (before, after) = (pair[0].id.unwrap_or_default(), pair[1].id.unwrap_or_default());
            assert_eq!(after, before.wrapping_add(1) & 0x7FFF, "picture ids are contiguous: {pair:?}");
        }
        // Disabled: no packet arrives between two messages that take the same path.
        bob.send(setting(UpdateTrackSettings { disabled: true, ..Default::default() }));
        bob.send(Request::PingReq(Ping { timestamp: 7, rtt: 0 }));
        bob.wait_for_response("pong", |response| {
            matches!(response, Response::PongResp(pong) if pong.last_ping_timestamp == 7).then_some(())
        })
        .await?;
        ada.send_data(true, "flush", &[]);
        bob.wait_for_data("flush").await?;
        bob.clear_packets();
        ada.send_data(true, "flush again", &[]);
        bob.wait_for_data("flush again").await?;
        assert!(bob.packets(&track.sid).len() <= 1, "{:?}", bob.packets(&track.sid));
        bob.send(setting(quality(VideoQuality::High)));
        bob.wait_for_packets("video again", &track.sid, |packets| shows(packets, 2)).await?;
        Ok(())
    })
}

/// The publisher's client, which does not turn layers off, is told so.
#[test]
fn a_layer_that_nobody_wants_is_turned_off_at_its_publisher_on_another_node_and_returns() -> Result<()> {
    run_scenario(async {
        let (_cluster, mut ada, bob) = ada_and_bob("dynacast", "").await?;
        let track = ada.publish("cam", ScriptedCodec::Vp8, &LAYERS).await?;
        bob.wait_for_packets("the highest layer", &track.sid, |packets| shows(packets, 2)).await?;
        for (quality, on) in
            [(VideoQuality::Low, [true, false, false]), (VideoQuality::High, [true, true, true])]
        {
            bob.send(Request::TrackSetting(UpdateTrackSettings {
                track_sids: vec![track.sid.clone()],
                quality: quality.into(),
                ..Default::default()
            }));
            ada.wait_for_response("which layers are wanted", |response| match response {
                Response::SubscribedQualityUpdate(update) if update.track_sid == track.sid => {
                    let codec = update.subscribed_codecs.iter().find(|codec| codec.codec == "vp8")?;
                    codec.qualities.iter().map(|one| one.enabled).eq(on).then_some(())
                }
                _ => None,
            })
            .await?;
        }
        bob.wait_for_packets("the highest layer again", &track.sid, |packets| shows(packets, 2)).await?;
        Ok(())
    })
}

#[test]
fn h264_and_opus_arrive_also_when_the_announcement_names_no_codec() -> Result<()> {
    run_scenario(async {
        let (_cluster, mut ada, mut bob) = ada_and_bob("codecs", "").await?;
        let named = ada.publish("named", ScriptedCodec::H264, &[]).await?;
        let audio = ada.publish("audio", ScriptedCodec::Opus, &[]).await?;
        bob.wait_for_packets("H.264", &named.sid, |packets| shows(packets, 2)).await?;
        bob.wait_for_packets("audio", &audio.sid, |packets| packets.len() > 20).await?;
        bob.wait_for_response("speakers", |response| match response {
            Response::SpeakersChanged(changed) => {
                changed.speakers.iter().any(|one| one.active && one.sid == ada.sid).then_some(())
            }
            _ => None,
        })
        .await?;
        // Without a name, the server assumes the first codec of the m-line until it sees packets.
        let unnamed = ada.announce("unnamed", ScriptedCodec::H264, &[], false).await?;
        ada.offer("unnamed", ScriptedCodec::H264, &[]);
        bob.wait_for_track("ada", |info| info.sid == unnamed.sid && info.mime_type == "video/H264").await?;
        bob.wait_for_packets("H.264 without a named codec", &unnamed.sid, |packets| shows(packets, 2))
            .await?;
        Ok(())
    })
}

#[test]
fn a_track_may_be_offered_before_it_is_announced() -> Result<()> {
    run_scenario(async {
        let (_cluster, mut ada, bob) = ada_and_bob("early", "").await?;
        ada.offer("cam", ScriptedCodec::Vp8, &[]);
        ada.wait_for_response("answer", |response| matches!(response, Response::Answer(_)).then_some(()))
            .await?;
        let track = ada.announce("cam", ScriptedCodec::Vp8, &[], true).await?;
        bob.wait_for_packets("video", &track.sid, |packets| shows(packets, 2)).await?;
        Ok(())
    })
}

#[test]
fn data_reaches_only_its_destinations_and_names_its_sender() -> Result<()> {
    run_scenario(async {
        let (cluster, mut ada, mut bob) = ada_and_bob("data", "").await?;
        let mut eve =
            ScriptedClient::join_and_connect(&cluster.url("sto-1"), &token("data", "eve")?, "").await?;
        // A message goes to those of whom the sender's node knows.
        let mut unknown = vec![bob.sid.clone(), eve.sid.clone()];
        ada.wait_for_response("bob and eve active", |response| {
            unknown.retain(|sid| is_active(response, sid).is_none());
            unknown.is_empty().then_some(())
        })
        .await?;
        ada.send_data(true, "to all", &[]);
        let (label, packet) = bob.wait_for_data("to all").await?;
        assert_eq!((label.as_str(), packet.participant_identity.as_str()), ("_reliable", "ada"));
        assert_eq!(packet.participant_sid, ada.sid);
        eve.wait_for_data("to all").await?;
        ada.send_data(false, "quick", &["bob"]);
        let (label, _) = bob.wait_for_data("quick").await?;
        assert_eq!(label, "_lossy");
        ada.send_data(true, "to bob", &["bob"]);
        ada.send_data(true, "to all again", &[]);
        bob.wait_for_data("to bob").await?;
        eve.wait_for_data("to all again").await?;
        assert!(
            !eve.has_received_data("to bob") && !eve.has_received_data("quick"),
            "eve is not a destination"
        );
        // The server overwrites a forged sender identity.
        let forged = livekit_protocol::DataPacket {
            participant_identity: "bob".into(),
            value: Some(livekit_protocol::data_packet::Value::User(livekit_protocol::UserPacket {
                payload: b"forged".to_vec(),
                ..Default::default()
            })),
            ..Default::default()
        };
        ada.send_data_packet(true, forged);
        assert_eq!(eve.wait_for_data("forged").await?.1.participant_identity, "ada");
        Ok(())
    })
}

#[test]
fn a_client_that_floods_requests_disturbs_no_other_and_its_last_state_arrives() -> Result<()> {
    run_scenario(async {
        let cluster = Cluster::demo(&[("cph-1", 2), ("sto-1", 8)]).await?;
        let gateway = cluster.url("cph-1");
        let may_update = VideoGrants { can_update_own_metadata: Some(true), ..VideoGrants::default() };
        let mut eve =
            ScriptedClient::join_and_connect(&gateway, &token_with("toggles", "eve", may_update)?, "")
                .await?;
        let mut ada = ScriptedClient::join_and_connect(&gateway, &token("toggles", "ada")?, "").await?;
        let mut bob = ScriptedClient::join_and_connect(&gateway, &token("toggles", "bob")?, "").await?;
        let track = eve.publish("mic", ScriptedCodec::Opus, &[]).await?;
        for other in [&mut ada, &mut bob] {
            other.wait_for_track("eve", |info| info.sid == track.sid).await?;
        }
        let set = |muted: bool| Request::Mute(MuteTrackRequest { sid: track.sid.clone(), muted });
        // More than the rate limiter accepts at once: it delays the rest.
        for _ in 0..600 {
            eve.send(set(true));
            eve.send(set(false));
        }
        eve.send(set(true));
        let metadata = "the last state".to_owned();
        eve.send(Request::UpdateMetadata(UpdateParticipantMetadata { metadata, ..Default::default() }));
        for other in [&mut ada, &mut bob] {
            other
                .wait_for_response("the last state", |response| match response {
                    Response::Update(update) => update
                        .participants
                        .iter()
                        .any(|one| one.metadata == "the last state" && one.tracks.iter().all(|t| t.muted))
                        .then_some(()),
                    _ => None,
                })
                .await?;
        }
        eve.send(Request::PingReq(Ping { timestamp: 9, rtt: 0 }));
        eve.wait_for_response("pong", |response| {
            matches!(response, Response::PongResp(pong) if pong.last_ping_timestamp == 9).then_some(())
        })
        .await?;
        // All are still connected, on both nodes.
        bob.send_data(true, "still here", &[]);
        ada.wait_for_data("still here").await?;
        eve.wait_for_data("still here").await?;
        let log = cluster.log("demo")?;
        assert!(!log.contains("a link is down") && !log.contains("does not read"), "{log}");
        Ok(())
    })
}

#[test]
fn a_tokens_grants_limit_what_is_published_sent_and_changed() -> Result<()> {
    run_scenario(async {
        let cluster = Cluster::demo(&[]).await?;
        let gateway = cluster.url("cph-1");
        let mut bob = ScriptedClient::join_and_connect(&gateway, &token("rights", "bob")?, "").await?;
        let nothing = VideoGrants {
            can_publish: Some(false),
            can_publish_data: Some(false),
            can_update_own_metadata: Some(false),
            ..VideoGrants::default()
        };
        let mut guest =
            ScriptedClient::join_and_connect(&gateway, &token_with("rights", "guest", nothing)?, "").await?;
        guest.send(Request::AddTrack(systir_tests::scripted::announcement(
            "cam",
            ScriptedCodec::Vp8,
            &[],
            true,
        )));
        assert_eq!(guest.wait_for_response("refusal", reason).await?, request_response::Reason::NotAllowed);
        guest.send(Request::UpdateMetadata(UpdateParticipantMetadata {
            name: "Boss".into(),
            request_id: 5,
            ..Default::default()
        }));
        assert_eq!(guest.wait_for_response("refusal", reason).await?, request_response::Reason::NotAllowed);
        guest.send_data(true, "psst", &[]);

        let microphone_only =
            VideoGrants { can_publish_sources: vec!["microphone".into()], ..VideoGrants::default() };
        let mut singer =
            ScriptedClient::join_and_connect(&gateway, &token_with("rights", "singer", microphone_only)?, "")
                .await?;
        singer.send(Request::AddTrack(systir_tests::scripted::announcement(
            "cam",
            ScriptedCodec::Vp8,
            &[],
            true,
        )));
        assert_eq!(singer.wait_for_response("refusal", reason).await?, request_response::Reason::NotAllowed);
        let audio = singer.publish("mic", ScriptedCodec::Opus, &[]).await?;
        bob.wait_for_packets("the singer's audio", &audio.sid, |packets| packets.len() > 5).await?;
        singer.send_data(true, "loud", &[]);
        bob.wait_for_data("loud").await?;
        assert!(!bob.has_received_data("psst"), "the guest may not send data");

        let no_subscribe = VideoGrants { can_subscribe: Some(false), ..VideoGrants::default() };
        let mut publisher_only = ScriptedClient::join_and_connect(
            &gateway,
            &token_with("rights", "publisher-only", no_subscribe)?,
            "",
        )
        .await?;
        publisher_only.send(Request::Subscription(UpdateSubscription {
            track_sids: vec![audio.sid.clone()],
            subscribe: true,
            ..Default::default()
        }));
        publisher_only
            .wait_for_response("a refusal of the subscription", |response| match response {
                Response::SubscriptionPermissionUpdate(update) => (!update.allowed).then_some(()),
                _ => None,
            })
            .await?;
        assert!(publisher_only.packets(&audio.sid).is_empty());
        Ok(())
    })
}

#[test]
fn name_metadata_and_attributes_reach_the_other_node() -> Result<()> {
    run_scenario(async {
        let cluster = Cluster::demo(&[("cph-1", 1)]).await?;
        let gateway = cluster.url("cph-1");
        let own = VideoGrants { can_update_own_metadata: Some(true), ..VideoGrants::default() };
        let mut ada =
            ScriptedClient::join_and_connect(&gateway, &token_with("names", "ada", own)?, "").await?;
        let mut bob = ScriptedClient::join_and_connect(&gateway, &token("names", "bob")?, "").await?;
        let attributes = std::collections::HashMap::from([("seat".to_owned(), "4".to_owned())]);
        let change = UpdateParticipantMetadata {
            name: "Ada L.".into(),
            metadata: "speaker".into(),
            attributes,
            request_id: 3,
        };
        ada.send(Request::UpdateMetadata(change));
        assert_eq!(ada.wait_for_response("the answer", reason).await?, request_response::Reason::Ok);
        bob.wait_for_response("the change", |response| match response {
            Response::Update(update) => update
                .participants
                .iter()
                .any(|one| {
                    let seat = one.attributes.get("seat").map(String::as_str);
                    (one.name.as_str(), one.metadata.as_str(), seat) == ("Ada L.", "speaker", Some("4"))
                })
                .then_some(()),
            _ => None,
        })
        .await?;
        Ok(())
    })
}

#[test]
fn a_second_join_of_an_identity_ends_the_first_also_from_another_node() -> Result<()> {
    run_scenario(async {
        let (cluster, mut ada, mut bob) = ada_and_bob("twice", "").await?;
        // The home node's only seat is Ada's own: her second session is placed on the sister.
        let _again =
            ScriptedClient::join_and_connect(&cluster.url("sto-1"), &token("twice", "ada")?, "").await?;
        let left = |response: &Response| match response {
            Response::Leave(leave) => Some((leave.reason(), leave.action())),
            _ => None,
        };
        let wanted =
            (livekit_protocol::DisconnectReason::DuplicateIdentity, leave_request::Action::Disconnect);
        assert_eq!(ada.wait_for_response("leave", left).await?, wanted);
        let _bob =
            ScriptedClient::join_and_connect(&cluster.url("cph-1"), &token("twice", "bob")?, "").await?;
        assert_eq!(bob.wait_for_response("leave", left).await?, wanted);
        Ok(())
    })
}

#[test]
fn without_auto_subscribe_tracks_are_subscribed_by_sid_and_by_participant() -> Result<()> {
    run_scenario(async {
        let (_cluster, mut ada, mut bob) = ada_and_bob("choice", "auto_subscribe=0").await?;
        let cam = ada.publish("cam", ScriptedCodec::Vp8, &[]).await?;
        let mic = ada.publish("mic", ScriptedCodec::Opus, &[]).await?;
        bob.wait_for_track("ada", |info| info.sid == mic.sid).await?;
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
        bob.wait_for_packets("video", &cam.sid, |packets| shows(packets, 2)).await?;
        assert!(bob.packets(&mic.sid).is_empty(), "not subscribed yet");
        bob.send(ask(true, &mic, true));
        bob.wait_for_packets("audio", &mic.sid, |packets| packets.len() > 10).await?;
        ada.wait_for_response("the first subscription", |response| match response {
            Response::TrackSubscribed(subscribed) => (subscribed.track_sid == mic.sid).then_some(()),
            _ => None,
        })
        .await?;
        bob.send(ask(false, &cam, true));
        bob.send(ask(false, &mic, false));
        bob.wait_for_response("an offer without them", |response| match response {
            Response::Offer(offer) => (offer.mid_to_track_id.is_empty() && offer.id > 2).then_some(()),
            _ => None,
        })
        .await?;
        bob.send(ask(true, &cam, true));
        bob.clear_packets();
        bob.wait_for_packets("video again", &cam.sid, |packets| shows(packets, 2)).await?;
        Ok(())
    })
}

#[test]
fn mute_unpublish_and_leave_are_seen_on_the_other_node() -> Result<()> {
    run_scenario(async {
        let (_cluster, mut ada, mut bob) = ada_and_bob("leaves", "").await?;
        let cam = ada.publish("cam", ScriptedCodec::Vp8, &[]).await?;
        bob.wait_for_packets("video", &cam.sid, |packets| shows(packets, 2)).await?;
        for muted in [true, false] {
            ada.send(Request::Mute(MuteTrackRequest { sid: cam.sid.clone(), muted }));
            bob.wait_for_track("ada", |info| info.sid == cam.sid && info.muted == muted).await?;
        }
        bob.clear_packets();
        bob.wait_for_packets("video again", &cam.sid, |packets| shows(packets, 2)).await?;
        ada.unpublish("cam");
        bob.wait_for_response("no tracks", |response| match response {
            Response::Update(update) => update
                .participants
                .iter()
                .any(|one| one.sid == ada.sid && one.tracks.is_empty())
                .then_some(()),
            _ => None,
        })
        .await?;
        // Published again, on the same m-line.
        let second = ada.publish("cam", ScriptedCodec::Vp8, &[]).await?;
        bob.wait_for_packets("video of the second track", &second.sid, |packets| shows(packets, 2)).await?;
        ada.send(Request::Leave(LeaveRequest::default()));
        bob.wait_for_response("ada's end", |response| match response {
            Response::Update(update) => update
                .participants
                .iter()
                .any(|one| one.sid == ada.sid && one.state() == participant_info::State::Disconnected)
                .then_some(()),
            _ => None,
        })
        .await?;
        ada.wait_for("the end of signalling", |one| matches!(one, ClientEvent::Closed).then_some(())).await?;
        Ok(())
    })
}

#[test]
fn more_than_twenty_tracks_fit_one_connection() -> Result<()> {
    run_scenario(async {
        let (_cluster, mut ada, bob) = ada_and_bob("many", "").await?;
        let mut sids = Vec::new();
        for number in 0..24 {
            let codec = if number % 2 == 0 { ScriptedCodec::Vp8 } else { ScriptedCodec::Opus };
            sids.push(ada.publish(&format!("track-{number}"), codec, &[]).await?.sid);
        }
        for sid in &sids {
            bob.wait_for_packets("every track", sid, |packets| packets.len() > 5).await?;
        }
        Ok(())
    })
}

#[test]
fn json_is_answered_in_json_and_legacy_requests_do_not_end_the_session() -> Result<()> {
    run_scenario(async {
        let cluster = Cluster::demo(&[]).await?;
        let gateway = cluster.url("cph-1");
        let mut ada =
            ScriptedClient::join_and_connect(&gateway, &token("json", "ada")?, "sdk=js&version=2.0.0")
                .await?;
        let sid = ada.sid.clone();
        ada.wait_for_response("itself active", |response| is_active(response, &sid)).await?;
        ada.send_text(r#"{"pingReq":{"timestamp":"41"}}"#);
        ada.wait_for_response("a pong", |response| {
            matches!(response, Response::PongResp(pong) if pong.last_ping_timestamp == 41).then_some(())
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
        ada.wait_for_response("a pong", |response| matches!(response, Response::Pong(_)).then_some(()))
            .await?;
        let answer = reqwest::get(format!("{gateway}/rtc/v1?access_token=x")).await?;
        assert_eq!(answer.status(), 404);
        assert!(
            answer.headers().contains_key("access-control-allow-origin"),
            "a page of any origin can read it"
        );
        assert!(reqwest::Client::new().head(&gateway).send().await?.status().is_success());
        Ok(())
    })
}

#[test]
fn a_resume_of_a_lost_session_is_refused_and_a_new_join_works() -> Result<()> {
    run_scenario(async {
        let (cluster, mut ada, bob) = ada_and_bob("again", "").await?;
        let cam = ada.publish("cam", ScriptedCodec::Vp8, &[]).await?;
        bob.wait_for_packets("video", &cam.sid, |packets| shows(packets, 2)).await?;
        ada.cut_signalling();
        let resume = format!("reconnect=1&sid={}", ada.sid);
        let resumed = ScriptedClient::join(&cluster.url("cph-1"), &token("again", "ada")?, &resume).await;
        let refused = resumed.err().map(|error| format!("{error:#}")).unwrap_or_default();
        assert!(refused.contains("Leave") && refused.contains("StateMismatch"), "{refused}");
        let mut again =
            ScriptedClient::join_and_connect(&cluster.url("cph-1"), &token("again", "ada")?, "").await?;
        let second = again.publish("cam", ScriptedCodec::Vp8, &[]).await?;
        assert_ne!(cam.sid, second.sid);
        bob.wait_for_packets("video of the second session", &second.sid, |packets| shows(packets, 2)).await?;
        Ok(())
    })
}

#[test]
fn quick_joins_and_leaves_leave_no_participants_behind() -> Result<()> {
    run_scenario(async {
        let cluster = Cluster::demo(&[]).await?;
        let gateway = cluster.url("cph-1");
        let mut watcher = ScriptedClient::join_and_connect(&gateway, &token("lobby", "watcher")?, "").await?;
        for number in 0..10 {
            let guest =
                ScriptedClient::join(&gateway, &token("lobby", &format!("guest-{number}"))?, "").await?;
            if number % 2 == 0 {
                guest.cut_signalling();
            }
            drop(guest);
        }
        let last = ScriptedClient::join_and_connect(&gateway, &token("lobby", "last")?, "").await?;
        last.send_data(true, "still here", &[]);
        watcher.wait_for_data("still here").await?;
        systir_tests::process::eventually(
            "only two are left",
            std::time::Duration::from_secs(30),
            || async { (cluster.counter("cph-1", "systir_participants").await.ok()? == 2).then_some(()) },
        )
        .await?;
        Ok(())
    })
}
