//! The m-lines that we offer on a subscriber connection. The first is for data channels, so that a client in
//! an empty room has an m-line to connect with; then follows one per subscribed track. An m-line keeps its
//! mid. A free m-line is offered inactive. It is used again only when many are free, because Safari handles
//! reused m-lines badly.

use std::collections::HashMap;

use rand::{Rng, RngExt as _};
use sdp_types::Media;
use systir_rtp::extension_table::{TRANSPORT_CC, uri};
use systir_rtp::packet::{Codec, Kind};

use super::description::{Description, MAX_SECTIONS};
use super::write::{data_channel, flag, media, session, text, transport, value};
use super::{LocalTransport, Origin, SdpError, codecs, extensions};
use systir_media_control::{CaptureSource, Downtrack, Remote, TrackKey};

/// How many free m-lines of a kind are kept before one is used again.
const KEPT_FREE: usize = 16;

/// Longest answer to an offer with this many m-lines, bytes. Browsers write about 700 bytes per m-line.
fn answer_limit(sections: usize) -> usize {
    16 * 1024 + sections * 4 * 1024
}

/// A track to offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedTrack {
    /// The worker's key of the track.
    pub track: TrackKey,
    /// Its `TR_` sid.
    pub sid: String,
    /// The stream id: `PA_...|TR_...`, or `PA_...|name` for synchronised tracks.
    pub stream: String,
    /// Its codec.
    pub codec: Codec,
    /// What it captures.
    pub source: CaptureSource,
}

