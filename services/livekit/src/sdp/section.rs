//! One m-line of a client's description.

use std::collections::BTreeMap;

use sdp_types::{Attribute, Media};

use super::codecs::{self, OfferedCodec};
use systir_rtp::packet::{Codec, Kind, Layer, LayerSet};

use systir_media_control::{ReceiveCodec, ReceiveSsrc};

/// How many attributes of one name, or payload types, are read of one m-line.
const MAX_LINES: usize = 256;
/// The longest value of an attribute that is read, bytes. Browsers and SDKs write at most 200.
const MAX_VALUE_BYTES: usize = 2048;

/// What an m-line carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SectionKind {
    /// Audio or video.
    Media(Kind),
    /// Data channels (RFC 8841).
    Data,
    /// Unsupported; rejected in the answer.
    Other,
}

/// `a=sendrecv` and the like, from the writer's point of view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// Both ways.
    #[default]
    SendRecv,
    /// The writer sends.
    SendOnly,
    /// The writer receives.
    RecvOnly,
    /// Neither.
    Inactive,
}

impl Direction {
    pub(super) fn of(attributes: &[Attribute]) -> Option<Self> {
        attributes.iter().rev().find_map(|attribute| match attribute.attribute.as_str() {
            "sendrecv" => Some(Self::SendRecv),
            "sendonly" => Some(Self::SendOnly),
            "recvonly" => Some(Self::RecvOnly),
            "inactive" => Some(Self::Inactive),
            _ => None,
        })
    }

    /// Does the writer send?
    #[must_use]
    pub fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }
}

/// One m-line.
#[derive(Debug, Clone)]
pub struct Section {
    /// `a=mid`.
    pub mid: String,
    /// What it carries.
    pub kind: SectionKind,
    /// Media field of `m=`, as written.
    pub media: String,
    /// Protocol field of `m=`, as written.
    pub proto: String,
    /// Formats of `m=`, as written.
    pub fmt: String,
    /// Port zero without `a=bundle-only`: the writer does not use it (RFC 8843 section 6).
    pub rejected: bool,
    /// Direction; that of the session if the m-line has none.
    pub direction: Direction,
    /// Stream id of `a=msid`; the Rust SDK writes `-`.
    pub stream: Option<String>,
    /// Track id of `a=msid`: LiveKit's `cid`.
    pub track: Option<String>,
    /// Payload types in the writer's order.
    pub codecs: Vec<OfferedCodec>,
    /// Extension ids and their URIs.
    pub extensions: Vec<(u8, String)>,
    /// Rids that the writer sends, in the order of `a=simulcast`.
    pub rids: Vec<String>,
    /// SSRCs in the order in which they are written.
    pub ssrcs: Vec<u32>,
    /// `a=ssrc-group:FID`: SSRC of the retransmissions by SSRC of the media.
    pub repairs: BTreeMap<u32, u32>,
    /// `a=ssrc-group:SIM`.
    pub simulcast: Vec<u32>,
    /// `a=rtcp-rsize`.
    pub reduced_size: bool,
}

