//! The m-lines that we offer on a subscriber's connection. Data channels come first, so that a
//! client in an empty room has something to connect with; then one line per subscribed track.
//! A line keeps its mid for ever. A line that became free is offered inactive, and is used again
//! only when many are free: Safari dislikes a line's second life.

use std::collections::HashMap;

use rand::{Rng, RngExt as _};
use sdp_types::Media;
use systir_rtp::packet::{Codec, Kind};

use super::description::{Description, MAX_SECTIONS};
use super::write::{data_channel, flag, media, session, text, transport, value};
use super::{Host, Origin, SdpError, codecs, extensions};
use systir_media_control::{Downtrack, Remote, TrackKey};

/// Free lines of a kind before one is used again.
const KEPT_FREE: usize = 16;

/// Longest answer for a number of m-lines: browsers write about 700 bytes for each of ours.
fn answer_limit(sections: usize) -> usize {
    16 * 1024 + sections * 4 * 1024
}

/// A track that is to be offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The track.
    pub track: TrackKey,
    /// Its `TR_` sid.
    pub sid: String,
    /// The stream id: `PA_...|TR_...`, or `PA_...|name` for tracks to be played in step.
    pub stream: String,
    /// Its codec.
    pub codec: Codec,
}

impl Wanted {
    /// The publisher's name, the same for all of its tracks and in its sender reports (RFC 5576).
    fn cname(&self) -> &str {
        self.stream.split('|').next().unwrap_or_default()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Not in any offer yet.
    New,
    /// In the offer that waits for its answer.
    Offered,
    /// Answered.
    Live,
}

#[derive(Debug, Clone)]
enum Use {
    Track {
        wanted: Wanted,
        ssrc: u32,
        rtx_ssrc: Option<u32>,
        state: State,
    },
    /// Inactive, may be used again.
    Free,
    /// The client answered port zero: the line is gone for good.
    Dead,
}

#[derive(Debug, Clone)]
struct Line {
    kind: Kind,
    /// Of the last track: an inactive line still names a codec.
    codec: Codec,
    /// Was it ever in an offer?
    offered: bool,
    used: Use,
}

/// An offer to send.
#[derive(Debug, Clone)]
pub struct SubscriberOffer {
    /// The text.
    pub sdp: String,
    /// Track sid by mid.
    pub tracks: HashMap<String, String>,
}

/// What a client answered.
#[derive(Debug, Clone)]
pub struct Answered {
    /// Its transport.
    pub remote: Remote,
    /// Tracks that it takes and that were not yet sent.
    pub accepted: Vec<Downtrack>,
    /// Tracks whose codec it lacks; their lines are free again.
    pub refused: Vec<Wanted>,
}

/// The m-lines of one subscriber's connection.
#[derive(Debug, Clone)]
pub struct Subscriber {
    session: u64,
    version: u64,
    lines: Vec<Line>,
}

impl Subscriber {
    /// No tracks yet. `session` is the id in `o=`.
    #[must_use]
    pub fn new(session: u64) -> Self {
        Self { session, version: 0, lines: Vec::new() }
    }

    /// Adds a track to the next offer. False when it is there already or the connection is full.
    pub fn add(&mut self, wanted: Wanted, rng: &mut impl Rng) -> bool {
        if self.position(wanted.track).is_some() {
            return false;
        }
        let kind = wanted.codec.kind();
        let free = |line: &Line| line.kind == kind && matches!(line.used, Use::Free);
        let spare = self.lines.iter().filter(|line| free(line)).count();
        let full = self.lines.len() + 1 >= MAX_SECTIONS;
        let reused = if spare > KEPT_FREE || full { self.lines.iter().position(free) } else { None };
        if full && reused.is_none() {
            return false;
        }
        let ssrc = self.fresh_ssrc(rng);
        let rtx_ssrc = codecs::rtx_payload_type(wanted.codec).map(|_| self.fresh_ssrc(rng));
        let codec = wanted.codec;
        let used = Use::Track { wanted, ssrc, rtx_ssrc, state: State::New };
        match reused.and_then(|index| self.lines.get_mut(index)) {
            Some(line) => {
                line.codec = codec;
                line.used = used;
            }
            None => self.lines.push(Line { kind, codec, offered: false, used }),
        }
        true
    }