impl OfferedTrack {
    /// The publisher's sid, which is the cname of all of its tracks and sender reports (RFC 5576).
    fn cname(&self) -> &str {
        self.stream.split('|').next().unwrap_or_default()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Negotiation {
    /// Not in any offer yet.
    New,
    /// In an offer without an answer.
    Offered,
    /// Accepted by the client.
    Accepted,
}

#[derive(Debug, Clone)]
enum LineUse {
    Track {
        wanted: OfferedTrack,
        ssrc: u32,
        rtx_ssrc: Option<u32>,
        negotiation: Negotiation,
    },
    /// Inactive; may be used again.
    Free,
    /// The client answered port zero; it must not be used again.
    Rejected,
}

#[derive(Debug, Clone)]
struct Line {
    kind: Kind,
    /// Codec of the last track, which an inactive m-line still names.
    codec: Codec,
    /// Was it ever in an offer?
    offered: bool,
    used: LineUse,
}

/// An offer to send.
#[derive(Debug, Clone)]
pub struct SubscriberOffer {
    /// The SDP.
    pub sdp: String,
    /// Track sids by mid.
    pub tracks: HashMap<String, String>,
}

/// The result of a client's answer.
#[derive(Debug, Clone)]
pub struct SubscriberAnswer {
    /// The client's transport.
    pub remote: Remote,
    /// Tracks that the client accepted for the first time.
    pub accepted: Vec<Downtrack>,
    /// Tracks that the client refused, because it lacks the codec; their m-lines are free or rejected.
    pub refused: Vec<OfferedTrack>,
}

/// The m-lines of one subscriber connection.
#[derive(Debug, Clone)]
pub struct Subscriber {
    session: u64,
    version: u64,
    lines: Vec<Line>,
}

impl Subscriber {
    /// Without tracks. `session` is the session id in `o=`.
    #[must_use]
    pub fn new(session: u64) -> Self {
        Self { session, version: 0, lines: Vec::new() }
    }

    /// Adds a track to the next offer. False when it is already in it or the connection is full.
    pub fn add(&mut self, wanted: OfferedTrack, rng: &mut impl Rng) -> bool {
        if self.position(wanted.track).is_some() {
            return false;
        }
        let kind = wanted.codec.kind();
        let free = |line: &Line| line.kind == kind && matches!(line.used, LineUse::Free);
        let spare = self.lines.iter().filter(|line| free(line)).count();
        let full = self.lines.len() + 1 >= MAX_SECTIONS;
        let reused = if spare > KEPT_FREE || full { self.lines.iter().position(free) } else { None };
        if full && reused.is_none() {
            return false;
        }
        let ssrc = self.fresh_ssrc(rng);
        let rtx_ssrc = codecs::rtx_payload_type(wanted.codec).map(|_| self.fresh_ssrc(rng));
        let codec = wanted.codec;
        let used = LineUse::Track { wanted, ssrc, rtx_ssrc, negotiation: Negotiation::New };
        match reused.and_then(|index| self.lines.get_mut(index)) {
            Some(line) => {
                line.codec = codec;
                line.used = used;
            }
            None => self.lines.push(Line { kind, codec, offered: false, used }),
        }
        true
    }

    /// Removes a track from the next offer. False when it was not in it.
    pub fn remove(&mut self, track: TrackKey) -> bool {
        let Some(index) = self.position(track) else { return false };
        // The last m-line can be removed if no offer contained it.
        if index + 1 == self.lines.len() && self.lines.get(index).is_some_and(|line| !line.offered) {
            self.lines.pop();
        } else if let Some(line) = self.lines.get_mut(index) {
            line.used = LineUse::Free;
        }
        true
    }

    /// Is the track in the next offer?
    #[must_use]
    pub fn contains(&self, track: TrackKey) -> bool {
        self.position(track).is_some()
    }

    /// Number of tracks in the next offer.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.iter().filter(|line| matches!(line.used, LineUse::Track { .. })).count()
    }

    /// Is no track in the next offer?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next offer. The caller must not send another one before the answer.
    pub fn offer(&mut self, host: LocalTransport<'_>) -> SubscriberOffer {
        self.version += 1;
        let usable: Vec<String> = std::iter::once("0".to_owned())
            .chain(
                self.lines
                    .iter()
                    .enumerate()
                    .filter(|(_, line)| !matches!(line.used, LineUse::Rejected))
                    .map(|(i, _)| mid(i)),
            )
            .collect();
        let mids: Vec<&str> = usable.iter().map(String::as_str).collect();
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
            if let LineUse::Track { wanted, negotiation, .. } = &mut line.used {
                tracks.insert(mid.clone(), wanted.sid.clone());
                if *negotiation == Negotiation::New {
                    *negotiation = Negotiation::Offered;
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
    pub fn answer(&mut self, answer: &str) -> Result<SubscriberAnswer, SdpError> {
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
            let accepts = |pt: u8| section.codecs.iter().any(|one| one.pt == pt);
            if let LineUse::Track { wanted, ssrc, rtx_ssrc, negotiation } = &mut line.used
                && *negotiation != Negotiation::New
            {
                let pt = wanted.codec as u8;
                if section.rejected || !accepts(pt) {
                    refused.push(wanted.clone());
                    line.used = LineUse::Free;
                } else if *negotiation == Negotiation::Offered {
                    *negotiation = Negotiation::Accepted;
                    let rtx_pt = codecs::rtx_payload_type(wanted.codec).filter(|rtx| accepts(*rtx));
                    accepted.push(Downtrack {
                        track: wanted.track,
                        source: wanted.source,
                        mid: mid(index),
                        ssrc: *ssrc,
                        rtx_ssrc: rtx_ssrc.filter(|_| rtx_pt.is_some()),
                        pt,
                        rtx_pt,
                        transport_cc: section
                            .extensions
                            .contains(&(TRANSPORT_CC, uri::TRANSPORT_CC.to_owned())),
                        opus_pt: contained_codec(wanted.codec)
                            .map(|codec| codec as u8)
                            .filter(|pt| accepts(*pt)),
                    });
                }
            }
            if section.rejected {
                line.used = match std::mem::replace(&mut line.used, LineUse::Rejected) {
                    // The track was put on this m-line while the client rejected it: it needs another one.
                    LineUse::Track { wanted, .. } => {
                        refused.push(wanted);
                        LineUse::Rejected
                    }
                    LineUse::Free | LineUse::Rejected => LineUse::Rejected,
                };
            }
        }
        Ok(SubscriberAnswer { remote, accepted, refused })
    }

    fn position(&self, track: TrackKey) -> Option<usize> {
        self.lines
            .iter()
            .position(|line| matches!(&line.used, LineUse::Track { wanted, .. } if wanted.track == track))
    }

    fn fresh_ssrc(&self, rng: &mut impl Rng) -> u32 {
        loop {
            let ssrc = rng.random::<u32>();
            let taken = self.lines.iter().any(|line| match &line.used {
                LineUse::Track { ssrc: one, rtx_ssrc, .. } => *one == ssrc || *rtx_ssrc == Some(ssrc),
                LineUse::Free | LineUse::Rejected => false,
            });
            if ssrc != 0 && !taken {
                return ssrc;
            }
        }
    }
}

/// The codec that RED contains: its payload type is needed too, and packets of it alone may come between.
fn contained_codec(codec: Codec) -> Option<Codec> {
    (codec == Codec::Red).then_some(Codec::Opus)
}

fn mid(index: usize) -> String {
    (index + 1).to_string()
}

fn write_line(line: &Line, mid: &str, host: LocalTransport<'_>) -> Media {
    let pt = line.codec as u8;
    let rtx = codecs::rtx_payload_type(line.codec);
    let contained = contained_codec(line.codec);
    let others = contained.map(|codec| codec as u8);
    let formats: Vec<String> =
        std::iter::once(pt).chain(rtx).chain(others).map(|pt| pt.to_string()).collect();
    let (name, table) = match line.kind {
        Kind::Audio => ("audio", extensions::AUDIO),
        Kind::Video => ("video", extensions::VIDEO),
    };
    let rejected = matches!(line.used, LineUse::Rejected);
    let mut section = media(name, if rejected { 0 } else { 9 }, "UDP/TLS/RTP/SAVPF", formats.join(" "));
    section.attributes.push(value("mid", mid));
    if rejected {
        section.attributes.push(flag("inactive"));
        return section;
    }
    for (id, uri) in table {
        section.attributes.push(value("extmap", format!("{id} {uri}")));
    }
    match &line.used {
        LineUse::Track { wanted, .. } => {
            section.attributes.push(flag("sendonly"));
            section.attributes.push(value("msid", format!("{} {}", wanted.stream, wanted.sid)));
        }
        LineUse::Free | LineUse::Rejected => section.attributes.push(flag("inactive")),
    }
    section.attributes.push(flag("rtcp-mux"));
    section.attributes.push(flag("rtcp-rsize"));
    for codec in std::iter::once(line.codec).chain(contained) {
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
    if let LineUse::Track { wanted, ssrc, rtx_ssrc, .. } = &line.used {
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
