//! What a client sends: which section, track and layer a packet belongs to (RFC 8843 section
//! 9.2), and the packet with all that belongs to this hop taken off.

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use systir_forwarding::TrackId;
use systir_rtp::packet::{AudioLevel, Codec, Extensions, Layer, Packet};
use systir_rtp::rtcp::ReportBlock;
use systir_rtp::{ExtendedSeq, RtpHeader};

use super::reception::Reception;
use systir_media_control::{ReceiveCodec, ReceiveExtensions, ReceiveSection, TrackKey};

/// Streams that one connection may send, retransmissions included.
const MAX_STREAMS: usize = 256;
/// A stream without packets for this long may be replaced by one that it replaced itself.
const REST: Duration = Duration::from_secs(2);
/// Another codec makes another track for everybody in the room: not more often than this.
const SPACING: Duration = Duration::from_secs(2);

/// What a header extension id means on this connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Mid,
    Rid,
    RepairedRid,
    TransportCc,
    AudioLevel,
    CaptureTime,
    Orientation,
    Dependency,
    PlayoutDelay,
}

/// A track of the core, and the only codec its packets may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TrackRef {
    pub(super) id: TrackId,
    pub(super) codec: Codec,
}

#[derive(Debug, Default)]
struct LayerState {
    ssrc: Option<u32>,
    last_at: Option<Instant>,
    seq: ExtendedSeq,
    reception: Reception,
}

impl LayerState {
    /// Another stream brings the layer: its numbers go on behind those that were, what was counted
    /// does not.
    fn taken_by(&mut self, now: Instant, ssrc: u32) {
        if self.ssrc.replace(ssrc) != Some(ssrc) {
            self.last_at = Some(now);
            self.reception = Reception::default();
            self.seq.restart();
        }
    }

    fn is_live(&self, now: Instant) -> bool {
        self.last_at.is_some_and(|last| now.saturating_duration_since(last) < REST)
    }
}

#[derive(Debug)]
struct Section {
    said: ReceiveSection,
    track: Option<TrackRef>,
    layers: [LayerState; Layer::MAX],
    /// When it was last told that the packets have another codec than the track.
    told: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Stream {
    section: usize,
    layer: Layer,
    repair: bool,
}

/// Why a packet was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// Not an RTP packet.
    Malformed,
    /// No section, no track, or no payload type of the section.
    Unclaimed,
    /// Another codec of the section than the track's: the client did not say which one it would
    /// send, or changed it.
    OtherCodec {
        track: TrackId,
        codec: Codec,
        /// It was not told lately.
        news: bool,
    },
    /// The connection sends too many streams.
    TooManyStreams,
    /// Nothing to forward (padding, a number far off the run); no fault.
    Nothing,
}

/// An accepted packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Accepted<'a> {
    pub(super) track: TrackId,
    pub(super) layer: Layer,
    pub(super) packet: Packet<'a>,
}

/// Extensions that only this hop reads.
#[derive(Debug, Default)]
struct HopExtensions<'a> {
    mid: Option<&'a [u8]>,
    rid: Option<&'a [u8]>,
    repaired_rid: Option<&'a [u8]>,
    transport_cc: Option<u16>,
}

/// The receiving half of a publisher's connection.
#[derive(Debug)]
pub(super) struct Ingress {
    epoch: Instant,
    meanings: Box<[Option<Meaning>; 256]>,
    sections: Vec<Section>,
    streams: FxHashMap<u32, Stream>,
}

impl Ingress {
    pub(super) fn new(epoch: Instant) -> Self {
        Self { epoch, meanings: Box::new([None; 256]), sections: Vec::new(), streams: FxHashMap::default() }
    }

