//! Entry points for the fuzz targets; not part of the API.

use std::time::{Duration, Instant};

use systir_forwarding::{Core, TrackId};
use systir_media_control::{ReceiveCodec, ReceiveExtensions, ReceiveSection, ReceiveSsrc, TrackKey};
use systir_rtp::packet::{Codec, Kind, Layer, LayerSet};

use crate::ingress::{Ingress, TrackRef};

/// Classifies a datagram.
pub fn demux(bytes: &[u8]) {
    let _ = crate::demux::protocol_of(bytes);
    if let Some(ufrag) = crate::demux::binding_request_ufrag(bytes) {
        assert!(ufrag.len() < bytes.len());
    }
}

/// Frames on a TCP stream, which arrives in pieces of any length.
pub fn tcp_frames<'a>(pieces: impl Iterator<Item = &'a [u8]>) {
    let mut frames = crate::tcp::Frames::default();
    for piece in pieces {
        frames.buffer().extend_from_slice(piece);
        loop {
            match frames.next() {
                Ok(Some(frame)) => assert!(!frame.is_empty()),
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

/// One step of [`ingress`].
#[derive(Debug)]
pub enum IngressStep<'a> {
    /// A decrypted RTP packet arrives.
    Packet(&'a [u8]),
    /// A sender report with this time arrives on a stream.
    SenderReport(u32, u64),
    /// The client describes the sections of these numbers.
    Describe(&'a [u8]),
    /// A track is added again, or removed.
    Track(u8, bool),
    /// Time passes.
    Wait(Duration),
}

/// The codecs of the tracks, by key.
const TRACKS: [Codec; 4] = [Codec::Opus, Codec::Vp8, Codec::H264, Codec::Av1];

/// Header extensions with the ids that libwebrtc uses.
const EXTENSIONS: ReceiveExtensions = ReceiveExtensions {
    mid: Some(4),
    rid: Some(10),
    repaired_rid: Some(11),
    transport_cc: Some(3),
    audio_level: Some(1),
    capture_time: Some(2),
    orientation: Some(13),
    dependency: Some(12),
    playout_delay: Some(5),
};

/// The sections that a client can describe: audio, simulcast by rid, simulcast by SSRC, and one layer with several codecs.
fn section(number: u8) -> ReceiveSection {
    let codec = |pt, codec, rtx_pt| ReceiveCodec { pt, codec, rtx_pt, nack: true };
    let (codecs, rids, ssrcs) = match number % 4 {
        0 => (vec![codec(111, Codec::Opus, None), codec(63, Codec::Red, None)], 0, Vec::new()),
        1 => (vec![codec(96, Codec::Vp8, Some(97))], 3, Vec::new()),
        2 => {
            let announced = (0..3).map(|layer| (u32::from(layer), Layer(layer))).map(|(number, layer)| {
                ReceiveSsrc { ssrc: 0x1000 + number, rtx_ssrc: Some(0x2000 + number), layer }
            });
            (vec![codec(125, Codec::H264, Some(107))], 0, announced.collect())
        }
        _ => (vec![codec(35, Codec::Av1, Some(36)), codec(96, Codec::Vp8, Some(97))], 0, Vec::new()),
    };
    let rids = ["q", "h", "f"].iter().zip(0..rids).map(|(rid, layer)| ((*rid).to_owned(), Layer(layer)));
    ReceiveSection {
        mid: (number % 8).to_string(),
        // The last sections carry no track.
        track: (number % 8 < 6).then_some(TrackKey(u64::from(number % 4))),
        codecs,
        extensions: EXTENSIONS,
        rids: rids.collect(),
        ssrcs,
    }
}

/// The receiving half of a publisher's connection. What is accepted belongs to a track that was described, and its payload
/// is part of the packet.
pub fn ingress<'a>(steps: impl Iterator<Item = IngressStep<'a>>) {
    #[allow(clippy::disallowed_methods, reason = "a fuzz target has no other source of time")]
    let mut now = Instant::now();
    let mut core = Core::new(1);
    let tracks = TRACKS.map(|codec| {
        let layers = if codec.kind() == Kind::Audio { LayerSet(0b1) } else { LayerSet(0b111) };
        TrackRef { id: core.add_track(0, codec.kind(), codec, layers), codec }
    });
    let resolve = |key: TrackKey| tracks.get(usize::try_from(key.0).ok()?).copied();
    let mut ingress = Ingress::new(now);
    ingress.describe(now, (0..3).map(section).collect(), resolve);
    for step in steps {
        match step {
            IngressStep::Packet(bytes) => {
                let mut arrivals = 0;
                let accepted = ingress.accept(now, bytes, |_, _| arrivals += 1);
                assert!(arrivals <= 1);
                if let Ok(accepted) = accepted {
                    assert!(tracks.iter().any(|track| track.id == accepted.track));
                    assert!(usize::from(accepted.layer.0) < Layer::MAX);
                    assert!(accepted.packet.payload.len() + 12 <= bytes.len());
                }
            }
            IngressStep::SenderReport(ssrc, ntp) => {
                ingress.sender_report(now, ssrc, ntp);
            }
            IngressStep::Describe(numbers) => {
                ingress.describe(now, numbers.iter().take(16).copied().map(section).collect(), resolve);
            }
            IngressStep::Track(key, added) => {
                let key = TrackKey(u64::from(key));
                if let Some(track) = resolve(key) {
                    if added { ingress.track_added(key, track) } else { ingress.track_removed(track.id) }
                }
            }
            IngressStep::Wait(time) => {
                now += time;
                // More streams than this are refused.
                assert!(ingress.report_blocks(now).count() <= 16 * Layer::MAX);
                let known: Vec<TrackId> = ingress.tracks().collect();
                for track in known {
                    ingress.answers_nack(track);
                    ingress.ssrc(track, Layer(0));
                }
            }
        }
    }
}
