//! One synthetic participant: joins, publishes, subscribes, comes back when asked to.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use livekit_protocol::{
    AddTrackRequest, JoinResponse, ParticipantInfo, Ping, SessionDescription, SignalTarget, SimulcastCodec,
    SubscribedQualityUpdate, TrackSource, TrackType, TrickleRequest, VideoLayer, leave_request,
    participant_info,
};
use livekit_token::{AccessToken, VideoGrants};
use serde::Deserialize;
use str0m::change::SdpPendingOffer;
use str0m::format::Codec;
use str0m::media::{Direction, MediaKind, Mid, Pt, Rid, Simulcast, SimulcastLayer};
use str0m::rtp::{ExtensionValues, RtpWrite, Ssrc};
use str0m::{Event, Rtc};
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::Connector;

use crate::config::Config;
use crate::media::{Audio, Outgoing, RIDS, SIZES, Source, Stamp, Video, unix_us};
use crate::peer::Peer;
use crate::sdp::tracks_by_mid;
use crate::signal::{Incoming, JoinError, Request, Signal, describe};
use crate::stats::Stats;

/// How long signalling and media together may take.
const JOIN_LIMIT: Duration = Duration::from_secs(20);
/// How long to listen for the reason when the media has ended.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Attempts to come back before giving up.
const REJOINS: u32 = 8;
/// By this attribute a server tells which node carries a participant's media.
const NODE_ATTRIBUTE: &str = "systir.node";
/// Bytes of an RTP header without extensions.
const RTP_HEADER: usize = 12;

/// What everyone does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Joining,
    Measuring,
    /// Nothing is counted any more, but everyone is still there.
    Over,
    Leave,
}

/// What the runner is told while it runs: once `Joined` or `Refused`, and once `Counted` by those
/// who joined.
#[derive(Debug)]
pub(crate) enum Note {
    Joined(Duration),
    Refused { identity: String, error: JoinError },
    Counted,
}

/// What the runner is told in the end.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) stats: Stats,
    pub(crate) tracks_expected: usize,
    pub(crate) tracks_heard: usize,
    /// How long each absence was that ended with a new session.
    pub(crate) absences: Vec<Duration>,
    /// The node that carries its media, as far as the server says.
    pub(crate) node: String,
    /// Why it was not there in the end.
    pub(crate) ended: Option<String>,
}

pub(crate) struct Participant {
    pub(crate) config: Arc<Config>,
    pub(crate) base: String,
    pub(crate) tls: Option<Connector>,
    pub(crate) index: usize,
    pub(crate) publishes: bool,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) notes: mpsc::Sender<Note>,
    pub(crate) outcome: Outcome,
    pub(crate) counted: bool,
}

/// How a session ended.
enum Ended {
    /// The test is over.
    Done,
    NotJoined(JoinError),
    Lost(String),
    /// The server does not want it back.
    Dismissed(String),
}

impl Participant {
    fn identity(&self) -> String {
        format!("{}-{}", self.config.identity_prefix, self.index)
    }

    /// Stays until the test is over or the server does not want it any more.
    pub(crate) async fn run(mut self) -> Outcome {
        let mut joined = false;
        let mut away_since = None;
        let mut failures = 0;
        loop {
            let ended = self.session(&mut joined, &mut away_since).await;
            let why = match ended {
                Ended::Done => break,
                Ended::NotJoined(error) if !joined => {
                    let _ = self.notes.send(Note::Refused { identity: self.identity(), error }).await;
                    return self.outcome;
                }
                Ended::NotJoined(error) => {
                    failures += 1;
                    error.to_string()
                }
                Ended::Lost(why) => {
                    failures = 0;
                    away_since = Some(Instant::now());
                    why
                }
                Ended::Dismissed(why) => {
                    self.outcome.ended = Some(why);
                    break;
                }
            };
            if self.config.no_rejoin || failures > REJOINS {
                self.outcome.ended = Some(why);
                break;
            }
            // Full jitter, so that a crowd does not come back as one.
            let pause = Duration::from_millis(300) * 2_u32.pow(failures.min(5));
            tokio::select! {
                () = tokio::time::sleep(pause.mul_f64(rand::random::<f64>())) => {}
                () = over(self.phase.clone()) => {
                    self.outcome.ended = Some(why);
                    break;
                }
            }
        }
        self.count(None).await;
        self.outcome
    }

