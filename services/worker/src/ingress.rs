//! Media from a client: associates packets with m-line, track and layer (RFC 8843 section 9.2), and
//! normalises them: the fields of this hop are removed.

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use systir_forwarding::TrackId;
use systir_rtp::packet::{AudioLevel, Codec, Extensions, Layer, Packet};
use systir_rtp::rtcp::ReportBlock;
use systir_rtp::{ExtendedSeq, RtpHeader};

use super::reception::Reception;
use systir_media_control::{ReceiveCodec, ReceiveExtensions, ReceiveSection, TrackKey};

/// Streams of one connection, including retransmissions.
const MAX_STREAMS: usize = 256;
/// A stream without packets for this long may be replaced by a stream that it replaced before.
const STREAM_IDLE: Duration = Duration::from_secs(2);
/// Shortest time between two reports of another codec on a track. Each report makes a new track for all
/// participants of the room.
const CODEC_REPORT_INTERVAL: Duration = Duration::from_secs(2);

/// A header extension that is read from clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extension {
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

/// A track of the core and its codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TrackRef {
    pub(super) id: TrackId,
    pub(super) codec: Codec,
}

/// One layer of a section.
#[derive(Debug, Default)]
struct LayerState {
    ssrc: Option<u32>,
    last_at: Option<Instant>,
    seq: ExtendedSeq,
    reception: Reception,
}

impl LayerState {
    /// Switches the layer to another stream: sequence numbers continue above the earlier ones, reception
    /// statistics start again.
    fn switch_stream(&mut self, now: Instant, ssrc: u32) {
        if self.ssrc.replace(ssrc) != Some(ssrc) {
            self.last_at = Some(now);
            self.reception = Reception::default();
            self.seq.restart();
        }
    }

    fn is_live(&self, now: Instant) -> bool {
        self.last_at.is_some_and(|last| now.saturating_duration_since(last) < STREAM_IDLE)
    }
}

/// One m-line of the client's description.
#[derive(Debug)]
struct Section {
    description: ReceiveSection,
    track: Option<TrackRef>,
    layers: [LayerState; Layer::MAX],
    /// When it was last reported that the packets have another codec than the track.
    codec_reported_at: Option<Instant>,
}

/// What an SSRC carries.
#[derive(Debug, Clone, Copy)]
struct RtpStream {
    section: usize,
    layer: Layer,
    /// Whether it carries retransmissions (RTX, RFC 4588).
    rtx: bool,
}

/// Why a packet was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// Not an RTP packet.
    Malformed,
    /// It matches no section, no track, or no payload type of the section.
    Unmatched,
    /// It has another codec of the section than the track: the client did not announce which one it sends,
    /// or changed it.
    OtherCodec {
        track: TrackId,
        codec: Codec,
        /// Whether to report it to the room: it was not reported recently.
        report: bool,
    },
    /// The connection sends too many streams.
    TooManyStreams,
    /// Nothing to forward, which is no error: only padding, or a sequence number far from the others.
    NothingToForward,
}

/// An accepted packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Accepted<'a> {
    pub(super) track: TrackId,
    pub(super) layer: Layer,
    pub(super) packet: Packet<'a>,
}

/// Extensions of this hop.
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
    /// By extension id.
    extensions: Box<[Option<Extension>; 256]>,
    sections: Vec<Section>,
    streams: FxHashMap<u32, RtpStream>,
}

impl Ingress {
    pub(super) fn new(epoch: Instant) -> Self {
        Self { epoch, extensions: Box::new([None; 256]), sections: Vec::new(), streams: FxHashMap::default() }
    }

    /// Sets the sections of a new description. A section that stays (same mid, same track) keeps its streams
    /// and sequence numbers.
    pub(super) fn describe(
        &mut self,
        now: Instant,
        descriptions: Vec<ReceiveSection>,
        resolve: impl Fn(TrackKey) -> Option<TrackRef>,
    ) {
        let mut before = std::mem::take(&mut self.sections);
        let streams = std::mem::take(&mut self.streams);
        let mut moved: FxHashMap<usize, usize> = FxHashMap::default();
        *self.extensions = [None; 256];
        for description in descriptions {
            self.map_extensions(&description.extensions);
            let mut layers: [LayerState; Layer::MAX] = Default::default();
            let mut codec_reported_at = None;
            let to = self.sections.len();
            let old = before.iter_mut().enumerate().find(|(_, old)| old.description.mid == description.mid);
            if let Some((from, old)) = old {
                codec_reported_at = old.codec_reported_at;
                if old.description.track == description.track {
                    layers = std::mem::take(&mut old.layers);
                    moved.insert(from, to);
                }
            }
            let track = description.track.and_then(&resolve);
            self.sections.push(Section { description, track, layers, codec_reported_at });
        }
        for (ssrc, stream) in streams {
            if let Some(section) = moved.get(&stream.section) {
                self.streams.insert(ssrc, RtpStream { section: *section, ..stream });
            }
        }
        for section in 0..self.sections.len() {
            self.add_announced_streams(now, section);
        }
    }