    /// Takes a track out of the next offer. False when it was not there.
    pub fn remove(&mut self, track: TrackKey) -> bool {
        let Some(index) = self.position(track) else { return false };
        // A last line that no offer had needs no trace.
        if index + 1 == self.lines.len() && self.lines.get(index).is_some_and(|line| !line.offered) {
            self.lines.pop();
        } else if let Some(line) = self.lines.get_mut(index) {
            line.used = Use::Free;
        }
        true
    }

    /// Is the track in the next offer?
    #[must_use]
    pub fn contains(&self, track: TrackKey) -> bool {
        self.position(track).is_some()
    }

    /// Tracks in the next offer.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.iter().filter(|line| matches!(line.used, Use::Track { .. })).count()
    }

    /// Is no track in the next offer?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next offer. The caller sends no other before its answer.
    pub fn offer(&mut self, host: Host<'_>) -> SubscriberOffer {
        self.version += 1;
        let alive: Vec<String> = std::iter::once("0".to_owned())
            .chain(
                self.lines
                    .iter()
                    .enumerate()
                    .filter(|(_, line)| !matches!(line.used, Use::Dead))
                    .map(|(i, _)| mid(i)),
            )
            .collect();
        let mids: Vec<&str> = alive.iter().map(String::as_str).collect();
        let mut session = session(Origin { session: self.session, version: self.version }, &mids, true);

        let mut data = media("application", 9, "UDP/DTLS/SCTP", "webrtc-datachannel".into());
        data.attributes.push(value("mid", "0"));
        data_channel(&mut data);
        transport(&mut data, host, "actpass", true);
        session.medias.push(data);

        let mut tracks = HashMap::new();
        for (index, line) in self.lines.iter_mut().enumerate() {
            let mid = mid(index);
            line.offered = true;
            if let Use::Track { wanted, state, .. } = &mut line.used {
                tracks.insert(mid.clone(), wanted.sid.clone());
                if *state == State::New {
                    *state = State::Offered;
                }
            }
            session.medias.push(write_line(line, &mid, host));
        }
        SubscriberOffer { sdp: text(&session), tracks }
    }

    /// Reads the answer to the last offer.
    ///
    /// # Errors
    /// When it is not SDP, lacks a transport, or is not an answer to what we offered.
    pub fn answer(&mut self, answer: &str) -> Result<Answered, SdpError> {
        let description = Description::parse(answer, answer_limit(self.lines.len() + 1))?;
        let remote =
            description.remote.ok_or(SdpError::Lacks("ice-ufrag, ice-pwd and sha-256 fingerprint"))?;
        let mut answers = description.sections.iter();
        let data = answers.next().ok_or(SdpError::NotOurOffer)?;
        let offered = self.lines.iter().filter(|line| line.offered).count();
        if data.mid != "0" || answers.len() != offered {
            return Err(SdpError::NotOurOffer);
        }
        if answers.clone().enumerate().any(|(index, section)| section.mid != mid(index)) {
            return Err(SdpError::NotOurOffer);
        }

        let mut accepted = Vec::new();
        let mut refused = Vec::new();
        for ((index, section), line) in answers.enumerate().zip(&mut self.lines) {
            let takes = |pt: u8| section.codecs.iter().any(|one| one.pt == pt);
            if let Use::Track { wanted, ssrc, rtx_ssrc, state } = &mut line.used
                && *state != State::New
            {
                let pt = wanted.codec as u8;
                if section.rejected || !takes(pt) {
                    refused.push(wanted.clone());
                    line.used = Use::Free;
                } else if *state == State::Offered {
                    *state = State::Live;
                    let rtx_pt = codecs::rtx_payload_type(wanted.codec).filter(|rtx| takes(*rtx));
                    accepted.push(Downtrack {
                        track: wanted.track,
                        mid: mid(index),
                        ssrc: *ssrc,
                        rtx_ssrc: rtx_ssrc.filter(|_| rtx_pt.is_some()),
                        pt,
                        rtx_pt,
                    });
                }
            }
            if section.rejected {
                line.used = match std::mem::replace(&mut line.used, Use::Dead) {
                    // It was put on this line while the client buried it: another line, then.
                    Use::Track { wanted, .. } => {
                        refused.push(wanted);
                        Use::Dead
                    }
                    Use::Free | Use::Dead => Use::Dead,
                };
            }
        }
        Ok(Answered { remote, accepted, refused })
    }