    /// Fixes the result, once; what is counted afterwards is thrown away.
    async fn count(&mut self, session: Option<&Session>) {
        if std::mem::replace(&mut self.counted, true) {
            return;
        }
        if let Some(session) = session {
            let expected = session.expected_tracks();
            self.outcome.tracks_heard = self.outcome.stats.heard(&expected);
            self.outcome.tracks_expected = expected.len();
            self.outcome.node = session.node.clone();
        }
        let _ = self.notes.send(Note::Counted).await;
    }

    fn token(&self) -> Result<String, JoinError> {
        let identity = self.identity();
        let grants = VideoGrants {
            room_join: true,
            room: self.config.room.clone(),
            can_publish: Some(self.publishes),
            can_subscribe: Some(true),
            ..VideoGrants::default()
        };
        AccessToken::with_api_key(&self.config.api_key, &self.config.api_secret)
            .with_identity(&identity)
            .with_name(&identity)
            .with_grants(grants)
            .to_jwt()
            .map_err(|error| JoinError::Protocol(format!("cannot sign a token: {error}")))
    }

    async fn session(&mut self, joined: &mut bool, away_since: &mut Option<Instant>) -> Ended {
        let started = Instant::now();
        let opened = tokio::select! {
            opened = self.open() => opened,
            () = over(self.phase.clone()) => return Ended::Done,
        };
        let mut session = match opened {
            Ok(session) => session,
            Err(error) => return Ended::NotJoined(error),
        };
        let mut arrived = None;
        let ended = loop {
            if session.unsettled() {
                if started.elapsed() > JOIN_LIMIT {
                    break Ended::NotJoined(JoinError::TooSlow("media connection"));
                }
                if arrived.is_none() && session.primary_connected() {
                    arrived = Some(started.elapsed());
                }
                if session.ready() {
                    session.settle();
                    if std::mem::replace(joined, true) {
                        self.outcome.absences.extend(away_since.take().map(|since| since.elapsed()));
                    } else {
                        let after = arrived.unwrap_or_else(|| started.elapsed());
                        let _ = self.notes.send(Note::Joined(after)).await;
                    }
                }
            }
            let due =
                session.due().min(if session.unsettled() { started + JOIN_LIMIT } else { session.due() });
            let step = tokio::select! {
                biased;
                changed = self.phase.changed() => {
                    let phase = if changed.is_ok() { *self.phase.borrow_and_update() } else { Phase::Leave };
                    match phase {
                        Phase::Joining => {}
                        Phase::Measuring => self.outcome.stats = Stats::new(),
                        Phase::Over => self.count(Some(&session)).await,
                        Phase::Leave => break Ended::Done,
                    }
                    Ok(())
                }
                message = session.signal.next() => match message {
                    Ok(message) => session.on_signal(message).await,
                    Err(why) => Err(anyhow!(why)),
                },
                readable = session.subscriber.readable() => readable.map_err(Into::into)
                    .and_then(|()| session.subscriber.receive()),
                readable = readable(session.publisher.as_ref()) => readable.map_err(Into::into)
                    .and_then(|()| session.publisher.as_mut().map_or(Ok(()), |p| p.peer.receive())),
                () = tokio::time::sleep_until(due.into()) => session.tick(&mut self.outcome.stats).await,
            };
            session.look(&mut self.outcome.stats);
            let step = step.and_then(|()| session.alive());
            if let Err(error) = step {
                let error = session.last_words(error).await;
                let why = format!("{error:#}");
                let dismissed = error.downcast_ref::<Left>().is_some_and(|left| !left.again);
                break match (session.unsettled(), dismissed) {
                    (true, true) => Ended::NotJoined(JoinError::Refused(why)),
                    (true, false) => Ended::NotJoined(JoinError::Ended(why)),
                    (false, true) => Ended::Dismissed(why),
                    (false, false) => Ended::Lost(why),
                };
            }
        };
        if matches!(ended, Ended::Done) {
            self.count(Some(&session)).await;
        }
        session.signal.leave().await;
        ended
    }