    /// Replaces what the client said it sends. A section that stays (same mid, same track) keeps
    /// its streams and numbers.
    pub(super) fn describe(
        &mut self,
        now: Instant,
        said: Vec<ReceiveSection>,
        resolve: impl Fn(TrackKey) -> Option<TrackRef>,
    ) {
        let mut before = std::mem::take(&mut self.sections);
        let streams = std::mem::take(&mut self.streams);
        let mut moved: FxHashMap<usize, usize> = FxHashMap::default();
        *self.meanings = [None; 256];
        for section in said {
            self.learn_extensions(&section.extensions);
            let mut layers: [LayerState; Layer::MAX] = Default::default();
            let mut told = None;
            let to = self.sections.len();
            let old = before.iter_mut().enumerate().find(|(_, old)| old.said.mid == section.mid);
            if let Some((from, old)) = old {
                told = old.told;
                if old.said.track == section.track {
                    layers = std::mem::take(&mut old.layers);
                    moved.insert(from, to);
                }
            }
            let track = section.track.and_then(&resolve);
            self.sections.push(Section { said: section, track, layers, told });
        }
        for (ssrc, stream) in streams {
            if let Some(section) = moved.get(&stream.section) {
                self.streams.insert(ssrc, Stream { section: *section, ..stream });
            }
        }
        for section in 0..self.sections.len() {
            self.learn_announced(now, section);
        }
    }

    fn learn_extensions(&mut self, ids: &ReceiveExtensions) {
        let pairs = [
            (ids.mid, Meaning::Mid),
            (ids.rid, Meaning::Rid),
            (ids.repaired_rid, Meaning::RepairedRid),
            (ids.transport_cc, Meaning::TransportCc),
            (ids.audio_level, Meaning::AudioLevel),
            (ids.capture_time, Meaning::CaptureTime),
            (ids.orientation, Meaning::Orientation),
            (ids.dependency, Meaning::Dependency),
            (ids.playout_delay, Meaning::PlayoutDelay),
        ];
        for (id, meaning) in pairs {
            // Bundled sections agree on what an id means (RFC 8843 section 9.1): the first one counts.
            if let Some(id) = id
                && let Some(slot) = self.meanings.get_mut(usize::from(id))
            {
                slot.get_or_insert(meaning);
            }
        }
    }

    fn learn_announced(&mut self, now: Instant, index: usize) {
        let Some(section) = self.sections.get_mut(index) else { return };
        for announced in &section.said.ssrcs {
            let Some(state) = section.layers.get_mut(usize::from(announced.layer.0)) else { continue };
            let still = section.said.ssrcs.iter().any(|one| Some(one.ssrc) == state.ssrc);
            if !still {
                state.taken_by(now, announced.ssrc);
            }
            let both = [(Some(announced.ssrc), false), (announced.rtx_ssrc, true)];
            for (ssrc, repair) in both {
                if let Some(ssrc) = ssrc
                    && self.streams.len() < MAX_STREAMS
                {
                    self.streams.insert(ssrc, Stream { section: index, layer: announced.layer, repair });
                }
            }
        }
    }

    /// A track that a section named exists now.
    pub(super) fn track_added(&mut self, key: TrackKey, track: TrackRef) {
        for section in self.sections.iter_mut().filter(|section| section.said.track == Some(key)) {
            section.track = Some(track);
        }
    }

    /// The track is gone; so is all that was learnt of its streams.
    pub(super) fn track_removed(&mut self, track: TrackId) {
        for (index, section) in self.sections.iter_mut().enumerate() {
            if section.track.is_some_and(|own| own.id == track) {
                section.track = None;
                section.layers = Default::default();
                self.streams.retain(|_, stream| stream.section != index);
            }
        }
    }

    /// The SSRC of a layer, once known.
    pub(super) fn ssrc(&self, track: TrackId, layer: Layer) -> Option<u32> {
        let section =
            self.sections.iter().find(|section| section.track.is_some_and(|own| own.id == track))?;
        section.layers.get(usize::from(layer.0))?.ssrc
    }

    /// Does the client answer requests for lost packets of a track?
    pub(super) fn answers_nack(&self, track: TrackId) -> bool {
        self.sections.iter().filter(|section| section.track.is_some_and(|own| own.id == track)).any(
            |section| {
                let codec = section.track.map(|own| own.codec);
                section.said.codecs.iter().any(|one| Some(one.codec) == codec && one.nack)
            },
        )
    }

    /// A report block for every stream that sent something.
    pub(super) fn report_blocks(&mut self, now: Instant) -> impl Iterator<Item = ReportBlock> {
        self.sections.iter_mut().flat_map(|section| section.layers.iter_mut()).filter_map(move |state| {
            let ssrc = state.ssrc?;
            state.reception.report(now, ssrc)
        })
    }

    /// A sender report arrived: which track and layer it is about.
    pub(super) fn sender_report(&mut self, now: Instant, ssrc: u32, ntp: u64) -> Option<(TrackId, Layer)> {
        let stream = *self.streams.get(&ssrc)?;
        if stream.repair {
            return None;
        }
        let section = self.sections.get_mut(stream.section)?;
        section.layers.get_mut(usize::from(stream.layer.0))?.reception.sender_report(now, ntp);
        Some((section.track?.id, stream.layer))
    }

