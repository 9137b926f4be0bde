//! A participant's connections: signalling and one peer connection in each direction.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use livekit_protocol::{
    JoinResponse, ParticipantInfo, Ping, SessionDescription, SignalTarget, TrickleRequest, leave_request,
    participant_info,
};
use serde::Deserialize;
use str0m::Event;
use str0m::media::KeyframeRequestKind;
use str0m::rtp::Ssrc;

use crate::media::{Stamp, unix_us};
use crate::peer::Peer;
use crate::playback::{Playback, Received};
use crate::publisher::Publisher;
use crate::sdp::tracks_by_mid;
use crate::signal::{Incoming, Request, Signal, describe};
use crate::stats::{Packet, RTP_HEADER, Stats};

/// How long to wait for the leave message when the media connection has ended.
const LEAVE_WAIT: Duration = Duration::from_millis(500);
/// The participant attribute that names the participant's media node.
const NODE_ATTRIBUTE: &str = "systir.node";

/// A participant's connections.
pub(crate) struct Session {
    pub(crate) signal: Signal,
    pub(crate) subscriber: Peer,
    pub(crate) publisher: Option<Publisher>,
    subscriber_primary: bool,
    joined: bool,
    /// This participant's sid.
    own_sid: String,
    pub(crate) node: String,
    /// Track sids of the other participants, by participant sid.
    others: HashMap<String, HashSet<String>>,
    /// Track sids by mid.
    tracks: HashMap<String, String>,
    /// Track sid and whether it is video, by SSRC; cleared at each offer.
    streams: HashMap<Ssrc, (String, bool)>,
    pub(crate) playback: Playback,
    ping_every: Duration,
    ping_timeout: Duration,
    ping_due: Instant,
    pong_at: Instant,
    rtt_ms: i64,
}

