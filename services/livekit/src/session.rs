//! The session of one participant: its state, its inputs and the join response.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use livekit_protocol::{
    self as proto, leave_request::Action, participant_info::State, request_response as rr,
    signal_request::Message as Request, signal_response::Message,
};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use systir_rtp::packet::Codec;

use super::config::{ServerFacts, SessionConfig, WallClock};
use super::event::{LeaveReason, MediaEvent, Output, RemoteParticipant, RoomEvent};
use super::reply;
use super::track::OwnTrack;
use super::visible::{VisibleTrack, VisibleTrackId};
use crate::sdp::{LocalTransport, Section, Subscriber, codecs};
use systir_media_control::{ReceiveSection, Remote, Side, WorkerCommand};

/// The client pings in this interval, and closes the connection when it gets no answer for `PING_TIMEOUT`.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(15);

/// How often the client is sent the connection quality of participants that are new or whose quality changed.
const QUALITY_INTERVAL: Duration = Duration::from_secs(5);

/// Inputs without effect, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Requests that were ignored.
    pub ignored: u64,
    /// Requests that could not be read.
    pub malformed: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// Data messages that were dropped.
    pub data_dropped: u64,
}

/// One participant's session at its media node.
#[derive(Debug)]
pub struct Session {
    pub(super) config: SessionConfig,
    pub(super) clock: WallClock,
    pub(super) rng: StdRng,
    pub(super) outputs: VecDeque<Output>,
    pub(super) counts: Counts,
    pub(super) now: Instant,
    /// This participant's state, as others see it.
    pub(super) own: proto::ParticipantInfo,
    pub(super) tracks: Vec<OwnTrack>,
    /// The m-lines of the last [`WorkerCommand::Receive`].
    pub(super) sections: Vec<ReceiveSection>,
    /// M-lines on which the client sends a track that it has not announced.
    pub(super) unbound_sections: Vec<Section>,
    /// Number of answers so far: the version in `o=`.
    pub(super) answers: u64,
    /// Session id in `o=` of answers.
    pub(super) description_id: u64,
    /// The client's transport of each side, as last sent to the worker.
    pub(super) remote: [Option<Remote>; 2],
    /// Other participants, by sid.
    pub(super) others: BTreeMap<Arc<str>, Arc<RemoteParticipant>>,
    /// Subscription requests for tracks that clients see but cannot subscribe to yet.
    pub(super) early_requests: BTreeMap<VisibleTrackId, bool>,
    /// Tracks of other participants.
    pub(super) visible: BTreeMap<VisibleTrackId, VisibleTrack>,
    pub(super) subscriber: Subscriber,
    /// Id of the last offer.
    pub(super) last_offer: u32,
    /// When the offer was sent that has no answer yet.
    pub(super) offered_at: Option<Instant>,
    /// When the first change since the last offer happened.
    pub(super) changed_at: Option<Instant>,
    pub(super) began_at: Instant,
    connected: bool,
    /// Sids whose connection quality is not sent yet, or has changed since.
    pub(super) quality_unsent: BTreeSet<Arc<str>>,
    /// Connection quality of those whose quality has changed, by sid.
    pub(super) qualities: BTreeMap<Arc<str>, proto::ConnectionQualityInfo>,
    next_quality: Instant,
    pub(super) ended: bool,
}

impl Session {
    /// Begins a session. The first outputs are the worker's `Join`, the client's `join` and the first offer,
    /// which contains the tracks that are already published.
    #[must_use]
    pub fn new(config: SessionConfig) -> Self {
        let now = config.now;
        let clock = WallClock::new(config.wall, now);
        let mut rng = StdRng::from_seed(config.seed);
        // RFC 8866: numeric; browsers read it as a signed 64-bit number.
        let description_id = rng.random::<u64>() >> 2;
        let own = own_info(&config, &clock);
        let mut session = Self {
            clock,
            outputs: VecDeque::new(),
            counts: Counts::default(),
            now,
            own,
            tracks: Vec::new(),
            sections: Vec::new(),
            unbound_sections: Vec::new(),
            answers: 0,
            description_id,
            remote: [None, None],
            others: BTreeMap::new(),
            early_requests: BTreeMap::new(),
            visible: BTreeMap::new(),
            subscriber: Subscriber::new(rng.random::<u64>() >> 2),
            last_offer: 0,
            offered_at: None,
            changed_at: None,
            began_at: now,
            connected: false,
            quality_unsent: BTreeSet::new(),
            qualities: BTreeMap::new(),
            next_quality: now + QUALITY_INTERVAL,
            ended: false,
            rng,
            config,
        };
        session.begin();
        session
    }

