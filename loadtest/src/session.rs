//! A joined participant's connections: signalling, one peer connection each way.

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
use crate::playback::{Seen, Watch};
use crate::publisher::Publisher;
use crate::sdp::tracks_by_mid;
use crate::signal::{Incoming, Request, Signal, describe};
use crate::stats::{Packet, RTP_HEADER, Stats};

/// How long to listen for the reason when the media has ended.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// By this attribute a server tells which node carries a participant's media.
const NODE_ATTRIBUTE: &str = "systir.node";

/// A joined participant's connections.
pub(crate) struct Session {
    pub(crate) signal: Signal,
    pub(crate) subscriber: Peer,
    pub(crate) publisher: Option<Publisher>,
    subscriber_primary: bool,
    settled: bool,
    me: String,
    pub(crate) node: String,
    others: HashMap<String, HashSet<String>>,
    tracks: HashMap<String, String>,
    /// Track and whether it is video, by SSRC; found anew after each offer.
    streams: HashMap<Ssrc, (String, bool)>,
    pub(crate) watch: Watch,
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
            settled: false,
            me: join.participant.as_ref().map(|me| me.sid.clone()).unwrap_or_default(),
            node: join.server_info.map(|server| server.node_id).unwrap_or_default(),
            others: HashMap::new(),
            tracks: HashMap::new(),
            streams: HashMap::new(),
            watch: Watch::default(),
            ping_every,
            ping_timeout: seconds(join.ping_timeout, 15),
            ping_due: now + ping_every,
            pong_at: now,
            rtt_ms: 0,
        };
        session.meet(join.participant.into_iter().chain(join.other_participants));
        session
    }

    pub(crate) fn unsettled(&self) -> bool {
        !self.settled
    }

    pub(crate) fn settle(&mut self) {
        self.settled = true;
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

    pub(crate) fn meet(&mut self, participants: impl IntoIterator<Item = ParticipantInfo>) {
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

    pub(crate) fn due(&self) -> Instant {
        let publisher = self.publisher.as_ref().map_or(self.ping_due, Publisher::due);
        self.ping_due.min(self.subscriber.due).min(publisher)
    }

    /// The media may end before the message that says why.
    pub(crate) async fn last_words(&mut self, error: anyhow::Error) -> anyhow::Error {
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

    pub(crate) fn alive(&self) -> anyhow::Result<()> {
        let dead = |peer: &Peer| peer.is_dead();
        if dead(&self.subscriber) || self.publisher.as_ref().is_some_and(|p| dead(&p.peer)) {
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
                    publisher.answered(&answer).await?;
                }
            }
            Incoming::Trickle(trickle) => self.trickle(&trickle).await?,
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
        for ssrc in self.watch.stuck(now) {
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

    /// Looks at what the peer connections have to tell.
    pub(crate) fn look(&mut self, stats: &mut Stats) {
        stats.unsent += std::mem::take(&mut self.subscriber.unsent);
        for event in std::mem::take(&mut self.subscriber.events) {
            let Event::RtpPacket(packet) = event else { continue };
            let ssrc = packet.header.ssrc;
            if !self.streams.contains_key(&ssrc) {
                let Some(stream) = self.name(ssrc) else { continue };
                self.streams.insert(ssrc, stream);
            }
            if let Some((track, video)) = self.streams.get(&ssrc) {
                let stamp = Stamp::read(&packet.payload);
                let now_us = unix_us();
                let (seq, bytes) = (*packet.seq_no, packet.payload.len() + RTP_HEADER);
                stats.received(track, Packet { ssrc, seq, bytes, stamp }, now_us);
                let seen = Seen { seq, marker: packet.header.marker, payload: &packet.payload, stamp };
                self.watch.packet(packet.timestamp, now_us, track, video.then_some(ssrc), seen);
            }
        }
        if let Some(publisher) = &mut self.publisher {
            publisher.look(stats);
        }
    }

    pub(crate) fn name(&mut self, ssrc: Ssrc) -> Option<(String, bool)> {
        let mid = self.subscriber.rtc.direct_api().stream_rx(&ssrc)?.mid();
        let video = self.subscriber.rtc.media(mid)?.kind().is_video();
        let track = self.tracks.get(mid.to_string().trim())?;
        Some((track.clone(), video))
    }
}

/// The server ended the session.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub(crate) struct Left {
    why: String,
    /// May the participant come back?
    pub(crate) again: bool,
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