    async fn open(&self) -> Result<Session, JoinError> {
        let token = self.token()?;
        let (signal, join) = Signal::join(&self.base, &token, self.tls.clone()).await?;
        let local = signal.local_ip().ok_or_else(|| JoinError::Unreachable("no local address".into()))?;
        let now = Instant::now();
        let ended = |error: anyhow::Error| JoinError::Ended(format!("{error:#}"));
        let subscriber = Peer::open(Rtc::builder(), local, now).await.map_err(ended)?;
        let publisher = if self.publishes {
            let codecs = Rtc::builder().clear_codecs().enable_opus(true, false).enable_vp8(true);
            let peer = Peer::open(codecs, local, now).await.map_err(ended)?;
            Some(Publisher::new(peer, self.config.clone(), self.index))
        } else {
            None
        };
        let mut session = Session::new(signal, subscriber, publisher, join, now);
        session.add_tracks().await.map_err(ended)?;
        Ok(session)
    }
}

/// Ends when nothing is counted any more.
async fn over(mut phase: watch::Receiver<Phase>) {
    // An error means that the runner is gone, and then it is over as well.
    let _ = phase.wait_for(|phase| *phase >= Phase::Over).await;
}

async fn readable(publisher: Option<&Publisher>) -> std::io::Result<()> {
    match publisher {
        Some(publisher) => publisher.peer.readable().await,
        None => std::future::pending().await,
    }
}

/// A joined participant's connections.
struct Session {
    signal: Signal,
    subscriber: Peer,
    publisher: Option<Publisher>,
    subscriber_primary: bool,
    settled: bool,
    me: String,
    node: String,
    others: HashMap<String, HashSet<String>>,
    tracks: HashMap<String, String>,
    /// Track and whether it is video, by SSRC; found anew after each offer.
    streams: HashMap<Ssrc, (String, bool)>,
    ping_every: Duration,
    ping_timeout: Duration,
    ping_due: Instant,
    pong_at: Instant,
    rtt_ms: i64,
}

impl Session {
    fn new(
        signal: Signal,
        subscriber: Peer,
        publisher: Option<Publisher>,
        join: JoinResponse,
        now: Instant,
    ) -> Self {
        let seconds = |value: i32, otherwise: u64| {
            Duration::from_secs(u64::try_from(value).ok().filter(|v| *v > 0).unwrap_or(otherwise))
        };
        let ping_every = seconds(join.ping_interval, 5);
        let mut session = Self {
            signal,
            subscriber,
            publisher,
            subscriber_primary: join.subscriber_primary,
            settled: false,
            me: join.participant.as_ref().map(|me| me.sid.clone()).unwrap_or_default(),
            node: join.server_info.map(|server| server.node_id).unwrap_or_default(),
            others: HashMap::new(),
            tracks: HashMap::new(),
            streams: HashMap::new(),
            ping_every,
            ping_timeout: seconds(join.ping_timeout, 15),
            ping_due: now + ping_every,
            pong_at: now,
            rtt_ms: 0,
        };
        session.meet(join.participant.into_iter().chain(join.other_participants));
        session
    }

    fn unsettled(&self) -> bool {
        !self.settled
    }

    fn settle(&mut self) {
        self.settled = true;
    }

    fn primary_connected(&self) -> bool {
        match &self.publisher {
            Some(publisher) if !self.subscriber_primary => publisher.peer.connected,
            _ => self.subscriber.connected || !self.subscriber_primary,
        }
    }

