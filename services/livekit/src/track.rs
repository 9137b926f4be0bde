//! A participant's own tracks, and their `TrackInfo`.

use std::time::Instant;

use livekit_protocol::{self as proto, AudioTrackFeature, TrackSource, TrackType, video_layer};
use systir_rtp::packet::{Codec, Kind, Layer};

use super::dynacast::Dynacast;
use crate::sdp::{Section, codecs};
use systir_media_control::{CaptureSource, TrackKey, TrackSpec};

/// How many features of a request are kept.
const MAX_FEATURES: usize = 8;
/// Longest text of a request that is kept, bytes.
pub(super) const MAX_TEXT: usize = 1024;

/// A track that was announced by `AddTrackRequest`, and is published once it is bound to an m-line.
#[derive(Debug, Clone)]
pub(super) struct OwnTrack {
    pub(super) key: TrackKey,
    pub(super) info: proto::TrackInfo,
    /// The client's id of the track, which the m-line's `a=msid` repeats.
    pub(super) cid: String,
    pub(super) kind: Kind,
    pub(super) announced_at: Instant,
    /// The m-line that carries it.
    pub(super) bound: Option<BoundSection>,
    /// Was the client notified of the first subscriber?
    pub(super) subscribed: bool,
    /// The layers that the client sends; of video only.
    pub(super) dynacast: Dynacast,
}

#[derive(Debug, Clone)]
pub(super) struct BoundSection {
    pub(super) mid: String,
    pub(super) spec: TrackSpec,
}

impl OwnTrack {
    /// The codec that the client announced; many clients do not name one.
    pub(super) fn announced_codec(&self) -> Option<Codec> {
        codecs::from_mime(&self.info.mime_type)
    }

    pub(super) fn feature(&self, feature: AudioTrackFeature) -> bool {
        self.info.audio_features.contains(&(feature as i32))
    }

    /// Binds the track to an m-line, which determines its layers.
    #[allow(deprecated)]
    pub(super) fn bind(&mut self, section: &Section, codec: Codec) {
        let layers = section.layers();
        section.mid.clone_into(&mut self.info.mid);
        self.info.simulcast = layers.iter().count() > 1;
        let rids = section.rid_layers();
        name_layers(&mut self.info.layers, &rids);
        if let Some(first) = self.info.codecs.first_mut() {
            section.mid.clone_into(&mut first.mid);
            name_layers(&mut first.layers, &rids);
        }
        let spec = TrackSpec { kind: self.kind, codec, layers };
        self.bound = Some(BoundSection { mid: section.mid.clone(), spec });
        self.set_codec(codec);
    }

    pub(super) fn set_codec(&mut self, codec: Codec) {
        codecs::mime(codec).clone_into(&mut self.info.mime_type);
        if let Some(first) = self.info.codecs.first_mut() {
            codecs::mime(codec).clone_into(&mut first.mime_type);
        }
        if let Some(bound) = &mut self.bound {
            bound.spec.codec = codec;
        }
    }
}

/// Sets the rid and the spatial layer of each announced layer from the m-line.
fn name_layers(layers: &mut [proto::VideoLayer], rids: &[(String, Layer)]) {
    if layers.len() != rids.len() {
        return;
    }
    let mut rids: Vec<&(String, Layer)> = rids.iter().collect();
    rids.sort_by_key(|(_, layer)| layer.0);
    for (layer, (rid, spatial)) in layers.iter_mut().zip(rids) {
        rid.clone_into(&mut layer.rid);
        layer.spatial_layer = i32::from(spatial.0);
    }
}

/// The kind of the requested track; `None` for a kind that is not supported.
pub(super) fn kind(request: &proto::AddTrackRequest) -> Option<Kind> {
    match TrackType::try_from(request.r#type) {
        Ok(TrackType::Audio) => Some(Kind::Audio),
        Ok(TrackType::Video) => Some(Kind::Video),
        Ok(TrackType::Data) | Err(_) => None,
    }
}

/// `TR_` and the source of the track, as in LiveKit's sids. Helps in logs; nothing depends on it.
pub(super) fn sid_prefix(kind: Kind, source: TrackSource) -> &'static str {
    match (kind, source) {
        (Kind::Audio, TrackSource::Microphone) => "TR_AM",
        (Kind::Audio, TrackSource::ScreenShareAudio) => "TR_AS",
        (Kind::Audio, _) => "TR_AU",
        (Kind::Video, TrackSource::Camera) => "TR_VC",
        (Kind::Video, TrackSource::ScreenShare) => "TR_VS",
        (Kind::Video, _) => "TR_VU",
    }
}

/// What a track captures; an unknown source counts as the usual one of its kind.
pub(super) fn capture_source(info: &proto::TrackInfo, kind: Kind) -> CaptureSource {
    match (kind, TrackSource::try_from(info.source)) {
        (Kind::Audio, Ok(TrackSource::ScreenShareAudio)) => CaptureSource::ScreenShareAudio,
        (Kind::Audio, _) => CaptureSource::Microphone,
        (Kind::Video, Ok(TrackSource::ScreenShare)) => CaptureSource::ScreenShare,
        (Kind::Video, _) => CaptureSource::Camera,
    }
}