    fn begin(&mut self) {
        self.quality_unsent.insert(self.own.sid.as_str().into());
        self.media(WorkerCommand::Join {
            room: self.config.room_key,
            participant: self.config.participant,
            publisher: self.config.media.publisher.clone(),
            subscriber: self.config.media.subscriber.clone(),
        });
        let others = std::mem::take(&mut self.config.others);
        for other in &others {
            self.store_participant(other);
        }
        let join = self.join_response();
        self.signal(join);
        self.outputs.push_back(Output::Own(Box::new(self.own.clone())));
        self.update_all_subscriptions();
        self.changed_at = None;
        self.send_offer();
    }

    #[allow(deprecated)]
    fn join_response(&self) -> Message {
        let server = &self.config.server;
        let codec =
            |codec: &Codec| proto::Codec { mime: codecs::mime(*codec).to_owned(), fmtp_line: String::new() };
        Message::Join(proto::JoinResponse {
            room: Some(self.config.room.clone()),
            participant: Some(self.own.clone()),
            other_participants: self.others.values().map(|other| other.info.clone()).collect(),
            server_version: server.version.clone(),
            ice_servers: self.config.ice_servers.clone(),
            subscriber_primary: true,
            server_region: server.region.clone(),
            ping_timeout: PING_TIMEOUT.as_secs() as i32,
            ping_interval: PING_INTERVAL.as_secs() as i32,
            server_info: Some(proto::ServerInfo {
                edition: proto::server_info::Edition::Standard as i32,
                version: server.version.clone(),
                protocol: ServerFacts::PROTOCOL,
                region: server.region.clone(),
                node_id: server.node_id.clone(),
                ..Default::default()
            }),
            enabled_publish_codecs: self.config.codecs.iter().map(codec).collect(),
            fast_publish: self.config.grants.can_publish,
            ..Default::default()
        })
    }