    fn map_extensions(&mut self, ids: &ReceiveExtensions) {
        let pairs = [
            (ids.mid, Extension::Mid),
            (ids.rid, Extension::Rid),
            (ids.repaired_rid, Extension::RepairedRid),
            (ids.transport_cc, Extension::TransportCc),
            (ids.audio_level, Extension::AudioLevel),
            (ids.capture_time, Extension::CaptureTime),
            (ids.orientation, Extension::Orientation),
            (ids.dependency, Extension::Dependency),
            (ids.playout_delay, Extension::PlayoutDelay),
        ];
        for (id, extension) in pairs {
            // Bundled sections use an id for the same extension (RFC 8843 section 9.1): the first one counts.
            if let Some(id) = id
                && let Some(slot) = self.extensions.get_mut(usize::from(id))
            {
                slot.get_or_insert(extension);
            }
        }
    }

    fn add_announced_streams(&mut self, now: Instant, index: usize) {
        let Some(section) = self.sections.get_mut(index) else { return };
        for announced in &section.description.ssrcs {
            let Some(state) = section.layers.get_mut(usize::from(announced.layer.0)) else { continue };
            let is_announced = section.description.ssrcs.iter().any(|one| Some(one.ssrc) == state.ssrc);
            if !is_announced {
                state.switch_stream(now, announced.ssrc);
            }
            let ssrcs = [(Some(announced.ssrc), false), (announced.rtx_ssrc, true)];
            for (ssrc, rtx) in ssrcs {
                if let Some(ssrc) = ssrc
                    && self.streams.len() < MAX_STREAMS
                {
                    self.streams.insert(ssrc, RtpStream { section: index, layer: announced.layer, rtx });
                }
            }
        }
    }

    /// Sets the track of the section that was described with its key.
    pub(super) fn track_added(&mut self, key: TrackKey, track: TrackRef) {
        for section in self.sections.iter_mut().filter(|section| section.description.track == Some(key)) {
            section.track = Some(track);
        }
    }

    /// Removes the track from its section, and the section's streams.
    pub(super) fn track_removed(&mut self, track: TrackId) {
        for (index, section) in self.sections.iter_mut().enumerate() {
            if section.track.is_some_and(|own| own.id == track) {
                section.track = None;
                section.layers = Default::default();
                self.streams.retain(|_, stream| stream.section != index);
            }
        }
    }

    /// The SSRC of a layer; none before it is known.
    pub(super) fn ssrc(&self, track: TrackId, layer: Layer) -> Option<u32> {
        let section =
            self.sections.iter().find(|section| section.track.is_some_and(|own| own.id == track))?;
        section.layers.get(usize::from(layer.0))?.ssrc
    }

    /// The tracks of all sections.
    pub(super) fn tracks(&self) -> impl Iterator<Item = TrackId> {
        self.sections.iter().filter_map(|section| section.track.map(|track| track.id))
    }

    /// Whether the client answers NACKs for a track.
    pub(super) fn answers_nack(&self, track: TrackId) -> bool {
        self.sections.iter().filter(|section| section.track.is_some_and(|own| own.id == track)).any(
            |section| {
                let codec = section.track.map(|own| own.codec);
                section.description.codecs.iter().any(|one| Some(one.codec) == codec && one.nack)
            },
        )
    }

    /// A report block for each layer that has received packets, with the codec of its track.
    pub(super) fn report_blocks(
        &mut self,
        now: Instant,
    ) -> impl Iterator<Item = (Option<Codec>, ReportBlock)> {
        let layers = self.sections.iter_mut().flat_map(|section| {
            let codec = section.track.map(|track| track.codec);
            section.layers.iter_mut().map(move |state| (codec, state))
        });
        layers.filter_map(move |(codec, state)| {
            let ssrc = state.ssrc?;
            Some((codec, state.reception.report(now, ssrc)?))
        })
    }