    /// Takes a decrypted RTP packet. `congestion` hears of the transport-wide number and the SSRC.
    pub(super) fn accept<'a>(
        &mut self,
        now: Instant,
        bytes: &'a [u8],
        mut congestion: impl FnMut(u16, u32),
    ) -> Result<Accepted<'a>, Refused> {
        let header = RtpHeader::parse(bytes).map_err(|_| Refused::Malformed)?;
        let (hop, ext) = self.read_extensions(&header);
        if let Some(number) = hop.transport_cc {
            congestion(number, header.ssrc);
        }
        let stream = self.stream(now, &header, &hop)?;
        let section = self.sections.get_mut(stream.section).ok_or(Refused::Unclaimed)?;
        let track = section.track.ok_or(Refused::Unclaimed)?;
        let state = section.layers.get_mut(usize::from(stream.layer.0)).ok_or(Refused::Unclaimed)?;
        let pt = header.payload_type;
        let said =
            |wanted: &ReceiveCodec| if stream.repair { wanted.rtx_pt == Some(pt) } else { wanted.pt == pt };
        let codec = section.said.codecs.iter().find(|entry| said(entry)).ok_or(Refused::Unclaimed)?.codec;
        if codec != track.codec && !wraps(codec, track.codec) {
            // What only repairs or pads says nothing about what is sent.
            if stream.repair || header.payload.is_empty() {
                return Err(Refused::Nothing);
            }
            let news = section.told.is_none_or(|told| now.saturating_duration_since(told) >= SPACING);
            if news {
                section.told = Some(now);
            }
            return Err(Refused::OtherCodec { track: track.id, codec, news });
        }
        let (seq, payload) = if stream.repair {
            let (&[high, low], payload) = header.payload.split_first_chunk::<2>().ok_or(Refused::Nothing)?;
            let seq = state.seq.nearest(u16::from_be_bytes([high, low])).ok_or(Refused::Nothing)?;
            (seq, payload)
        } else {
            state.last_at = Some(now);
            let seq = state.seq.extend(header.seq).ok_or(Refused::Nothing)?;
            let elapsed = now.saturating_duration_since(self.epoch).as_micros();
            let arrival = (elapsed * u128::from(codec.clock_rate()) / 1_000_000) as u32;
            state.reception.packet(seq, header.timestamp, arrival);
            (seq, header.payload)
        };
        let packet = Packet { codec, seq, timestamp: header.timestamp, marker: header.marker, ext, payload };
        Ok(Accepted { track: track.id, layer: stream.layer, packet })
    }

    fn read_extensions<'a>(&self, header: &RtpHeader<'a>) -> (HopExtensions<'a>, Extensions<'a>) {
        let mut hop = HopExtensions::default();
        let mut ext = Extensions::default();
        for (id, value) in header.extensions() {
            let Some(meaning) = self.meanings.get(usize::from(id)).copied().flatten() else { continue };
            match (meaning, value) {
                (Meaning::Mid, value) => hop.mid = Some(value),
                (Meaning::Rid, value) => hop.rid = Some(value),
                (Meaning::RepairedRid, value) => hop.repaired_rid = Some(value),
                (Meaning::TransportCc, [high, low]) => {
                    hop.transport_cc = Some(u16::from_be_bytes([*high, *low]));
                }
                (Meaning::AudioLevel, [byte, ..]) => {
                    ext.audio_level = Some(AudioLevel { level: byte & 0x7F, voice: byte & 0x80 != 0 });
                }
                (Meaning::CaptureTime, value) if matches!(value.len(), 8 | 16) => {
                    ext.capture_time = Some(value)
                }
                (Meaning::Orientation, [byte, ..]) => ext.orientation = Some(*byte),
                (Meaning::Dependency, value) if !value.is_empty() => ext.dependency = Some(value),
                (Meaning::PlayoutDelay, [a, b, c]) => ext.playout_delay = Some([*a, *b, *c]),
                _ => {}
            }
        }
        (hop, ext)
    }

    /// The stream of a packet: by SSRC, else learnt from mid and rid, else from the payload type.
    fn stream(
        &mut self,
        now: Instant,
        header: &RtpHeader<'_>,
        hop: &HopExtensions<'_>,
    ) -> Result<Stream, Refused> {
        if let Some(stream) = self.streams.get(&header.ssrc)
            && let Some(section) = self.sections.get(stream.section)
            && section.agrees(stream, hop)
        {
            let layer = section.layers.get(usize::from(stream.layer.0));
            if stream.repair || layer.is_some_and(|layer| layer.ssrc == Some(header.ssrc)) {
                return Ok(*stream);
            }
            // Another stream has taken the layer's place. This one comes back only when that one rests.
            if layer.is_some_and(|layer| layer.is_live(now)) {
                return Err(Refused::Nothing);
            }
        }
        let stream = self.classify(header, hop).ok_or(Refused::Unclaimed)?;
        if self.streams.len() >= MAX_STREAMS && !self.streams.contains_key(&header.ssrc) {
            return Err(Refused::TooManyStreams);
        }
        let section = self.sections.get_mut(stream.section).ok_or(Refused::Unclaimed)?;
        let state = section.layers.get_mut(usize::from(stream.layer.0)).ok_or(Refused::Unclaimed)?;
        if !stream.repair {
            state.taken_by(now, header.ssrc);
        }
        // The description told which stream repairs this one.
        let announced = section.said.ssrcs.iter().find(|one| one.ssrc == header.ssrc);
        let repair = announced.and_then(|one| one.rtx_ssrc).filter(|_| !stream.repair);
        if let Some(repair) = repair {
            self.streams.insert(repair, Stream { repair: true, ..stream });
        }
        self.streams.insert(header.ssrc, stream);
        Ok(stream)
    }

    fn classify(&self, header: &RtpHeader<'_>, hop: &HopExtensions<'_>) -> Option<Stream> {
        let pt = header.payload_type;
        let index = match hop.mid {
            Some(mid) => self.sections.iter().position(|section| section.said.mid.as_bytes() == mid)?,
            None => match self.streams.get(&header.ssrc) {
                Some(known) => known.section,
                None => {
                    let mut users = self.sections.iter().enumerate().filter(|(_, section)| section.uses(pt));
                    let (index, _) = users.next()?;
                    if users.next().is_some() {
                        return None;
                    }
                    index
                }
            },
        };
        let section = self.sections.get(index).filter(|section| section.uses(pt))?;
        section.track?;
        let repair = section.said.codecs.iter().any(|codec| codec.rtx_pt == Some(pt));
        let layer = match hop.repaired_rid.or(hop.rid) {
            Some(rid) if !section.said.rids.is_empty() => section.layer_of(rid)?,
            // Without a rid the layer is certain only where there is one, or by the description.
            _ => {
                let announced = section.said.ssrcs.iter().find(|one| one.ssrc == header.ssrc);
                let one_layer = section.said.rids.len() <= 1 && section.said.ssrcs.len() <= 1;
                announced.map(|one| one.layer).or(one_layer.then_some(Layer(0)))?
            }
        };
        (usize::from(layer.0) < Layer::MAX).then_some(Stream { section: index, layer, repair })
    }
}

/// RED and the codec that it wraps alternate in one stream.
fn wraps(one: Codec, other: Codec) -> bool {
    matches!((one, other), (Codec::Red, Codec::Opus) | (Codec::Opus, Codec::Red))
}

impl Section {
    fn layer_of(&self, rid: &[u8]) -> Option<Layer> {
        self.said.rids.iter().find(|(name, _)| name.as_bytes() == rid).map(|(_, layer)| *layer)
    }

    /// Does a packet name the section and the layer that its SSRC is known for? A client may give an
    /// SSRC to another one; what is on the packet is newer than what we know.
    fn agrees(&self, stream: &Stream, hop: &HopExtensions<'_>) -> bool {
        let rid = if stream.repair { hop.repaired_rid } else { hop.rid };
        let same_layer = |rid: &[u8]| self.said.rids.is_empty() || self.layer_of(rid) == Some(stream.layer);
        hop.mid.is_none_or(|mid| self.said.mid.as_bytes() == mid) && rid.is_none_or(same_layer)
    }

    fn uses(&self, pt: u8) -> bool {
        self.said.codecs.iter().any(|codec| codec.pt == pt || codec.rtx_pt == Some(pt))
    }
}

#[cfg(test)]
mod tests;