    /// The next output; drain it after each input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Session::tick`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.ended {
            return None;
        }
        let limits = &self.config.limits;
        let offer = match self.offered_at {
            Some(since) => Some(since + limits.answer),
            None => self.changed_at.map(|since| since + limits.gather),
        };
        let connect = (!self.connected).then_some(self.began_at + limits.connect);
        let announced = self.tracks.iter().filter(|track| track.bound.is_none());
        let announced = announced.map(|track| track.announced_at + limits.announced).min();
        let quality = self.connected.then_some(self.next_quality);
        let unwanted = self.tracks.iter().filter_map(OwnTrack::unwanted_at).min();
        [offer, connect, announced, quality, unwanted].into_iter().flatten().min()
    }

    /// Handles timeouts.
    pub fn tick(&mut self, now: Instant) {
        self.now = now;
        if self.ended {
            return;
        }
        let limits = self.config.limits;
        let elapsed = |since: Instant, limit: Duration| now.saturating_duration_since(since) >= limit;
        if self.offered_at.is_some_and(|since| elapsed(since, limits.answer))
            || (!self.connected && elapsed(self.began_at, limits.connect))
        {
            return self.end(Action::Reconnect, LeaveReason::ConnectionTimeout);
        }
        if self.offered_at.is_none() && self.changed_at.is_some_and(|since| elapsed(since, limits.gather)) {
            self.send_offer();
        }
        self.tracks.retain(|track| track.bound.is_some() || !elapsed(track.announced_at, limits.announced));
        self.turn_off_unwanted();
        if self.connected && now >= self.next_quality {
            self.next_quality = now + QUALITY_INTERVAL;
            self.send_quality();
        }
    }

    /// Handles a request of the client.
    pub fn handle(&mut self, request: proto::SignalRequest, now: Instant) {
        self.now = now;
        if self.ended {
            return;
        }
        let Some(message) = request.message else {
            self.counts.malformed += 1;
            return;
        };
        match message {
            Request::Offer(offer) => self.publisher_offer(&offer),
            Request::Answer(answer) => self.subscriber_answer(&answer),
            Request::AddTrack(request) => self.add_track(request),
            Request::Mute(request) => self.mute(request),
            Request::Subscription(request) => self.update_subscription(&request),
            Request::TrackSetting(settings) => self.track_setting(settings),
            Request::Leave(leave) => {
                let reason = LeaveReason::try_from(leave.reason).unwrap_or(LeaveReason::UnknownReason);
                let unknown = reason == LeaveReason::UnknownReason;
                self.finish(if unknown { LeaveReason::ClientInitiated } else { reason });
            }
            Request::Ping(_) => {
                let millis = self.clock.millis(now);
                self.signal(Message::Pong(millis));
            }
            Request::PingReq(ping) => {
                let timestamp = self.clock.millis(now);
                self.signal(Message::PongResp(proto::Pong {
                    last_ping_timestamp: ping.timestamp,
                    timestamp,
                }));
            }
            Request::UpdateMetadata(request) => self.update_metadata(request),
            Request::UpdateAudioTrack(request) => self.update_audio_track(request),
            Request::UpdateVideoTrack(request) => self.update_video_track(request),
            Request::PublishDataTrackRequest(request) => {
                let of = rr::Request::PublishDataTrack(request);
                self.refuse(
                    0,
                    rr::Reason::UnsupportedType,
                    "data tracks are not supported by this server",
                    Some(of),
                );
            }
            Request::UnpublishDataTrackRequest(request) => {
                let of = rr::Request::UnpublishDataTrack(request);
                self.refuse(0, rr::Reason::NotFound, "there is no such data track", Some(of));
            }
            Request::StoreDataBlobRequest(request) => {
                let text = "data blobs are not supported by this server";
                self.refuse(request.request_id, rr::Reason::UnsupportedType, text, None);
            }
            Request::GetDataBlobRequest(request) => {
                let text = "data blobs are not supported by this server";
                self.refuse(request.request_id, rr::Reason::UnsupportedType, text, None);
            }
            // Refused, so that the client does not believe that its tracks are restricted.
            Request::SubscriptionPermission(permission) if !permission.all_participants => {
                let text =
                    "this server does not restrict subscriptions: every participant may receive a track";
                self.refuse(0, rr::Reason::UnsupportedType, text, None);
            }
            // ICE-lite needs no candidates of the client. The others are for resuming, for testing, or
            // obsolete.
            #[allow(deprecated)]
            Request::Trickle(_)
            | Request::UpdateLayers(_)
            | Request::SubscriptionPermission(_)
            | Request::SyncState(_)
            | Request::Simulate(_)
            | Request::UpdateDataSubscription(_) => self.counts.ignored += 1,
        }
    }

    /// Handles an event of the room.
    pub fn room_event(&mut self, event: RoomEvent, now: Instant) {
        self.now = now;
        if !self.ended {
            self.handle_room_event(event);
        }
    }

    /// Handles an event of the worker.
    pub fn media_event(&mut self, event: MediaEvent, now: Instant) {
        self.now = now;
        if self.ended {
            return;
        }
        match event {
            MediaEvent::Connected(Side::Subscriber) => self.connected(),
            MediaEvent::Connected(Side::Publisher) => {}
            MediaEvent::Closed(_) => self.end(Action::Reconnect, LeaveReason::MediaFailure),
            MediaEvent::Data { channel, packet } => self.data(channel, &packet),
            MediaEvent::Codec { track, codec } => self.codec_found(track, codec),
            MediaEvent::Wanted { track, layers } => self.layers_wanted(track, layers),
            MediaEvent::StreamState { changes } => self.stream_states(&changes),
        }
    }

    /// Counts of inputs without effect.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// This participant's state, as others see it.
    #[must_use]
    pub fn info(&self) -> &proto::ParticipantInfo {
        &self.own
    }

    /// Has the session ended?
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    fn connected(&mut self) {
        if self.connected {
            return;
        }
        self.connected = true;
        self.next_quality = self.now + QUALITY_INTERVAL;
        self.own.state = State::Active as i32;
        self.own_changed(true);
        self.send_quality();
    }

    /// The connection quality of a participant changed. The client is told with the next update.
    pub(super) fn quality_changed(&mut self, info: proto::ConnectionQualityInfo) {
        let sid = info.participant_sid.as_str();
        if sid != self.own.sid && !self.others.contains_key(sid) {
            return;
        }
        let sid: Arc<str> = sid.into();
        self.quality_unsent.insert(Arc::clone(&sid));
        self.qualities.insert(sid, info);
    }

    /// Sends the quality of each participant once, and again when it changed. What is not known is EXCELLENT.
    fn send_quality(&mut self) {
        let unsent = std::mem::take(&mut self.quality_unsent);
        if unsent.is_empty() {
            return;
        }
        let updates = unsent.into_iter().map(|sid| {
            self.qualities.get(&sid).cloned().unwrap_or_else(|| proto::ConnectionQualityInfo {
                participant_sid: String::from(&*sid),
                quality: proto::ConnectionQuality::Excellent as i32,
                score: 4.5,
            })
        });
        let update = proto::ConnectionQualityUpdate { updates: updates.collect() };
        self.signal(Message::ConnectionQuality(update));
    }

    /// Publishes a change of the participant's own state. `notify_client` is false when the client made the
    /// change.
    pub(super) fn own_changed(&mut self, notify_client: bool) {
        self.own.version = self.own.version.saturating_add(1);
        self.own.is_publisher = self.tracks.iter().any(|track| track.bound.is_some());
        self.own.tracks = self
            .tracks
            .iter()
            .filter(|track| track.bound.is_some())
            .map(|track| track.info.clone())
            .collect();
        self.outputs.push_back(Output::Own(Box::new(self.own.clone())));
        if notify_client {
            let own = self.own.clone();
            self.signal(reply::update(vec![own]));
        }
    }

    /// Sends the client a `leave` and ends the session.
    pub(super) fn end(&mut self, action: Action, reason: LeaveReason) {
        self.signal(reply::leave(action, reason));
        self.finish(reason);
    }

    fn finish(&mut self, reason: LeaveReason) {
        self.own.state = State::Disconnected as i32;
        self.own.disconnect_reason = reason as i32;
        let tracks = std::mem::take(&mut self.tracks);
        for track in tracks {
            self.unpublish(&track);
        }
        let subscribed: Vec<VisibleTrackId> = self
            .visible
            .iter()
            .filter(|(_, visible)| self.subscriber.contains(visible.track.key))
            .map(|(id, _)| id.clone())
            .collect();
        for id in subscribed {
            self.drop_subscription(&id);
        }
        self.media(WorkerCommand::Leave { participant: self.config.participant });
        self.own_changed(false);
        self.outputs.push_back(Output::Left { reason });
        self.ended = true;
    }

    pub(super) fn signal(&mut self, message: Message) {
        self.outputs.push_back(Output::Signal(reply::response(message)));
    }

    pub(super) fn media(&mut self, command: WorkerCommand) {
        self.outputs.push_back(Output::Media(command));
    }

    pub(super) fn refuse(&mut self, id: u32, reason: rr::Reason, text: &str, of: Option<rr::Request>) {
        self.counts.refused += 1;
        self.signal(reply::request_response(id, reason, text, of));
    }

    /// Sends the client's transport to the worker, if it changed.
    pub(super) fn set_remote(&mut self, side: Side, remote: Remote) {
        let [publisher, subscriber] = &mut self.remote;
        let current = match side {
            Side::Publisher => publisher,
            Side::Subscriber => subscriber,
        };
        if current.as_ref() == Some(&remote) {
            return;
        }
        *current = Some(remote.clone());
        self.media(WorkerCommand::Remote { participant: self.config.participant, side, remote });
    }

    /// The worker's end of a connection.
    pub(super) fn local_transport(config: &SessionConfig, side: Side) -> LocalTransport<'_> {
        let media = &config.media;
        let ice = match side {
            Side::Publisher => &media.publisher,
            Side::Subscriber => &media.subscriber,
        };
        LocalTransport { ice, fingerprint: &media.fingerprint, candidates: &media.candidates }
    }
}

fn own_info(config: &SessionConfig, clock: &WallClock) -> proto::ParticipantInfo {
    let grants = &config.grants;
    let mut attributes: std::collections::HashMap<String, String> =
        grants.attributes.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    attributes.extend(config.attributes.iter().cloned());
    let millis = clock.millis(config.now);
    proto::ParticipantInfo {
        sid: config.sid.clone(),
        identity: grants.identity.clone(),
        state: State::Joined as i32,
        metadata: grants.metadata.clone(),
        joined_at: millis / 1000,
        joined_at_ms: millis,
        name: grants.name.clone(),
        version: config.version.saturating_add(1),
        permission: Some(grants.permission()),
        region: config.server.region.clone(),
        kind: grants.kind,
        attributes,
        client_protocol: config.client.client_protocol,
        capabilities: config.client.capabilities.clone(),
        ..Default::default()
    }
}
