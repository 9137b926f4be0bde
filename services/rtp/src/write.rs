//! Writes RTP headers with extensions.

use crate::packet::Extensions;

/// Fields of an RTP header, without extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderFields {
    /// Payload type, 7 bits.
    pub payload_type: u8,
    /// Marker bit.
    pub marker: bool,
    /// Sequence number.
    pub seq: u16,
    /// Timestamp in the codec's clock.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
}

/// Extension ids of one connection (RFC 8285, 1 to 255); none: not negotiated, so not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExtensionIds {
    /// RFC 6464.
    pub audio_level: Option<u8>,
    /// abs-capture-time.
    pub capture_time: Option<u8>,
    /// Video orientation.
    pub orientation: Option<u8>,
    /// AV1 dependency descriptor.
    pub dependency: Option<u8>,
    /// Playout delay.
    pub playout_delay: Option<u8>,
}

impl ExtensionIds {
    /// The ids that links use (see [`Extensions`]).
    pub const CANONICAL: Self = Self {
        audio_level: Some(1),
        capture_time: Some(2),
        orientation: Some(3),
        dependency: Some(4),
        playout_delay: Some(5),
    };
}

/// Appends an RTP header: first the elements in `extra`, which belong to this hop (mid, transport-wide
/// sequence number), then those of `ext` that have an id. The one-byte form is used if all elements fit.
/// An element with id 0 or more than 255 bytes is left out.
pub fn write_header(
    out: &mut Vec<u8>,
    fields: &HeaderFields,
    ids: &ExtensionIds,
    ext: &Extensions<'_>,
    extra: &[(u8, &[u8])],
) {
    write(out, fields, ids, ext, extra, false);
}

/// As [`write_header`]; `two_byte` forces the two-byte form.
pub(super) fn write(
    out: &mut Vec<u8>,
    fields: &HeaderFields,
    ids: &ExtensionIds,
    ext: &Extensions<'_>,
    extra: &[(u8, &[u8])],
    two_byte: bool,
) {
    let start = out.len();
    let [s0, s1] = fields.seq.to_be_bytes();
    let [t0, t1, t2, t3] = fields.timestamp.to_be_bytes();
    let [c0, c1, c2, c3] = fields.ssrc.to_be_bytes();
    let second = u8::from(fields.marker) << 7 | fields.payload_type & 0x7F;
    // The last four bytes are the form and the length of the extensions.
    out.extend_from_slice(&[0x80, second, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3, 0xBE, 0xDE, 0, 0]);
    let block = out.len();

    let audio_level = ext.audio_level.map(|audio| [u8::from(audio.voice) << 7 | audio.level & 0x7F]);
    let orientation = ext.orientation.map(|byte| [byte]);
    let canonical: [(Option<u8>, Option<&[u8]>); 5] = [
        (ids.audio_level, audio_level.as_ref().map(|value| value.as_slice())),
        (ids.capture_time, ext.capture_time),
        (ids.orientation, orientation.as_ref().map(|value| value.as_slice())),
        (ids.dependency, ext.dependency),
        (ids.playout_delay, ext.playout_delay.as_ref().map(|value| value.as_slice())),
    ];
    let elements = || {
        let canonical = canonical.iter().filter_map(|(id, value)| Some(((*id)?, (*value)?)));
        extra.iter().copied().chain(canonical).filter(|(id, value)| *id != 0 && value.len() <= 255)
    };
    // Nearly all elements fit the one-byte form.
    let mut two_byte = two_byte;
    if !two_byte {
        for (id, value) in elements() {
            two_byte = id > 14 || value.is_empty() || value.len() > 16;
            if two_byte {
                out.truncate(block);
                break;
            }
            out.push(id << 4 | (value.len() - 1) as u8);
            out.extend_from_slice(value);
        }
    }
    if two_byte {
        for (id, value) in elements() {
            out.extend_from_slice(&[id, value.len() as u8]);
            out.extend_from_slice(value);
        }
    }
    if out.len() == block {
        out.truncate(block - 4);
        return;
    }
    while !(out.len() - block).is_multiple_of(4) {
        out.push(0);
    }
    let [l0, l1] = (((out.len() - block) / 4) as u16).to_be_bytes();
    if let Some(form) = out.get_mut(block - 4..block) {
        form.copy_from_slice(&if two_byte { [0x10, 0x00, l0, l1] } else { [0xBE, 0xDE, l0, l1] });
    }
    if let Some(first) = out.get_mut(start) {
        *first |= 0x10;
    }
}