    /// Records a sender report; returns its track and layer.
    pub(super) fn sender_report(&mut self, now: Instant, ssrc: u32, ntp: u64) -> Option<(TrackId, Layer)> {
        let stream = *self.streams.get(&ssrc)?;
        if stream.rtx {
            return None;
        }
        let section = self.sections.get_mut(stream.section)?;
        section.layers.get_mut(usize::from(stream.layer.0))?.reception.sender_report(now, ntp);
        Some((section.track?.id, stream.layer))
    }

    /// Accepts a decrypted RTP packet. `record_arrival` gets its transport-wide sequence number and its SSRC.
    pub(super) fn accept<'a>(
        &mut self,
        now: Instant,
        bytes: &'a [u8],
        mut record_arrival: impl FnMut(u16, u32),
    ) -> Result<Accepted<'a>, Refused> {
        let header = RtpHeader::parse(bytes).map_err(|_| Refused::Malformed)?;
        let (hop, ext) = self.read_extensions(&header);
        if let Some(number) = hop.transport_cc {
            record_arrival(number, header.ssrc);
        }
        let stream = self.stream(now, &header, &hop)?;
        let section = self.sections.get_mut(stream.section).ok_or(Refused::Unmatched)?;
        let track = section.track.ok_or(Refused::Unmatched)?;
        let state = section.layers.get_mut(usize::from(stream.layer.0)).ok_or(Refused::Unmatched)?;
        let pt = header.payload_type;
        let has_pt =
            |codec: &ReceiveCodec| if stream.rtx { codec.rtx_pt == Some(pt) } else { codec.pt == pt };
        let codec =
            section.description.codecs.iter().find(|entry| has_pt(entry)).ok_or(Refused::Unmatched)?.codec;
        if !codec.shares_stream_with(track.codec) {
            // Retransmissions and padding do not show which codec the client sends.
            if stream.rtx || header.payload.is_empty() {
                return Err(Refused::NothingToForward);
            }
            let report = section
                .codec_reported_at
                .is_none_or(|at| now.saturating_duration_since(at) >= CODEC_REPORT_INTERVAL);
            if report {
                section.codec_reported_at = Some(now);
            }
            return Err(Refused::OtherCodec { track: track.id, codec, report });
        }
        let (seq, payload) = if stream.rtx {
            let (&[high, low], payload) =
                header.payload.split_first_chunk::<2>().ok_or(Refused::NothingToForward)?;
            let seq = state.seq.nearest(u16::from_be_bytes([high, low])).ok_or(Refused::NothingToForward)?;
            (seq, payload)
        } else {
            state.last_at = Some(now);
            let seq = state.seq.extend(header.seq).ok_or(Refused::NothingToForward)?;
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
            let Some(extension) = self.extensions.get(usize::from(id)).copied().flatten() else { continue };
            match (extension, value) {
                (Extension::Mid, value) => hop.mid = Some(value),
                (Extension::Rid, value) => hop.rid = Some(value),
                (Extension::RepairedRid, value) => hop.repaired_rid = Some(value),
                (Extension::TransportCc, [high, low]) => {
                    hop.transport_cc = Some(u16::from_be_bytes([*high, *low]));
                }
                (Extension::AudioLevel, [byte, ..]) => {
                    ext.audio_level = Some(AudioLevel { level: byte & 0x7F, voice: byte & 0x80 != 0 });
                }
                (Extension::CaptureTime, value) if matches!(value.len(), 8 | 16) => {
                    ext.capture_time = Some(value)
                }
                (Extension::Orientation, [byte, ..]) => ext.orientation = Some(*byte),
                (Extension::Dependency, value) if !value.is_empty() => ext.dependency = Some(value),
                (Extension::PlayoutDelay, [a, b, c]) => ext.playout_delay = Some([*a, *b, *c]),
                _ => {}
            }
        }
        (hop, ext)
    }

    /// The stream of a packet: by SSRC, otherwise by mid and rid, otherwise by payload type.
    fn stream(
        &mut self,
        now: Instant,
        header: &RtpHeader<'_>,
        hop: &HopExtensions<'_>,
    ) -> Result<RtpStream, Refused> {
        if let Some(stream) = self.streams.get(&header.ssrc)
            && let Some(section) = self.sections.get(stream.section)
            && section.matches(stream, hop)
        {
            let layer = section.layers.get(usize::from(stream.layer.0));
            if stream.rtx || layer.is_some_and(|layer| layer.ssrc == Some(header.ssrc)) {
                return Ok(*stream);
            }
            // Another stream replaced this one. It may come back only once that stream is idle.
            if layer.is_some_and(|layer| layer.is_live(now)) {
                return Err(Refused::NothingToForward);
            }
        }
        let stream = self.classify(header, hop).ok_or(Refused::Unmatched)?;
        if self.streams.len() >= MAX_STREAMS && !self.streams.contains_key(&header.ssrc) {
            return Err(Refused::TooManyStreams);
        }
        let section = self.sections.get_mut(stream.section).ok_or(Refused::Unmatched)?;
        let state = section.layers.get_mut(usize::from(stream.layer.0)).ok_or(Refused::Unmatched)?;
        if !stream.rtx {
            state.switch_stream(now, header.ssrc);
        }
        // Its RTX stream, if the description announced one, follows to the same layer.
        let announced = section.description.ssrcs.iter().find(|one| one.ssrc == header.ssrc);
        let rtx_ssrc = announced.and_then(|one| one.rtx_ssrc).filter(|_| !stream.rtx);
        if let Some(rtx_ssrc) = rtx_ssrc {
            self.streams.insert(rtx_ssrc, RtpStream { rtx: true, ..stream });
        }
        self.streams.insert(header.ssrc, stream);
        Ok(stream)
    }

    /// The stream of a packet with an unknown SSRC, or one that its extensions contradict.
    fn classify(&self, header: &RtpHeader<'_>, hop: &HopExtensions<'_>) -> Option<RtpStream> {
        let pt = header.payload_type;
        let index = match hop.mid {
            Some(mid) => {
                self.sections.iter().position(|section| section.description.mid.as_bytes() == mid)?
            }
            None => match self.streams.get(&header.ssrc) {
                Some(known) => known.section,
                None => {
                    let mut users =
                        self.sections.iter().enumerate().filter(|(_, section)| section.has_payload_type(pt));
                    let (index, _) = users.next()?;
                    if users.next().is_some() {
                        return None;
                    }
                    index
                }
            },
        };
        let section = self.sections.get(index).filter(|section| section.has_payload_type(pt))?;
        section.track?;
        let rtx = section.description.codecs.iter().any(|codec| codec.rtx_pt == Some(pt));
        let layer = match hop.repaired_rid.or(hop.rid) {
            Some(rid) if !section.description.rids.is_empty() => section.layer_of(rid)?,
            // Without rid the layer is known only if there is a single one, or if the SSRC was announced.
            _ => {
                let announced = section.description.ssrcs.iter().find(|one| one.ssrc == header.ssrc);
                let one_layer = section.description.rids.len() <= 1 && section.description.ssrcs.len() <= 1;
                announced.map(|one| one.layer).or(one_layer.then_some(Layer(0)))?
            }
        };
        (usize::from(layer.0) < Layer::MAX).then_some(RtpStream { section: index, layer, rtx })
    }
}

impl Section {
    fn layer_of(&self, rid: &[u8]) -> Option<Layer> {
        self.description.rids.iter().find(|(name, _)| name.as_bytes() == rid).map(|(_, layer)| *layer)
    }

    /// Whether mid and rid of a packet match the known section and layer of its SSRC. If not, the client now
    /// uses the SSRC for another stream: the packet is newer than what is known.
    fn matches(&self, stream: &RtpStream, hop: &HopExtensions<'_>) -> bool {
        let rid = if stream.rtx { hop.repaired_rid } else { hop.rid };
        let same_layer =
            |rid: &[u8]| self.description.rids.is_empty() || self.layer_of(rid) == Some(stream.layer);
        hop.mid.is_none_or(|mid| self.description.mid.as_bytes() == mid) && rid.is_none_or(same_layer)
    }

    /// Whether the section has this payload type, for media or for retransmissions.
    fn has_payload_type(&self, pt: u8) -> bool {
        self.description.codecs.iter().any(|codec| codec.pt == pt || codec.rtx_pt == Some(pt))
    }
}

#[cfg(test)]
mod tests;