    fn ready(&self) -> bool {
        self.primary_connected() && self.publisher.as_ref().is_none_or(|p| p.peer.connected)
    }

    fn expected_tracks(&self) -> HashSet<String> {
        self.others.values().flatten().cloned().collect()
    }

    fn meet(&mut self, participants: impl IntoIterator<Item = ParticipantInfo>) {
        for mut participant in participants {
            if participant.sid == self.me {
                if let Some(node) = participant.attributes.remove(NODE_ATTRIBUTE) {
                    self.node = node;
                }
            } else if participant.state() == participant_info::State::Disconnected {
                self.others.remove(&participant.sid);
            } else {
                let tracks = participant.tracks.into_iter().map(|track| track.sid).collect();
                self.others.insert(participant.sid, tracks);
            }
        }
    }

    fn due(&self) -> Instant {
        let publisher = self.publisher.as_ref().map_or(self.ping_due, Publisher::due);
        self.ping_due.min(self.subscriber.due).min(publisher)
    }

    /// The media may end before the message that says why.
    async fn last_words(&mut self, error: anyhow::Error) -> anyhow::Error {
        let leave = async {
            loop {
                if let Incoming::Leave(leave) = self.signal.next().await? {
                    return Ok::<_, String>(Left::from(&leave));
                }
            }
        };
        if error.is::<Left>() {
            return error;
        }
        match tokio::time::timeout(LAST_WORDS, leave).await {
            Ok(Ok(left)) => left.into(),
            _ => error,
        }
    }

    fn alive(&self) -> anyhow::Result<()> {
        let dead = |peer: &Peer| peer.is_dead();
        if dead(&self.subscriber) || self.publisher.as_ref().is_some_and(|p| dead(&p.peer)) {
            return Err(anyhow!("the media connection was lost"));
        }
        if self.pong_at.elapsed() > self.ping_every + self.ping_timeout {
            return Err(anyhow!("the server does not answer pings"));
        }
        Ok(())
    }

    async fn send(&mut self, message: Request) -> anyhow::Result<()> {
        self.signal.send(message).await.map_err(|why| anyhow!(why))
    }

    async fn add_tracks(&mut self) -> anyhow::Result<()> {
        let requests: Vec<_> = self.publisher.iter().flat_map(Publisher::requests).collect();
        for request in requests {
            self.send(Request::AddTrack(request)).await?;
        }
        Ok(())
    }

