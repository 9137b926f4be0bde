//! The tracks that a participant publishes, and their peer connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use livekit_protocol::{
    AddTrackRequest, SessionDescription, SimulcastCodec, SubscribedQualityUpdate, TrackSource, TrackType,
    VideoLayer,
};
use str0m::Event;
use str0m::change::SdpPendingOffer;
use str0m::format::Codec;
use str0m::media::{Direction, MediaKind, Mid, Pt, Rid, Simulcast, SimulcastLayer};
use str0m::rtp::{ExtensionValues, RtpWrite};

use crate::config::Config;
use crate::media::{Audio, Clip, Encoding, Outgoing, RIDS, SIZES, Schedule, Source, Video, unix_us};
use crate::names;
use crate::peer::Peer;
use crate::stats::{RTP_HEADER, Stats};

/// The tracks that a participant publishes, and their peer connection.
pub(crate) struct Publisher {
    pub(crate) peer: Peer,
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
    pub(crate) fn new(peer: Peer, config: Arc<Config>, index: usize) -> Self {
        let camera = config.publishes_video() && config.cameras.is_none_or(|cameras| index < cameras);
        let kinds = [(false, config.publishes_audio()), (true, camera)];
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

    /// One request for each track.
    pub(crate) fn requests(&self) -> impl Iterator<Item = AddTrackRequest> + '_ {
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
        // Qualities low, medium and high are 0, 1 and 2; a single layer has high quality.
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

    /// The server accepted a track. Returns the offer when it has accepted all of them.
    pub(crate) fn published(&mut self, cid: &str, sid: String) -> anyhow::Result<Option<SessionDescription>> {
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
        let Some((offer, pending)) = changes.apply() else {
            return Err(anyhow!("there is no track to offer"));
        };
        self.offered = Some(pending);
        self.peer.drain()?;
        let sdp = offer.to_sdp_string();
        Ok(Some(SessionDescription { r#type: "offer".into(), sdp, id: 1, ..Default::default() }))
    }

    pub(crate) async fn accept_answer(&mut self, answer: &SessionDescription) -> anyhow::Result<()> {
        let Some(pending) = self.offered.take() else { return Ok(()) };
        self.peer.accept_answer(pending, &answer.sdp).await?;
        for track in &mut self.tracks {
            let codec = if track.video { Codec::Vp8 } else { Codec::Opus };
            let media = track.mid.and_then(|mid| self.peer.rtc.media(mid));
            let accepted = media.map(|media| media.remote_pts().to_vec()).unwrap_or_default();
            let params = self.peer.rtc.codec_config().params();
            track.pt =
                params.iter().find(|p| p.spec().codec == codec && accepted.contains(&p.pt())).map(|p| p.pt());
            if track.pt.is_none() {
                return Err(anyhow!("the server does not accept {codec:?}"));
            }
        }
        Ok(())
    }

    /// Sends only layers that have subscribers.
    pub(crate) fn set_subscribed_layers(&mut self, update: &SubscribedQualityUpdate) {
        let simulcast = self.config.simulcast;
        let track = self.tracks.iter_mut().find(|track| track.sid == update.track_sid);
        let Some(Source::Video(video)) = track.and_then(|track| track.source.as_mut()) else { return };
        let codecs = update.subscribed_codecs.iter();
        let Some(codec) = codecs.clone().find(|c| c.codec.to_lowercase().ends_with("vp8")) else { return };
        if simulcast {
            for quality in &codec.qualities {
                video.set_subscribed(usize::try_from(quality.quality).unwrap_or(usize::MAX), quality.enabled);
            }
        } else {
            video.set_subscribed(0, codec.qualities.iter().any(|quality| quality.enabled));
        }
    }

    pub(crate) fn due(&self) -> Instant {
        let sources = self.tracks.iter().filter_map(|track| track.source.as_ref());
        sources.map(Source::due).chain([self.peer.due]).min().unwrap_or(self.peer.due)
    }

    pub(crate) fn tick(&mut self, now: Instant, stats: &mut Stats) -> anyhow::Result<()> {
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

    pub(crate) fn handle_events(&mut self, stats: &mut Stats) {
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

    /// Begins to send, after a random part of 20 ms, so that participants do not send in step.
    fn start(&mut self) {
        self.sending = true;
        let start = Instant::now() + Duration::from_millis(20).mul_f64(rand::random::<f64>());
        let now_us = unix_us();
        let clip = Clip::of(names::number(&self.config.identity_prefix, self.index));
        let speakers = self.config.speakers.unwrap_or(self.config.publishers());
        let speaks = self.index < speakers;
        let schedule =
            if speaks { Schedule::speaker(self.index, speakers) } else { Schedule::listener(self.index) };
        for track in &mut self.tracks {
            track.source = Some(if track.video {
                let bitrate = self.config.bitrate.saturating_mul(1_000);
                let Config { simulcast, fps, packet, .. } = *self.config;
                let encoding = Encoding { simulcast, bitrate, fps, packet };
                Source::Video(Video::new(start, now_us, clip, schedule, encoding))
            } else if speaks {
                Source::Audio(Audio::new(start, now_us, clip, schedule))
            } else {
                Source::Audio(Audio::silent(start, now_us, clip, self.index))
            });
        }
    }
}
