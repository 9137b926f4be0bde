//! Limits of what the body of a record, an encoded `ParticipantInfo` of another node, becomes in memory. It is counted before it
//! is decoded: an empty track of two bytes takes 300.

use systir_proto::{Malformed, fields};

use crate::error::MergeError;

/// Most tracks of one participant: twice as many as one may publish.
const MAX_TRACKS: usize = 64;
/// How many times its bytes the entries of a body may take in memory. Those of an honest node take 13 times theirs at most: an
/// attribute of one letter without a value has 5 bytes.
const MULTIPLE: usize = 16;
/// What each body may take in addition.
const SMALL: usize = 4096;

// What an entry takes in memory, without its texts.
const TRACK_BYTES: usize = 320;
const CODEC_BYTES: usize = 128;
const LAYER_BYTES: usize = 64;
const ATTRIBUTE_BYTES: usize = 64;

/// Fields of `ParticipantInfo`.
mod participant {
    pub(super) const TRACKS: u32 = 4;
    pub(super) const ATTRIBUTES: u32 = 15;
    pub(super) const DATA_TRACKS: u32 = 19;
}

/// Fields of `TrackInfo`.
mod track {
    pub(super) const LAYERS: u32 = 10;
    pub(super) const CODECS: u32 = 13;
}

/// Fields of `SimulcastCodecInfo`.
mod codec {
    pub(super) const LAYERS: u32 = 4;
}

/// Has the body few enough entries, before it is decoded?
pub(crate) fn check_entries(body: &[u8]) -> Result<(), MergeError> {
    let (tracks, memory) =
        count(body).map_err(|Malformed| MergeError::Malformed("a participant is malformed"))?;
    if tracks > MAX_TRACKS || memory > SMALL + MULTIPLE * body.len() {
        return Err(MergeError::TooManyEntries { bytes: body.len() });
    }
    Ok(())
}

/// The tracks of a body, and what all its entries take in memory.
fn count(body: &[u8]) -> Result<(usize, usize), Malformed> {
    let (mut tracks, mut memory) = (0, 0);
    for field in fields(body) {
        match field? {
            (participant::TRACKS, track) => {
                tracks += 1;
                memory += TRACK_BYTES + of_track(track)?;
            }
            (participant::DATA_TRACKS, _) => {
                tracks += 1;
                memory += TRACK_BYTES;
            }
            (participant::ATTRIBUTES, _) => memory += ATTRIBUTE_BYTES,
            _ => {}
        }
    }
    Ok((tracks, memory))
}

fn of_track(track: &[u8]) -> Result<usize, Malformed> {
    let mut memory = 0;
    for field in fields(track) {
        match field? {
            (track::LAYERS, _) => memory += LAYER_BYTES,
            (track::CODECS, codec) => memory += CODEC_BYTES + of_codec(codec)?,
            _ => {}
        }
    }
    Ok(memory)
}

fn of_codec(codec: &[u8]) -> Result<usize, Malformed> {
    let mut memory = 0;
    for field in fields(codec) {
        let (number, _) = field?;
        memory += if number == codec::LAYERS { LAYER_BYTES } else { 0 };
    }
    Ok(memory)
}

#[cfg(test)]
mod tests {
    use std::mem::size_of;

    use livekit_protocol::{
        DataTrackInfo, ParticipantInfo, SimulcastCodecInfo, TimedVersion, TrackInfo, VideoLayer,
    };
    use prost::Message as _;
    use systir_livekit::Limits;

    use super::*;

    fn checked(info: &ParticipantInfo) -> Result<(), MergeError> {
        check_entries(&info.encode_to_vec())
    }

    #[test]
    fn an_entry_counts_at_least_what_it_takes() {
        assert!(size_of::<TrackInfo>() <= TRACK_BYTES && size_of::<DataTrackInfo>() <= TRACK_BYTES);
        assert!(size_of::<SimulcastCodecInfo>() <= CODEC_BYTES && size_of::<VideoLayer>() <= LAYER_BYTES);
        assert!(size_of::<(String, String)>() <= ATTRIBUTE_BYTES);
    }