/// The `TrackInfo` of a request.
#[allow(deprecated)]
pub(super) fn info(
    request: &proto::AddTrackRequest,
    sid: String,
    kind: Kind,
    micros: i64,
) -> proto::TrackInfo {
    let announced = request.simulcast_codecs.first();
    let codec = announced.and_then(|one| codecs::from_mime(&one.codec));
    let codec = codec.or((kind == Kind::Audio).then_some(Codec::Opus)).filter(|codec| codec.kind() == kind);
    let mime_type = codec.map(|codec| codecs::mime(codec).to_owned()).unwrap_or_default();
    let layers = layers(request, announced, codec);
    let mode = mode(announced, codec, layers.len());

    let mut audio_features: Vec<i32> = request.audio_features.iter().copied().take(MAX_FEATURES).collect();
    let deprecated =
        [(request.stereo, AudioTrackFeature::TfStereo), (request.disable_dtx, AudioTrackFeature::TfNoDtx)];
    for (set, feature) in deprecated {
        if set && kind == Kind::Audio && !audio_features.contains(&(feature as i32)) {
            audio_features.push(feature as i32);
        }
    }
    let codec_info = proto::SimulcastCodecInfo {
        mime_type: mime_type.clone(),
        mid: String::new(),
        cid: truncate(&request.cid),
        layers: layers.clone(),
        video_layer_mode: mode as i32,
        ..Default::default()
    };
    proto::TrackInfo {
        sid,
        r#type: request.r#type,
        name: truncate(&request.name),
        muted: request.muted,
        width: request.width,
        height: request.height,
        simulcast: mode == video_layer::Mode::OneSpatialLayerPerStream && layers.len() > 1,
        disable_dtx: request.disable_dtx,
        source: request.source,
        layers,
        mime_type,
        mid: String::new(),
        codecs: vec![codec_info],
        stereo: audio_features.contains(&(AudioTrackFeature::TfStereo as i32)),
        disable_red: request.disable_red,
        encryption: request.encryption,
        stream: truncate(&request.stream),
        version: Some(proto::TimedVersion { unix_micro: micros, ticks: 0 }),
        audio_features,
        backup_codec_policy: request.backup_codec_policy,
        packet_trailer_features: request.packet_trailer_features.iter().copied().take(MAX_FEATURES).collect(),
    }
}

/// Layers, lowest first, with rid and spatial index filled in.
fn layers(
    request: &proto::AddTrackRequest,
    announced: Option<&proto::SimulcastCodec>,
    codec: Option<Codec>,
) -> Vec<proto::VideoLayer> {
    let named = announced.map(|one| one.layers.as_slice()).filter(|layers| !layers.is_empty());
    let mut layers: Vec<proto::VideoLayer> =
        named.unwrap_or(&request.layers).iter().take(Layer::MAX).cloned().collect();
    layers.sort_by_key(|layer| (layer.height, layer.width, layer.quality));
    let svc =
        matches!(mode(announced, codec, layers.len()), video_layer::Mode::MultipleSpatialLayersPerStream);
    let several = layers.len() > 1;
    for (index, layer) in layers.iter_mut().enumerate() {
        layer.spatial_layer = i32::try_from(index).unwrap_or_default();
        layer.rid = match (several && !svc, index) {
            (true, 0) => "q".into(),
            (true, 1) => "h".into(),
            (true, _) => "f".into(),
            (false, _) => String::new(),
        };
    }
    layers
}

/// VP9 and AV1 send their layers in one stream unless the client announces another mode.
fn mode(announced: Option<&proto::SimulcastCodec>, codec: Option<Codec>, layers: usize) -> video_layer::Mode {
    let announced = announced.and_then(|one| video_layer::Mode::try_from(one.video_layer_mode).ok());
    match (announced, codec) {
        (Some(mode), _) if mode != video_layer::Mode::Unused => mode,
        (_, Some(Codec::Vp9 | Codec::Av1)) if layers > 0 => video_layer::Mode::MultipleSpatialLayersPerStream,
        (_, Some(Codec::Vp8 | Codec::H264)) if layers > 0 => video_layer::Mode::OneSpatialLayerPerStream,
        _ => video_layer::Mode::Unused,
    }
}

/// Cuts a text to `MAX_TEXT` bytes; names of tracks and streams are only displayed or compared.
fn truncate(text: &str) -> String {
    let end = (0..=text.len().min(MAX_TEXT)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default().to_owned()
}

/// The stream id of a subscriber's m-line. Tracks with the same stream id are synchronised.
pub(super) fn stream_id(participant_sid: &str, track: &proto::TrackInfo) -> String {
    // It is written into SDP, where a space or a line break would end it.
    let is_word = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'|');
    if track.stream.is_empty() || !is_word(&track.stream) || track.stream.len() > 128 {
        format!("{participant_sid}|{}", track.sid)
    } else {
        format!("{participant_sid}|{}", track.stream)
    }
}