    async fn on_signal(&mut self, message: Incoming) -> anyhow::Result<()> {
        match message {
            Incoming::Offer(offer) => {
                self.tracks = tracks_by_mid(&offer.sdp);
                self.tracks.extend(offer.mid_to_track_id);
                self.streams.clear();
                let sdp = self.subscriber.answer(&offer.sdp)?;
                let answer =
                    SessionDescription { r#type: "answer".into(), sdp, id: offer.id, ..Default::default() };
                self.send(Request::Answer(answer)).await?;
            }
            Incoming::Answer(answer) => {
                if let Some(publisher) = &mut self.publisher {
                    publisher.answered(&answer)?;
                }
            }
            Incoming::Trickle(trickle) => self.trickle(&trickle)?,
            Incoming::Update(update) => self.meet(update.participants),
            Incoming::TrackPublished(published) => {
                let track = published.track.unwrap_or_default();
                let offer = match &mut self.publisher {
                    Some(publisher) => publisher.published(&published.cid, track.sid)?,
                    None => None,
                };
                if let Some(offer) = offer {
                    self.send(Request::Offer(offer)).await?;
                }
            }
            Incoming::SubscribedQualityUpdate(update) => {
                if let Some(publisher) = &mut self.publisher {
                    publisher.wanted(&update);
                }
            }
            Incoming::Pong(_) => self.pong_at = Instant::now(),
            Incoming::PongResp(pong) => {
                self.pong_at = Instant::now();
                self.rtt_ms = unix_ms().saturating_sub(pong.last_ping_timestamp);
            }
            Incoming::Leave(leave) => return Err(Left::from(&leave).into()),
            _ => {}
        }
        Ok(())
    }

    fn trickle(&mut self, trickle: &TrickleRequest) -> anyhow::Result<()> {
        #[derive(Deserialize)]
        struct CandidateInit {
            candidate: String,
        }
        let Ok(init) = serde_json::from_str::<CandidateInit>(&trickle.candidate_init) else { return Ok(()) };
        match (trickle.target(), &mut self.publisher) {
            (SignalTarget::Subscriber, _) => self.subscriber.candidate(&init.candidate),
            (SignalTarget::Publisher, Some(publisher)) => publisher.peer.candidate(&init.candidate),
            (SignalTarget::Publisher, None) => Ok(()),
        }
    }

    async fn tick(&mut self, stats: &mut Stats) -> anyhow::Result<()> {
        let now = Instant::now();
        if self.subscriber.due <= now {
            self.subscriber.tick(now)?;
        }
        if let Some(publisher) = &mut self.publisher {
            publisher.tick(now, stats)?;
        }
        if self.ping_due <= now {
            self.ping_due = now + self.ping_every;
            let ping = Ping { timestamp: unix_ms(), rtt: self.rtt_ms };
            self.send(Request::Ping(ping.timestamp)).await?;
            self.send(Request::PingReq(ping)).await?;
        }
        Ok(())
    }

    /// Looks at what the peer connections have to tell.
    fn look(&mut self, stats: &mut Stats) {
        stats.unsent += std::mem::take(&mut self.subscriber.unsent);
        for event in std::mem::take(&mut self.subscriber.events) {
            let Event::RtpPacket(packet) = event else { continue };
            let ssrc = packet.header.ssrc;
            if !self.streams.contains_key(&ssrc) {
                let Some(stream) = self.name(ssrc) else { continue };
                self.streams.insert(ssrc, stream);
            }
            if let Some((track, video)) = self.streams.get(&ssrc) {
                let stamp = Stamp::read(*video, &packet.payload);
                stats.received(track, packet.payload.len() + RTP_HEADER, stamp, unix_us());
            }
        }
        if let Some(publisher) = &mut self.publisher {
            publisher.look(stats);
        }
    }

    fn name(&mut self, ssrc: Ssrc) -> Option<(String, bool)> {
        let mid = self.subscriber.rtc.direct_api().stream_rx(&ssrc)?.mid();
        let video = self.subscriber.rtc.media(mid)?.kind().is_video();
        let track = self.tracks.get(mid.to_string().trim())?;
        Some((track.clone(), video))
    }
}

/// The server ended the session.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
struct Left {
    why: String,
    /// May the participant come back?
    again: bool,
}

impl From<&livekit_protocol::LeaveRequest> for Left {
    fn from(leave: &livekit_protocol::LeaveRequest) -> Self {
        let again = leave.can_reconnect || leave.action() != leave_request::Action::Disconnect;
        Self { why: describe(leave), again }
    }
}

fn unix_ms() -> i64 {
    i64::try_from(unix_us() / 1_000).unwrap_or(i64::MAX)
}

/// A publishing participant's sending half.
struct Publisher {
    peer: Peer,
    config: Arc<Config>,
    index: usize,
    tracks: Vec<Track>,
    offered: Option<SdpPendingOffer>,
    sending: bool,
    outgoing: Vec<Outgoing>,
}

/// A published track.
struct Track {
    cid: String,
    video: bool,
    sid: String,
    mid: Option<Mid>,
    pt: Option<Pt>,
    source: Option<Source>,
}

impl Publisher {
    fn new(peer: Peer, config: Arc<Config>, index: usize) -> Self {
        let kinds = [(false, config.publishes_audio()), (true, config.publishes_video())];
        let tracks = kinds.into_iter().filter(|(_, on)| *on).map(|(video, _)| Track {
            cid: format!("{:032x}", rand::random::<u128>()),
            video,
            sid: String::new(),
            mid: None,
            pt: None,
            source: None,
        });
        let tracks = tracks.collect();
        Self { peer, config, index, tracks, offered: None, sending: false, outgoing: Vec::new() }
    }