    fn position(&self, track: TrackKey) -> Option<usize> {
        self.lines
            .iter()
            .position(|line| matches!(&line.used, Use::Track { wanted, .. } if wanted.track == track))
    }

    fn fresh_ssrc(&self, rng: &mut impl Rng) -> u32 {
        loop {
            let ssrc = rng.random::<u32>();
            let taken = self.lines.iter().any(|line| match &line.used {
                Use::Track { ssrc: one, rtx_ssrc, .. } => *one == ssrc || *rtx_ssrc == Some(ssrc),
                Use::Free | Use::Dead => false,
            });
            if ssrc != 0 && !taken {
                return ssrc;
            }
        }
    }
}

fn mid(index: usize) -> String {
    (index + 1).to_string()
}

fn write_line(line: &Line, mid: &str, host: Host<'_>) -> Media {
    let pt = line.codec as u8;
    let rtx = codecs::rtx_payload_type(line.codec);
    // RED alone cannot be negotiated: it names the codec that it wraps.
    let wrapped = (line.codec == Codec::Red).then_some(Codec::Opus);
    let others = wrapped.map(|codec| codec as u8);
    let formats: Vec<String> =
        std::iter::once(pt).chain(rtx).chain(others).map(|pt| pt.to_string()).collect();
    let (name, table) = match line.kind {
        Kind::Audio => ("audio", extensions::AUDIO),
        Kind::Video => ("video", extensions::VIDEO),
    };
    let dead = matches!(line.used, Use::Dead);
    let mut section = media(name, if dead { 0 } else { 9 }, "UDP/TLS/RTP/SAVPF", formats.join(" "));
    section.attributes.push(value("mid", mid));
    if dead {
        section.attributes.push(flag("inactive"));
        return section;
    }
    for (id, uri) in table {
        section.attributes.push(value("extmap", format!("{id} {uri}")));
    }
    match &line.used {
        Use::Track { wanted, .. } => {
            section.attributes.push(flag("sendonly"));
            section.attributes.push(value("msid", format!("{} {}", wanted.stream, wanted.sid)));
        }
        Use::Free | Use::Dead => section.attributes.push(flag("inactive")),
    }
    section.attributes.push(flag("rtcp-mux"));
    section.attributes.push(flag("rtcp-rsize"));
    for codec in std::iter::once(line.codec).chain(wrapped) {
        let pt = codec as u8;
        section.attributes.push(value("rtpmap", format!("{pt} {}", codecs::rtpmap(codec))));
        for feedback in codecs::feedback(line.kind) {
            section.attributes.push(value("rtcp-fb", format!("{pt} {feedback}")));
        }
        if let Some(fmtp) = codecs::fmtp(codec) {
            section.attributes.push(value("fmtp", format!("{pt} {fmtp}")));
        }
    }
    if let Some(rtx) = rtx {
        section.attributes.push(value("rtpmap", format!("{rtx} rtx/90000")));
        section.attributes.push(value("fmtp", format!("{rtx} apt={pt}")));
    }
    if let Use::Track { wanted, ssrc, rtx_ssrc, .. } = &line.used {
        if let Some(rtx) = rtx_ssrc {
            section.attributes.push(value("ssrc-group", format!("FID {ssrc} {rtx}")));
        }
        for ssrc in std::iter::once(ssrc).chain(rtx_ssrc) {
            section.attributes.push(value("ssrc", format!("{ssrc} cname:{}", wanted.cname())));
            section.attributes.push(value("ssrc", format!("{ssrc} msid:{} {}", wanted.stream, wanted.sid)));
        }
    }
    transport(&mut section, host, "actpass", false);
    section
}
