//! Tracks of two participants with one sid: a hostile media node gives its participant's track the sid of another one's.

use super::*;

/// The sid of bob's audio, and of what eve publishes.
const SID: &str = "TR_AMbob";

fn eve() -> RemoteParticipant {
    remote("eve", 1, &[(SID, 200, Codec::Opus)])
}

/// The keys of the tracks that the client was given, by the publisher that the offer names.
fn received(client: &mut Client) -> BTreeMap<String, TrackKey> {
    client.advance(Duration::from_millis(50));
    let offer = client.last_offer().unwrap();
    client.take();
    client.answer_to(&offer, &[]);
    let downtracks = client.commands().into_iter().filter_map(|command| match command {
        WorkerCommand::Subscribe { downtrack, .. } => Some(downtrack.clone()),
        _ => None,
    });
    let publisher = |mid: &str| {
        let section = offer.sdp.split("m=").find(|section| section.contains(&format!("a=mid:{mid}\r\n")));
        let msid = section.unwrap().lines().find_map(|line| line.strip_prefix("a=msid:")).unwrap();
        assert!(msid.ends_with(&format!(" {SID}")), "{msid}");
        msid.split('|').next().unwrap().to_owned()
    };
    downtracks.map(|downtrack| (publisher(&downtrack.mid), downtrack.track)).collect()
}

fn bobs_audio() -> RemoteParticipant {
    remote("bob", 3, &[(SID, 100, Codec::Opus)])
}

fn both() -> BTreeMap<String, TrackKey> {
    BTreeMap::from([("PA_bob".to_owned(), TrackKey(100)), ("PA_eve".to_owned(), TrackKey(200))])
}

#[test]
fn each_is_received_under_its_own_publisher_whoever_is_seen_first() {
    for order in [[eve(), bobs_audio()], [bobs_audio(), eve()]] {
        let mut client = Client::active(vec![]);
        for participant in order {
            client.room(shown(vec![participant]));
        }
        assert_eq!(received(&mut client), both());
    }
}

#[test]
fn a_participant_that_leaves_takes_no_track_of_another_one_along() {
    let mut client = Client::active(vec![]);
    client.room(shown(vec![bobs_audio(), eve()]));
    received(&mut client);
    client.take();
    client.room(RoomEvent::Left { sid: "PA_eve".into(), reason: LeaveReason::ClientInitiated });
    let ended = client.commands().into_iter().filter_map(|command| match command {
        WorkerCommand::Unsubscribe { track, .. } => Some(*track),
        _ => None,
    });
    assert_eq!(ended.collect::<Vec<_>>(), [TrackKey(200)]);
}

#[test]
fn a_request_before_a_track_can_be_received_is_not_lost_to_another_participants_track() {
    let mut config = config(vec![]);
    config.auto_subscribe = false;
    let mut client = Client::active_with(config);
    client.room(shown(vec![RemoteParticipant { tracks: Vec::new(), ..bobs_audio() }, eve()]));
    client.send(Request::Subscription(proto::UpdateSubscription {
        track_sids: vec![SID.into()],
        subscribe: true,
        ..Default::default()
    }));
    client.room(shown(vec![bobs_audio()]));
    assert_eq!(received(&mut client), both(), "a request by sid is for each track with it");
}