    fn requests(&self) -> impl Iterator<Item = AddTrackRequest> + '_ {
        self.tracks.iter().map(|track| {
            let mut request =
                AddTrackRequest { cid: track.cid.clone(), disable_red: true, ..Default::default() };
            if track.video {
                request.name = "camera".into();
                request.set_type(TrackType::Video);
                request.set_source(TrackSource::Camera);
                (request.width, request.height) = (SIZES[2].0, SIZES[2].1);
                request.layers = self.layers();
                request.simulcast_codecs = vec![SimulcastCodec {
                    codec: "vp8".into(),
                    cid: track.cid.clone(),
                    layers: self.layers(),
                    ..Default::default()
                }];
            } else {
                request.name = "microphone".into();
                request.set_type(TrackType::Audio);
                request.set_source(TrackSource::Microphone);
            }
            request
        })
    }

    fn layers(&self) -> Vec<VideoLayer> {
        // Qualities low, medium and high are 0, 1 and 2; a single layer is of high quality.
        let first = if self.config.simulcast { 0 } else { 2 };
        let bitrate = self.config.bitrate.saturating_mul(1_000);
        let layers = (0..3_i32).zip(0..3_u32).zip(RIDS).zip(SIZES).skip(if first == 0 { 0 } else { 2 });
        layers
            .map(|(((quality, rank), rid), (width, height))| VideoLayer {
                quality,
                width,
                height,
                bitrate: bitrate / 3_u32.pow(2 - rank),
                spatial_layer: quality - first,
                rid: if self.config.simulcast { rid.into() } else { String::new() },
                ..Default::default()
            })
            .collect()
    }