impl Section {
    pub(super) fn read(media: &Media, index: usize, session_direction: Option<Direction>) -> Self {
        let values = |name: &'static str| {
            media
                .attributes
                .iter()
                .filter(move |one| one.attribute == name)
                .filter_map(|one| one.value.as_deref())
                .filter(|value| value.len() <= MAX_VALUE_BYTES)
                .take(MAX_LINES)
        };
        let has = |name: &str| media.attributes.iter().any(|one| one.attribute == name);
        let kind = match (media.media.as_str(), media.proto.contains("RTP/"), media.proto.contains("SCTP")) {
            ("audio", true, _) => SectionKind::Media(Kind::Audio),
            ("video", true, _) => SectionKind::Media(Kind::Video),
            ("application", _, true) => SectionKind::Data,
            _ => SectionKind::Other,
        };
        let (stream, track) = msid(&values("msid").next().map(str::to_owned), values("ssrc"));
        let mut section = Self {
            // An m-line without mid is identified by its position; it cannot be in a bundle.
            mid: values("mid").next().map_or_else(|| format!("#{index}"), str::to_owned),
            kind,
            media: media.media.clone(),
            proto: media.proto.clone(),
            fmt: media.fmt.clone(),
            rejected: media.port == 0 && !has("bundle-only"),
            direction: Direction::of(&media.attributes).or(session_direction).unwrap_or_default(),
            stream,
            track,
            codecs: codecs(media, values("rtpmap"), values("fmtp"), values("rtcp-fb")),
            extensions: values("extmap").filter_map(extmap).collect(),
            rids: rids(values("rid"), values("simulcast").next()),
            ssrcs: Vec::new(),
            repairs: BTreeMap::new(),
            simulcast: Vec::new(),
            reduced_size: has("rtcp-rsize"),
        };
        section.read_ssrcs(values("ssrc"), values("ssrc-group"));
        section
    }

    fn read_ssrcs<'a>(
        &mut self,
        lines: impl Iterator<Item = &'a str>,
        groups: impl Iterator<Item = &'a str>,
    ) {
        for line in lines {
            let ssrc = line.split_ascii_whitespace().next().and_then(|word| word.parse().ok());
            if let Some(ssrc) = ssrc.filter(|ssrc| !self.ssrcs.contains(ssrc)) {
                self.ssrcs.push(ssrc);
            }
        }
        for group in groups {
            let mut words = group.split_ascii_whitespace();
            let semantics = words.next();
            let members: Vec<u32> = words.filter_map(|word| word.parse().ok()).take(16).collect();
            match (semantics, members.as_slice()) {
                (Some("FID"), &[media, repair]) => {
                    self.repairs.insert(media, repair);
                }
                (Some("SIM"), members) => self.simulcast = members.to_vec(),
                _ => {}
            }
        }
    }

    /// The canonical codecs of the m-line, `first` before the others, which are in the client's order. Each
    /// codec occurs once, with the payload type that fits best.
    pub(super) fn receive_codecs(&self, first: Option<Codec>, red: bool) -> Vec<ReceiveCodec> {
        let mut found: Vec<(ReceiveCodec, u8)> = Vec::new();
        for offered in &self.codecs {
            let Some((codec, rank)) = offered.canonical() else { continue };
            if self.kind != SectionKind::Media(codec.kind()) || (codec == Codec::Red && !red) {
                continue;
            }
            let rtx_pt = self.rtx_of(offered.pt);
            let nack = offered.feedback.contains(&"nack");
            let candidate = (ReceiveCodec { pt: offered.pt, codec, rtx_pt, nack }, rank);
            match found.iter_mut().find(|(other, _)| other.codec == codec) {
                Some(other) if other.1 > rank => *other = candidate,
                Some(_) => {}
                None => found.push(candidate),
            }
        }
        let mut codecs: Vec<ReceiveCodec> = found.into_iter().map(|(codec, _)| codec).collect();
        // RED contains another codec, so it comes first when it is allowed.
        codecs.sort_by_key(|one| (one.codec != Codec::Red, Some(one.codec) != first));
        codecs
    }

    /// The codec that the client will send when our answer puts `first` before the others.
    #[must_use]
    pub fn first_codec(&self, first: Option<Codec>, red: bool) -> Option<Codec> {
        self.receive_codecs(first, red).first().map(|one| one.codec)
    }

    /// The announced layers; without any, the lowest one.
    #[must_use]
    pub fn layers(&self) -> LayerSet {
        let by_rid = self.rid_layers().into_iter().map(|(_, layer)| layer);
        let by_ssrc = self.receive_ssrcs().into_iter().map(|one| one.layer);
        let of = |layers: &mut dyn Iterator<Item = Layer>| layers.fold(LayerSet::NONE, LayerSet::with);
        // Rids are preferred: the SSRCs of an m-line with rids may be in any order.
        let layers = Some(of(&mut { by_rid })).filter(|layers| !layers.is_empty());
        let layers = layers.unwrap_or_else(|| of(&mut { by_ssrc }));
        if layers.is_empty() { layers.with(Layer(0)) } else { layers }
    }

    fn rtx_of(&self, pt: u8) -> Option<u8> {
        self.codecs.iter().find(|one| one.repairs == Some(pt)).map(|one| one.pt)
    }

    /// The layer of each rid: by name for LiveKit's `q`, `h` and `f`, else by the order of the rids.
    #[must_use]
    pub fn rid_layers(&self) -> Vec<(String, Layer)> {
        let by_name = |rid: &str| match rid {
            "q" => Some(Layer(0)),
            "h" => Some(Layer(1)),
            "f" => Some(Layer(2)),
            _ => None,
        };
        let named = self.rids.len() > 1 && self.rids.iter().all(|rid| by_name(rid).is_some());
        let layers = self.rids.iter().enumerate().map(|(index, rid)| {
            let layer = if named { by_name(rid) } else { u8::try_from(index).ok().map(Layer) };
            (rid.clone(), layer)
        });
        layers
            .filter_map(|(rid, layer)| Some((rid, layer.filter(|layer| usize::from(layer.0) < Layer::MAX)?)))
            .collect()
    }

    /// The SSRCs of media with their layers: in the order of `a=ssrc-group:SIM`, else in the order of the
    /// rids if there are as many. Without simulcast only the first SSRC is used.
    pub(super) fn receive_ssrcs(&self) -> Vec<ReceiveSsrc> {
        let rids = self.rid_layers();
        let repairs = |ssrc: &u32| self.repairs.values().any(|rtx| rtx == ssrc);
        let main: Vec<u32> = self.ssrcs.iter().copied().filter(|ssrc| !repairs(ssrc)).collect();
        let of =
            |ssrc: u32, layer: Layer| ReceiveSsrc { ssrc, rtx_ssrc: self.repairs.get(&ssrc).copied(), layer };
        if !self.simulcast.is_empty() {
            let layers = (0..Layer::MAX as u8).map(Layer);
            return self.simulcast.iter().zip(layers).map(|(ssrc, layer)| of(*ssrc, layer)).collect();
        }
        if rids.len() > 1 {
            let complete = main.len() == rids.len();
            return main
                .into_iter()
                .zip(rids)
                .filter(|_| complete)
                .map(|(ssrc, (_, layer))| of(ssrc, layer))
                .collect();
        }
        main.into_iter().take(1).map(|ssrc| of(ssrc, Layer(0))).collect()
    }
}

