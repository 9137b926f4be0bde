//! What a client sends: which section, track and layer a packet belongs to (RFC 8843 section
//! 9.2), and the packet with all that belongs to this hop taken off.

use std::time::Instant;

use rustc_hash::FxHashMap;
use systir_media::TrackId;
use systir_media::packet::{AudioLevel, Codec, Extensions, Layer, Packet};
use systir_media::rtp::{ExtendedSeq, RtpHeader};
use systir_transport::rtcp::ReportBlock;

use super::command::{ReceiveCodec, ReceiveExtensions, ReceiveSection, TrackKey};
use super::reception::Reception;

/// Streams that one connection may send, retransmissions included.
const MAX_STREAMS: usize = 256;

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
    seq: ExtendedSeq,
    reception: Reception,
}

#[derive(Debug)]
struct Section {
    said: ReceiveSection,
    track: Option<TrackRef>,
    layers: [LayerState; Layer::MAX],
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
    /// No section, no track, or not the track's codec.
    Unclaimed,
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
            let same = |old: &Section| {
                old.said.mid == section.mid
                    && old.said.track == section.track
                    && old.said.rids == section.rids
                    && old.said.ssrcs == section.ssrcs
            };
            let to = self.sections.len();
            if let Some((from, old)) = before.iter_mut().enumerate().find(|(_, old)| same(old)) {
                layers = std::mem::take(&mut old.layers);
                moved.insert(from, to);
            }
            let track = section.track.and_then(&resolve);
            self.sections.push(Section { said: section, track, layers });
        }
        for (ssrc, stream) in streams {
            if let Some(section) = moved.get(&stream.section) {
                self.streams.insert(ssrc, Stream { section: *section, ..stream });
            }
        }
        for section in 0..self.sections.len() {
            self.learn_announced(section);
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

    fn learn_announced(&mut self, index: usize) {
        let Some(section) = self.sections.get_mut(index) else { return };
        for announced in &section.said.ssrcs {
            let Some(state) = section.layers.get_mut(usize::from(announced.layer.0)) else { continue };
            state.ssrc.get_or_insert(announced.ssrc);
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
        let stream = self.stream(&header, &hop)?;
        let section = self.sections.get_mut(stream.section).ok_or(Refused::Unclaimed)?;
        let track = section.track.ok_or(Refused::Unclaimed)?;
        let state = section.layers.get_mut(usize::from(stream.layer.0)).ok_or(Refused::Unclaimed)?;
        let pt = header.payload_type;
        let said =
            |wanted: &ReceiveCodec| if stream.repair { wanted.rtx_pt == Some(pt) } else { wanted.pt == pt };
        let codec = section.said.codecs.iter().find(|entry| said(entry)).ok_or(Refused::Unclaimed)?.codec;
        if codec != track.codec {
            return Err(Refused::Unclaimed);
        }
        let (seq, payload) = if stream.repair {
            let (&[high, low], payload) = header.payload.split_first_chunk::<2>().ok_or(Refused::Nothing)?;
            let seq = state.seq.nearest(u16::from_be_bytes([high, low])).ok_or(Refused::Nothing)?;
            (seq, payload)
        } else {
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
    fn stream(&mut self, header: &RtpHeader<'_>, hop: &HopExtensions<'_>) -> Result<Stream, Refused> {
        if let Some(stream) = self.streams.get(&header.ssrc) {
            let section = self.sections.get(stream.section);
            // A client may give an SSRC to another section; the mid on the packet is newer than ours.
            if hop.mid.is_none_or(|mid| section.is_some_and(|own| own.said.mid.as_bytes() == mid)) {
                return Ok(*stream);
            }
        }
        let stream = self.classify(header, hop).ok_or(Refused::Unclaimed)?;
        if self.streams.len() >= MAX_STREAMS && !self.streams.contains_key(&header.ssrc) {
            return Err(Refused::TooManyStreams);
        }
        let state = self
            .sections
            .get_mut(stream.section)
            .and_then(|section| section.layers.get_mut(usize::from(stream.layer.0)))
            .ok_or(Refused::Unclaimed)?;
        if !stream.repair {
            // The client started anew under another SSRC: the layer's numbers go on, its counts do not.
            if let Some(former) = state.ssrc.replace(header.ssrc)
                && former != header.ssrc
            {
                state.reception = Reception::default();
                self.streams.remove(&former);
            }
        }
        self.streams.insert(header.ssrc, stream);
        Ok(stream)
    }

    fn classify(&self, header: &RtpHeader<'_>, hop: &HopExtensions<'_>) -> Option<Stream> {
        let pt = header.payload_type;
        let index = match hop.mid {
            Some(mid) => self.sections.iter().position(|section| section.said.mid.as_bytes() == mid)?,
            None => {
                let mut users = self.sections.iter().enumerate().filter(|(_, section)| section.uses(pt));
                let (index, _) = users.next()?;
                if users.next().is_some() {
                    return None;
                }
                index
            }
        };
        let section = self.sections.get(index)?;
        section.track?;
        let repair = section.said.codecs.iter().any(|codec| codec.rtx_pt == Some(pt));
        let layer = match hop.repaired_rid.or(hop.rid) {
            Some(rid) => {
                section.said.rids.iter().find(|(name, _)| name.as_bytes() == rid).map(|(_, layer)| *layer)?
            }
            // Without a rid the layer is certain only where there is one.
            None if section.said.rids.is_empty() && section.said.ssrcs.len() <= 1 => Layer(0),
            None => return None,
        };
        (usize::from(layer.0) < Layer::MAX).then_some(Stream { section: index, layer, repair })
    }
}

impl Section {
    fn uses(&self, pt: u8) -> bool {
        self.said.codecs.iter().any(|codec| codec.pt == pt || codec.rtx_pt == Some(pt))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use systir_media::Core;
    use systir_media::packet::{Kind, LayerSet};
    use systir_media::rtp::{ExtensionIds, HeaderFields, write_header};

    use super::super::command::ReceiveSsrc;
    use super::*;

    const MID: u8 = 4;
    const RID: u8 = 10;
    const REPAIRED: u8 = 11;

    fn section(mid: &str, track: u64, rids: &[&str]) -> ReceiveSection {
        ReceiveSection {
            mid: mid.into(),
            track: Some(TrackKey(track)),
            codecs: vec![ReceiveCodec { pt: 96, codec: Codec::Vp8, rtx_pt: Some(97) }],
            extensions: ReceiveExtensions {
                mid: Some(MID),
                rid: Some(RID),
                repaired_rid: Some(REPAIRED),
                ..ReceiveExtensions::default()
            },
            rids: rids.iter().zip(0..).map(|(rid, layer)| ((*rid).to_owned(), Layer(layer))).collect(),
            ssrcs: Vec::new(),
        }
    }

    struct Fixture {
        ingress: Ingress,
        tracks: Vec<TrackId>,
        now: Instant,
    }

    impl Fixture {
        fn new(sections: Vec<ReceiveSection>) -> Self {
            let mut core = Core::new(1);
            let now = Instant::now();
            let mut add = || core.add_track(1, Kind::Video, Codec::Vp8, LayerSet(7));
            let tracks: Vec<_> = (0..3).map(|_| add()).collect();
            let mut fixture = Self { ingress: Ingress::new(now), tracks, now };
            fixture.describe(sections);
            fixture
        }

        fn describe(&mut self, sections: Vec<ReceiveSection>) {
            let tracks = self.tracks.clone();
            self.ingress.describe(sections, |key| {
                Some(TrackRef { id: *tracks.get(key.0 as usize)?, codec: Codec::Vp8 })
            });
        }

        fn accept(&mut self, packet: &[u8]) -> Result<(TrackId, Layer, u16), Refused> {
            let accepted = self.ingress.accept(self.now, packet, |_, _| {})?;
            Ok((accepted.track, accepted.layer, accepted.packet.seq as u16))
        }
    }

    fn packet(ssrc: u32, payload_type: u8, seq: u16, extra: &[(u8, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let fields = HeaderFields { payload_type, marker: false, seq, timestamp: 1, ssrc };
        write_header(&mut bytes, &fields, &ExtensionIds::default(), &Extensions::default(), extra);
        bytes.extend_from_slice(&[0, 5, 1, 2, 3]);
        bytes
    }

    #[test]
    fn a_layer_is_learnt_from_mid_and_rid_and_then_known_by_ssrc() {
        let mut fixture = Fixture::new(vec![section("0", 0, &["q", "h"]), section("1", 1, &["q", "h"])]);
        let track = fixture.tracks[1];
        assert_eq!(fixture.accept(&packet(7, 96, 1, &[])), Err(Refused::Unclaimed), "two sections use 96");
        let named = packet(7, 96, 1, &[(MID, b"1"), (RID, b"h")]);
        assert_eq!(fixture.accept(&named), Ok((track, Layer(1), 1)));
        assert_eq!(fixture.accept(&packet(7, 96, 2, &[])), Ok((track, Layer(1), 2)));
        assert_eq!(fixture.ingress.ssrc(track, Layer(1)), Some(7));
        let stranger = packet(8, 96, 1, &[(MID, b"1"), (RID, b"x")]);
        assert_eq!(fixture.accept(&stranger), Err(Refused::Unclaimed), "an unknown rid");
    }

    #[test]
    fn a_retransmission_gets_its_original_number() {
        let mut fixture = Fixture::new(vec![section("0", 0, &["q", "h"])]);
        let repair = packet(9, 97, 40_000, &[(MID, b"0"), (REPAIRED, b"h")]);
        assert_eq!(fixture.accept(&repair), Err(Refused::Nothing), "nothing came of that layer yet");
        fixture.accept(&packet(7, 96, 6, &[(MID, b"0"), (RID, b"h")])).unwrap();
        assert_eq!(fixture.accept(&repair), Ok((fixture.tracks[0], Layer(1), 5)));
        let accepted = fixture.ingress.accept(fixture.now, &repair, |_, _| {}).unwrap();
        assert_eq!(accepted.packet.payload, [1, 2, 3]);
    }

    #[test]
    fn a_stream_announced_by_ssrc_needs_no_extension() {
        let mut announced = section("0", 2, &[]);
        announced.ssrcs = vec![ReceiveSsrc { ssrc: 7, rtx_ssrc: Some(8), layer: Layer(0) }];
        let mut fixture = Fixture::new(vec![announced]);
        assert_eq!(fixture.ingress.ssrc(fixture.tracks[2], Layer(0)), Some(7));
        assert_eq!(fixture.accept(&packet(7, 96, 6, &[])), Ok((fixture.tracks[2], Layer(0), 6)));
        assert_eq!(fixture.accept(&packet(8, 97, 1, &[])), Ok((fixture.tracks[2], Layer(0), 5)));
    }

    #[test]
    fn a_lone_section_is_found_by_its_payload_type() {
        let mut fixture = Fixture::new(vec![section("0", 0, &[])]);
        assert_eq!(fixture.accept(&packet(7, 96, 6, &[])), Ok((fixture.tracks[0], Layer(0), 6)));
        assert_eq!(fixture.accept(&packet(7, 100, 7, &[])), Err(Refused::Unclaimed));
    }

    #[test]
    fn a_new_description_keeps_what_stays_and_forgets_what_went() {
        let (first, second) = (section("0", 0, &["q"]), section("1", 1, &["q"]));
        let mut fixture = Fixture::new(vec![first.clone(), second.clone()]);
        fixture.accept(&packet(7, 96, 6, &[(MID, b"0"), (RID, b"q")])).unwrap();
        fixture.accept(&packet(8, 96, 6, &[(MID, b"1"), (RID, b"q")])).unwrap();
        fixture.describe(vec![second, section("2", 2, &["q"])]);
        assert_eq!(fixture.accept(&packet(8, 96, 7, &[])), Ok((fixture.tracks[1], Layer(0), 7)));
        assert_eq!(fixture.accept(&packet(7, 96, 7, &[])), Err(Refused::Unclaimed));
        let again = packet(7, 96, 7, &[(MID, b"2"), (RID, b"q")]);
        assert_eq!(fixture.accept(&again), Ok((fixture.tracks[2], Layer(0), 7)));
        fixture.ingress.track_removed(fixture.tracks[2]);
        assert_eq!(fixture.accept(&again), Err(Refused::Unclaimed));
    }

    #[test]
    fn streams_are_bounded() {
        let mut fixture = Fixture::new(vec![section("0", 0, &["q"])]);
        let repairs = |ssrc| packet(ssrc, 97, 1, &[(MID, b"0"), (REPAIRED, b"q")]);
        for ssrc in 0..MAX_STREAMS as u32 {
            assert_ne!(fixture.accept(&repairs(ssrc)), Err(Refused::TooManyStreams));
        }
        assert_eq!(fixture.accept(&repairs(1_000_000)), Err(Refused::TooManyStreams));
    }

    proptest! {
        #[test]
        fn no_packet_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..80), valid: bool) {
            let mut fixture = Fixture::new(vec![section("0", 0, &["q", "h"]), section("1", 1, &[])]);
            if valid && bytes.len() > 1 {
                bytes[0] = 0x90;
                bytes[1] = 96 + bytes[1] % 2;
            }
            let _ = fixture.accept(&bytes);
        }
    }
}