    /// The server knows a track. When it knows all of them it is time for the offer.
    fn published(&mut self, cid: &str, sid: String) -> anyhow::Result<Option<SessionDescription>> {
        if let Some(track) = self.tracks.iter_mut().find(|track| track.cid == cid) {
            track.sid = sid;
        }
        if self.offered.is_some() || self.tracks.iter().any(|t| t.sid.is_empty() || t.mid.is_some()) {
            return Ok(None);
        }
        let mut changes = self.peer.rtc.sdp_api();
        for track in &mut self.tracks {
            let kind = if track.video { MediaKind::Video } else { MediaKind::Audio };
            let simulcast = (track.video && self.config.simulcast).then(|| {
                let mut simulcast = Simulcast::new();
                RIDS.iter().for_each(|rid| simulcast.add_send_layer(SimulcastLayer::new(rid)));
                simulcast
            });
            let stream = Some("load".to_owned());
            let cid = Some(track.cid.clone());
            track.mid = Some(changes.add_media(kind, Direction::SendOnly, stream, cid, simulcast));
        }
        let Some((offer, pending)) = changes.apply() else { return Err(anyhow!("nothing to offer")) };
        self.offered = Some(pending);
        self.peer.drain()?;
        let sdp = offer.to_sdp_string();
        Ok(Some(SessionDescription { r#type: "offer".into(), sdp, id: 1, ..Default::default() }))
    }

    fn answered(&mut self, answer: &SessionDescription) -> anyhow::Result<()> {
        let Some(pending) = self.offered.take() else { return Ok(()) };
        self.peer.answered(pending, &answer.sdp)?;
        for track in &mut self.tracks {
            let codec = if track.video { Codec::Vp8 } else { Codec::Opus };
            let media = track.mid.and_then(|mid| self.peer.rtc.media(mid));
            let accepted = media.map(|media| media.remote_pts().to_vec()).unwrap_or_default();
            let params = self.peer.rtc.codec_config().params();
            track.pt =
                params.iter().find(|p| p.spec().codec == codec && accepted.contains(&p.pt())).map(|p| p.pt());
            if track.pt.is_none() {
                return Err(anyhow!("the server does not take {codec:?}"));
            }
        }
        Ok(())
    }

    fn wanted(&mut self, update: &SubscribedQualityUpdate) {
        let simulcast = self.config.simulcast;
        let track = self.tracks.iter_mut().find(|track| track.sid == update.track_sid);
        let Some(Source::Video(video)) = track.and_then(|track| track.source.as_mut()) else { return };
        let codecs = update.subscribed_codecs.iter();
        let Some(codec) = codecs.clone().find(|c| c.codec.to_lowercase().ends_with("vp8")) else { return };
        if simulcast {
            for quality in &codec.qualities {
                video.want(usize::try_from(quality.quality).unwrap_or(usize::MAX), quality.enabled);
            }
        } else {
            video.want(0, codec.qualities.iter().any(|quality| quality.enabled));
        }
    }

    fn due(&self) -> Instant {
        let sources = self.tracks.iter().filter_map(|track| track.source.as_ref());
        sources.map(Source::due).chain([self.peer.due]).min().unwrap_or(self.peer.due)
    }

    fn tick(&mut self, now: Instant, stats: &mut Stats) -> anyhow::Result<()> {
        let mut wrote = false;
        for track in &mut self.tracks {
            let (Some(source), Some(mid), Some(pt)) = (&mut track.source, track.mid, track.pt) else {
                continue;
            };
            source.produce(now, &mut self.outgoing);
            for packet in self.outgoing.drain(..) {
                let layered = track.video && self.config.simulcast;
                let rid = RIDS.get(packet.layer).filter(|_| layered).map(|rid| Rid::from(*rid));
                let mut api = self.peer.rtc.direct_api();
                let Some(stream) = api.stream_tx_by_mid(mid, rid) else { continue };
                let extensions = ExtensionValues {
                    audio_level: packet.level,
                    voice_activity: packet.level.map(|level| level > -50),
                    ..ExtensionValues::default()
                };
                stats.sent(packet.payload.len() + RTP_HEADER);
                stream.write_rtp(
                    RtpWrite::new(pt, packet.seq.into(), packet.time, now, packet.payload)
                        .marker(packet.marker)
                        .nackable(source.is_video())
                        .ext_vals(extensions),
                );
                wrote = true;
            }
        }
        if wrote || self.peer.due <= now {
            self.peer.tick(now)?;
        }
        Ok(())
    }

    fn look(&mut self, stats: &mut Stats) {
        stats.unsent += std::mem::take(&mut self.peer.unsent);
        for event in std::mem::take(&mut self.peer.events) {
            let Event::KeyframeRequest(request) = event else { continue };
            let layer =
                request.rid.and_then(|rid| RIDS.iter().position(|r| Rid::from(*r) == rid)).unwrap_or(0);
            let track = self.tracks.iter_mut().find(|track| track.mid == Some(request.mid));
            if let Some(Source::Video(video)) = track.and_then(|track| track.source.as_mut()) {
                video.request_key_frame(layer);
            }
        }
        if self.peer.connected && !self.sending && self.tracks.iter().all(|track| track.pt.is_some()) {
            self.start();
        }
    }

    /// Begins to send, at a moment of its own, so that participants do not send in step.
    fn start(&mut self) {
        self.sending = true;
        let start = Instant::now() + Duration::from_millis(20).mul_f64(rand::random::<f64>());
        for track in &mut self.tracks {
            track.source = Some(if track.video {
                let bitrate = self.config.bitrate.saturating_mul(1_000);
                Source::Video(Video::new(start, self.config.simulcast, bitrate, self.config.fps))
            } else {
                Source::Audio(Audio::new(start, self.index, self.config.publishers()))
            });
        }
    }
}