    #[test]
    fn a_participant_may_have_all_tracks_and_attributes_that_a_client_may_publish_and_set() {
        #[allow(deprecated, reason = "the layers of a track are still sent")]
        let track = |layer: VideoLayer| TrackInfo {
            sid: "TR_VC0123456789".to_owned(),
            mime_type: "video/VP8".to_owned(),
            mid: "0".to_owned(),
            layers: vec![layer.clone(); 3],
            codecs: vec![SimulcastCodecInfo { layers: vec![layer; 3], ..Default::default() }],
            version: Some(TimedVersion { unix_micro: 1_800_000_000_000_000, ticks: 0 }),
            ..Default::default()
        };
        let limits = Limits::default();
        // The least that a client may say of a layer, and more than any says.
        let short = VideoLayer { rid: "q".to_owned(), ..Default::default() };
        let long = VideoLayer { width: u32::MAX, height: u32::MAX, ..short.clone() };
        for layer in [short, long] {
            let tracks = vec![track(layer); limits.tracks];
            assert_eq!(checked(&ParticipantInfo { tracks, ..Default::default() }), Ok(()));
        }
        // As many as fit, each with one byte for its value; a token may have some without.
        let names = || (0..).map(|number: usize| format!("{number:x}"));
        let mut left = limits.attributes;
        let fits = |name: &String| {
            left = left.saturating_sub(name.len() + 1);
            left > 0
        };
        let attributes = names().take_while(fits).map(|name| (name, "1".to_owned())).collect();
        assert_eq!(checked(&ParticipantInfo { attributes, ..Default::default() }), Ok(()));
        let attributes = names().take(1_000).map(|name| (name, String::new())).collect();
        assert_eq!(checked(&ParticipantInfo { attributes, ..Default::default() }), Ok(()));
        let metadata = "x".repeat(limits.metadata);
        assert_eq!(checked(&ParticipantInfo { metadata, ..Default::default() }), Ok(()));
    }

    #[test]
    fn a_body_that_becomes_many_times_its_bytes_is_refused() {
        let refused = |info: ParticipantInfo| {
            assert!(matches!(checked(&info), Err(MergeError::TooManyEntries { .. })));
        };
        #[allow(deprecated, reason = "the layers of a track are still sent")]
        let layers = TrackInfo { layers: vec![VideoLayer::default(); 1_000], ..Default::default() };
        let codec = SimulcastCodecInfo { layers: vec![VideoLayer::default(); 1_000], ..Default::default() };
        let codecs = TrackInfo { codecs: vec![SimulcastCodecInfo::default(); 1_000], ..Default::default() };
        let of_codec = TrackInfo { codecs: vec![codec], ..Default::default() };
        for tracks in [vec![layers], vec![codecs], vec![of_codec], vec![TrackInfo::default(); 50]] {
            refused(ParticipantInfo { tracks, ..Default::default() });
        }
        // However many bytes each has.
        let long = TrackInfo { name: "x".repeat(1_000), ..Default::default() };
        refused(ParticipantInfo { tracks: vec![long; MAX_TRACKS + 1], ..Default::default() });
        let data_tracks = vec![DataTrackInfo::default(); 50];
        refused(ParticipantInfo { data_tracks, ..Default::default() });
        let attribute = [15 << 3 | 2, 0];
        let many = check_entries(&attribute.repeat(1_000));
        assert!(matches!(many, Err(MergeError::TooManyEntries { .. })), "{many:?}");
    }

    #[test]
    fn a_body_that_is_no_message_is_malformed() {
        for body in [&[0x0a, 5][..], &[0x22, 2, 0x52, 5], &[0x22, 4, 0x6a, 2, 0x22, 5]] {
            assert!(matches!(check_entries(body), Err(MergeError::Malformed(_))), "{body:?}");
        }
        assert_eq!(check_entries(&[]), Ok(()));
    }
}