/// Stream id and track id of `a=msid`; older clients write it in `a=ssrc`.
fn msid<'a>(
    line: &Option<String>,
    ssrc_lines: impl Iterator<Item = &'a str>,
) -> (Option<String>, Option<String>) {
    let per_ssrc =
        ssrc_lines.filter_map(|line| line.split_once(" msid:")).map(|(_, value)| value.to_owned()).next();
    let Some(value) = line.clone().or(per_ssrc) else { return (None, None) };
    let mut words = value.split_ascii_whitespace().map(str::to_owned);
    (words.next(), words.next())
}

fn extmap(value: &str) -> Option<(u8, String)> {
    let mut words = value.split_ascii_whitespace();
    let id = words.next()?.split('/').next()?.parse().ok()?;
    Some((id, words.next()?.to_owned()))
}

/// Rids of `a=rid:... send`, in the order of `a=simulcast:send`. Of alternatives (`a,b`) the first is used; a
/// leading `~` (paused) is ignored.
fn rids<'a>(lines: impl Iterator<Item = &'a str>, simulcast: Option<&str>) -> Vec<String> {
    let declared: Vec<String> = lines
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let rid = words.next()?;
            let usable = rid.len() <= 16
                && rid.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
            (words.next()? == "send" && usable).then(|| rid.to_owned())
        })
        .collect();
    let mut words = simulcast.unwrap_or_default().split_ascii_whitespace();
    let mut ordered = Vec::new();
    while let (Some(direction), Some(list)) = (words.next(), words.next()) {
        if direction != "send" {
            continue;
        }
        for entry in list.split(';') {
            let rid = entry.split(',').next().unwrap_or_default().trim_start_matches('~');
            if declared.iter().any(|one| one == rid) && !ordered.iter().any(|one| one == rid) {
                ordered.push(rid.to_owned());
            }
        }
    }
    ordered
}

fn codecs<'a>(
    media: &Media,
    rtpmaps: impl Iterator<Item = &'a str>,
    fmtps: impl Iterator<Item = &'a str>,
    feedbacks: impl Iterator<Item = &'a str>,
) -> Vec<OfferedCodec> {
    let mut offered: Vec<OfferedCodec> = Vec::new();
    for pt in media.fmt.split_ascii_whitespace().filter_map(|word| word.parse::<u8>().ok()).take(MAX_LINES) {
        if offered.iter().any(|one| one.pt == pt) {
            continue;
        }
        // Static payload types need no rtpmap (RFC 3551).
        let (name, clock) = match pt {
            0 => ("PCMU", 8000),
            8 => ("PCMA", 8000),
            _ => ("", 0),
        };
        offered.push(OfferedCodec { pt, name: name.to_owned(), clock, channels: 1, ..Default::default() });
    }
    for line in rtpmaps {
        let Some((pt, encoding)) = line.split_once(' ') else { continue };
        let Some(codec) = find(&mut offered, pt) else { continue };
        let mut parts = encoding.trim().split('/');
        codec.name = parts.next().unwrap_or_default().to_owned();
        codec.clock = parts.next().and_then(|clock| clock.parse().ok()).unwrap_or_default();
        codec.channels = parts.next().and_then(|channels| channels.parse().ok()).unwrap_or(1);
    }
    for line in fmtps {
        let Some((pt, parameters)) = line.split_once(' ') else { continue };
        if let Some(codec) = find(&mut offered, pt) {
            codec.fmtp = parameters.trim().to_owned();
            let repairs = codec.parameter("apt").and_then(|apt| apt.parse().ok());
            codec.repairs = repairs.filter(|_| codec.name.eq_ignore_ascii_case("rtx"));
        }
    }
    for line in feedbacks {
        let Some((pt, value)) = line.split_once(' ') else { continue };
        let supported = codecs::feedback(Kind::Video).iter().chain(codecs::feedback(Kind::Audio));
        let Some(value) = supported.copied().find(|one| *one == value.trim()) else { continue };
        if pt == "*" {
            offered.iter_mut().for_each(|codec| codec.add_feedback(value));
        } else if let Some(codec) = find(&mut offered, pt) {
            codec.add_feedback(value);
        }
    }
    offered
}

fn find<'a>(codecs: &'a mut [OfferedCodec], pt: &str) -> Option<&'a mut OfferedCodec> {
    let pt = pt.trim().parse::<u8>().ok()?;
    codecs.iter_mut().find(|codec| codec.pt == pt)
}