impl Session {
    pub(crate) fn new(
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
            joined: false,
            own_sid: join.participant.as_ref().map(|me| me.sid.clone()).unwrap_or_default(),
            node: join.server_info.map(|server| server.node_id).unwrap_or_default(),
            others: HashMap::new(),
            tracks: HashMap::new(),
            streams: HashMap::new(),
            playback: Playback::default(),
            ping_every,
            ping_timeout: seconds(join.ping_timeout, 15),
            ping_due: now + ping_every,
            pong_at: now,
            rtt_ms: 0,
        };
        session.update_participants(join.participant.into_iter().chain(join.other_participants));
        session
    }

    pub(crate) fn joining(&self) -> bool {
        !self.joined
    }

    pub(crate) fn set_joined(&mut self) {
        self.joined = true;
    }

    pub(crate) fn primary_connected(&self) -> bool {
        match &self.publisher {
            Some(publisher) if !self.subscriber_primary => publisher.peer.connected,
            _ => self.subscriber.connected || !self.subscriber_primary,
        }
    }

    pub(crate) fn ready(&self) -> bool {
        self.primary_connected() && self.publisher.as_ref().is_none_or(|p| p.peer.connected)
    }

    pub(crate) fn expected_tracks(&self) -> HashSet<String> {
        self.others.values().flatten().cloned().collect()
    }

    pub(crate) fn update_participants(&mut self, participants: impl IntoIterator<Item = ParticipantInfo>) {
        for mut participant in participants {
            if participant.sid == self.own_sid {
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

    pub(crate) fn due(&self) -> Instant {
        let publisher = self.publisher.as_ref().map_or(self.ping_due, Publisher::due);
        self.ping_due.min(self.subscriber.due).min(publisher)
    }

    /// The reason in the server's leave message, which may arrive after the media connection has ended;
    /// else `error`.
    pub(crate) async fn leave_reason(&mut self, error: anyhow::Error) -> anyhow::Error {
        let leave = async {
            loop {
                if let Incoming::Leave(leave) = self.signal.next().await? {
                    return Ok::<_, String>(ServerLeave::from(&leave));
                }
            }
        };
        if error.is::<ServerLeave>() {
            return error;
        }
        match tokio::time::timeout(LEAVE_WAIT, leave).await {
            Ok(Ok(leave)) => leave.into(),
            _ => error,
        }
    }

    pub(crate) fn alive(&self) -> anyhow::Result<()> {
        if self.subscriber.is_dead() || self.publisher.as_ref().is_some_and(|p| p.peer.is_dead()) {
            return Err(anyhow!("the media connection was lost"));
        }
        if self.pong_at.elapsed() > self.ping_every + self.ping_timeout {
            return Err(anyhow!("the server does not answer pings"));
        }
        Ok(())
    }

    pub(crate) async fn send(&mut self, message: Request) -> anyhow::Result<()> {
        self.signal.send(message).await.map_err(|why| anyhow!(why))
    }

    pub(crate) async fn add_tracks(&mut self) -> anyhow::Result<()> {
        let requests: Vec<_> = self.publisher.iter().flat_map(Publisher::requests).collect();
        for request in requests {
            self.send(Request::AddTrack(request)).await?;
        }
        Ok(())
    }

    pub(crate) async fn on_signal(&mut self, message: Incoming) -> anyhow::Result<()> {
        match message {
            Incoming::Offer(offer) => {
                self.tracks = tracks_by_mid(&offer.sdp);
                self.tracks.extend(offer.mid_to_track_id);
                self.streams.clear();
                let sdp = self.subscriber.answer(&offer.sdp).await?;
                let answer =
                    SessionDescription { r#type: "answer".into(), sdp, id: offer.id, ..Default::default() };
                self.send(Request::Answer(answer)).await?;
            }
            Incoming::Answer(answer) => {
                if let Some(publisher) = &mut self.publisher {
                    publisher.accept_answer(&answer).await?;
                }
            }
            Incoming::Trickle(trickle) => self.trickle(&trickle).await?,
            Incoming::Update(update) => self.update_participants(update.participants),
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
                    publisher.set_subscribed_layers(&update);
                }
            }
            Incoming::Pong(_) => self.pong_at = Instant::now(),
            Incoming::PongResp(pong) => {
                self.pong_at = Instant::now();
                self.rtt_ms = unix_ms().saturating_sub(pong.last_ping_timestamp);
            }
            Incoming::Leave(leave) => return Err(ServerLeave::from(&leave).into()),
            _ => {}
        }
        Ok(())
    }

    pub(crate) async fn trickle(&mut self, trickle: &TrickleRequest) -> anyhow::Result<()> {
        #[derive(Deserialize)]
        struct CandidateInit {
            candidate: String,
        }
        let Ok(init) = serde_json::from_str::<CandidateInit>(&trickle.candidate_init) else { return Ok(()) };
        match (trickle.target(), &mut self.publisher) {
            (SignalTarget::Subscriber, _) => self.subscriber.candidate(&init.candidate).await,
            (SignalTarget::Publisher, Some(publisher)) => publisher.peer.candidate(&init.candidate).await,
            (SignalTarget::Publisher, None) => Ok(()),
        }
    }

    pub(crate) async fn tick(&mut self, stats: &mut Stats) -> anyhow::Result<()> {
        let now = Instant::now();
        if self.subscriber.due <= now {
            self.subscriber.tick(now)?;
        }
        if let Some(publisher) = &mut self.publisher {
            publisher.tick(now, stats)?;
        }
        for ssrc in self.playback.key_frames_needed(now) {
            if let Some(stream) = self.subscriber.rtc.direct_api().stream_rx(&ssrc) {
                stream.request_keyframe(KeyframeRequestKind::Pli);
            }
        }
        if self.ping_due <= now {
            self.ping_due = now + self.ping_every;
            let ping = Ping { timestamp: unix_ms(), rtt: self.rtt_ms };
            self.send(Request::Ping(ping.timestamp)).await?;
            self.send(Request::PingReq(ping)).await?;
        }
        Ok(())
    }

    /// Handles the events of both peer connections.
    pub(crate) fn handle_events(&mut self, stats: &mut Stats) {
        stats.unsent += std::mem::take(&mut self.subscriber.unsent);
        for event in std::mem::take(&mut self.subscriber.events) {
            let Event::RtpPacket(packet) = event else { continue };
            let ssrc = packet.header.ssrc;
            if !self.streams.contains_key(&ssrc) {
                let Some(stream) = self.find_stream(ssrc) else { continue };
                self.streams.insert(ssrc, stream);
            }
            if let Some((track, video)) = self.streams.get(&ssrc) {
                let stamp = Stamp::read(&packet.payload);
                let now_us = unix_us();
                let (seq, bytes) = (*packet.seq_no, packet.payload.len() + RTP_HEADER);
                stats.received(track, Packet { ssrc, seq, bytes, stamp }, now_us);
                let received =
                    Received { seq, marker: packet.header.marker, payload: &packet.payload, stamp };
                self.playback.packet(packet.timestamp, now_us, track, video.then_some(ssrc), received);
            }
        }
        if let Some(publisher) = &mut self.publisher {
            publisher.handle_events(stats);
        }
    }

    /// Track sid of an RTP stream and whether it is video.
    fn find_stream(&mut self, ssrc: Ssrc) -> Option<(String, bool)> {
        let mid = self.subscriber.rtc.direct_api().stream_rx(&ssrc)?.mid();
        let video = self.subscriber.rtc.media(mid)?.kind().is_video();
        let track = self.tracks.get(mid.to_string().trim())?;
        Some((track.clone(), video))
    }
}

/// The server ended the session with a leave message.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub(crate) struct ServerLeave {
    why: String,
    /// Whether the participant may rejoin.
    pub(crate) may_rejoin: bool,
}

impl From<&livekit_protocol::LeaveRequest> for ServerLeave {
    fn from(leave: &livekit_protocol::LeaveRequest) -> Self {
        let may_rejoin = leave.can_reconnect || leave.action() != leave_request::Action::Disconnect;
        Self { why: describe(leave), may_rejoin }
    }
}

fn unix_ms() -> i64 {
    i64::try_from(unix_us() / 1_000).unwrap_or(i64::MAX)
}
