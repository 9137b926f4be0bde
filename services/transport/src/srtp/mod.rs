//! SRTP and SRTCP (RFC 3711, 7714): seals and opens packets in place, in the caller's buffers. Keys come
//! from the DTLS handshake (RFC 5764 section 4.2).

use rustc_hash::FxHashMap;

use crate::{OpenError, SealError, replay, replay::Window};

mod cm;
mod gcm;
mod kdf;
mod reseal;

use cm::CmKey;
use gcm::GcmKey;
use kdf::Label;
use reseal::SealedPackets;

/// SRTP protection profiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SrtpProfile {
    /// AEAD_AES_128_GCM (RFC 7714).
    Aes128Gcm,
    /// AEAD_AES_256_GCM (RFC 7714).
    Aes256Gcm,
    /// AES_CM_128_HMAC_SHA1_80 (RFC 3711).
    Aes128CmSha1,
}

impl SrtpProfile {
    fn key_len(self) -> usize {
        if self == Self::Aes256Gcm { 32 } else { 16 }
    }

    fn salt_len(self) -> usize {
        if self == Self::Aes128CmSha1 { 14 } else { 12 }
    }
}

/// SSRCs that one peer may send on. More are refused: to evict the replay window of one would allow
/// replays of its old packets.
const MAX_RECEIVED: usize = 1024;
/// SSRCs that we may send on under one key, ended ones included. None is forgotten either: an SSRC that
/// starts again would reuse nonces.
const MAX_SENT: usize = 65_536;

/// The bit of the SRTCP index word that marks an encrypted packet (RFC 3711 section 3.4).
const E_FLAG: u32 = 1 << 31;
const RTP_HEADER: usize = 12;
const RTCP_HEADER: usize = 8;

enum Keys {
    Gcm { rtp: GcmKey, rtcp: GcmKey },
    Cm { rtp: CmKey, rtcp: CmKey },
}

impl Keys {
    fn derive(profile: SrtpProfile, key: &[u8], salt: &[u8]) -> Option<Self> {
        Some(match profile {
            SrtpProfile::Aes128Gcm | SrtpProfile::Aes256Gcm => Self::Gcm {
                rtp: GcmKey::derive(key, salt, Label::RtpKey, Label::RtpSalt)?,
                rtcp: GcmKey::derive(key, salt, Label::RtcpKey, Label::RtcpSalt)?,
            },
            SrtpProfile::Aes128CmSha1 => Self::Cm {
                rtp: CmKey::derive(key, salt, [Label::RtpKey, Label::RtpAuth, Label::RtpSalt])?,
                rtcp: CmKey::derive(key, salt, [Label::RtcpKey, Label::RtcpAuth, Label::RtcpSalt])?,
            },
        })
    }
}

impl Keys {
    fn seal_rtp(
        &self,
        header: &RtpHeader,
        index: u64,
        out: &mut Vec<u8>,
        start: usize,
    ) -> Result<(), SealError> {
        let packet = out.get_mut(start..).ok_or(SealError::Malformed)?;
        let (aad, payload) = packet.split_at_mut_checked(header.len).ok_or(SealError::Malformed)?;
        match self {
            Self::Gcm { rtp, .. } => {
                let tag = rtp.seal(header.ssrc, index, aad, payload).ok_or(SealError::Exhausted)?;
                out.extend_from_slice(&tag);
            }
            Self::Cm { rtp, .. } => {
                rtp.apply(header.ssrc, index, payload).ok_or(SealError::Exhausted)?;
                let tag = rtp.tag(packet, Some((index >> 16) as u32));
                out.extend_from_slice(&tag);
            }
        }
        Ok(())
    }
}

/// Both directions of one transport.
pub(crate) struct Srtp {
    pub(crate) sender: SrtpSender,
    pub(crate) receiver: SrtpReceiver,
}

impl Srtp {
    /// Derives the session keys from the DTLS keying material: client key, server key, client salt,
    /// server salt.
    pub(crate) fn new(profile: SrtpProfile, material: &[u8], we_are_client: bool) -> Option<Self> {
        let (client_key, rest) = material.split_at_checked(profile.key_len())?;
        let (server_key, rest) = rest.split_at_checked(profile.key_len())?;
        let (client_salt, rest) = rest.split_at_checked(profile.salt_len())?;
        let server_salt = rest.get(..profile.salt_len())?;
        let client = Keys::derive(profile, client_key, client_salt)?;
        let server = Keys::derive(profile, server_key, server_salt)?;
        let (ours, theirs) = if we_are_client { (client, server) } else { (server, client) };
        Some(Self { sender: SrtpSender::new(ours), receiver: SrtpReceiver::new(theirs) })
    }
}

/// An outgoing stream.
struct SentStream {
    ssrc: u32,
    window: Window,
    /// For streams whose packets can be sealed again.
    sealed: SealedPackets,
}

/// The sending direction.
pub(crate) struct SrtpSender {
    keys: Keys,
    streams: Vec<SentStream>,
    /// The place of each SSRC in `streams`.
    places: FxHashMap<u32, usize>,
    /// The place of the stream that a packet was sealed for last.
    recent: usize,
    /// The highest index of each SSRC whose stream has ended.
    ended: FxHashMap<u32, u64>,
    /// SSRCs under this key, ended ones included.
    known: usize,
    rtcp_index: u32,
}

impl SrtpSender {
    fn new(keys: Keys) -> Self {
        Self {
            keys,
            streams: Vec::new(),
            places: FxHashMap::default(),
            recent: 0,
            ended: FxHashMap::default(),
            known: 0,
            rtcp_index: 0,
        }
    }

    /// Seals the RTP packet `out[start..]` in place and appends the tag.
    pub(crate) fn seal_rtp(&mut self, out: &mut Vec<u8>, start: usize) -> Result<(), SealError> {
        self.seal_new(out, start).map(|_| ())
    }

    /// As [`SrtpSender::seal_rtp`], for a stream whose packets can be sealed again.
    pub(crate) fn seal_rtp_resendable(&mut self, out: &mut Vec<u8>, start: usize) -> Result<(), SealError> {
        let (place, index) = self.seal_new(out, start)?;
        if let Some(stream) = self.streams.get_mut(place) {
            stream.sealed.record(index, out.get(start..).unwrap_or_default());
        }
        Ok(())
    }

    /// Seals again a packet that [`SrtpSender::seal_rtp_resendable`] sealed.
    pub(crate) fn reseal_rtp(&mut self, out: &mut Vec<u8>, start: usize) -> Result<(), SealError> {
        let header = RtpHeader::parse(out.get(start..).unwrap_or_default()).ok_or(SealError::Malformed)?;
        let place = self.place(header.ssrc).ok_or(SealError::Repeated)?;
        let stream = self.streams.get(place).ok_or(SealError::Repeated)?;
        let index = replay::index(stream.window.highest(), header.seq).ok_or(SealError::Repeated)?;
        self.keys.seal_rtp(&header, index, out, start)?;
        if !stream.sealed.is_same(index, out.get(start..).unwrap_or_default()) {
            out.truncate(start);
            return Err(SealError::Repeated);
        }
        Ok(())
    }

    /// Ends a stream: only its highest index is kept, so that its SSRC reuses no nonce if it starts again.
    pub(crate) fn end_stream(&mut self, ssrc: u32) {
        let Some(place) = self.places.remove(&ssrc).filter(|place| *place < self.streams.len()) else {
            return;
        };
        let stream = self.streams.swap_remove(place);
        if let Some(moved) = self.streams.get(place) {
            self.places.insert(moved.ssrc, place);
        }
        if let Some(highest) = stream.window.highest() {
            self.ended.insert(ssrc, highest);
        }
    }

    /// The place of a known stream.
    fn place(&mut self, ssrc: u32) -> Option<usize> {
        if self.streams.get(self.recent).is_none_or(|stream| stream.ssrc != ssrc) {
            self.recent = *self.places.get(&ssrc)?;
        }
        Some(self.recent)
    }

    /// Adds a stream, or one that ended and starts again.
    fn add_stream(&mut self, ssrc: u32) -> Result<usize, SealError> {
        let window = match self.ended.remove(&ssrc) {
            Some(highest) => Window::seen_up_to(highest),
            None if self.known < MAX_SENT => {
                self.known += 1;
                Window::default()
            }
            None => return Err(SealError::Exhausted),
        };
        let place = self.streams.len();
        self.streams.push(SentStream { ssrc, window, sealed: SealedPackets::default() });
        self.places.insert(ssrc, place);
        Ok(place)
    }

    /// Seals a packet for the first time; returns the place of its stream and its index.
    fn seal_new(&mut self, out: &mut Vec<u8>, start: usize) -> Result<(usize, u64), SealError> {
        let header = RtpHeader::parse(out.get(start..).unwrap_or_default()).ok_or(SealError::Malformed)?;
        let place = match self.place(header.ssrc) {
            Some(place) => place,
            None => self.add_stream(header.ssrc)?,
        };
        let stream = self.streams.get_mut(place).ok_or(SealError::Exhausted)?;
        let index = replay::index(stream.window.highest(), header.seq).ok_or(SealError::Repeated)?;
        if !stream.window.is_fresh(index) {
            return Err(SealError::Repeated);
        }
        stream.window.mark(index);
        self.keys.seal_rtp(&header, index, out, start)?;
        Ok((place, index))
    }

    /// Seals the compound RTCP packet `out[start..]` in place, appends index and tag.
    pub(crate) fn seal_rtcp(&mut self, out: &mut Vec<u8>, start: usize) -> Result<(), SealError> {
        let packet = out.get_mut(start..).ok_or(SealError::Malformed)?;
        let ssrc = rtcp_ssrc(packet).ok_or(SealError::Malformed)?;
        // One counter for all SSRCs, so that no index repeats under the key (RFC 3711 section 9.1).
        let index = self.rtcp_index + 1;
        if index >= E_FLAG {
            return Err(SealError::Exhausted);
        }
        self.rtcp_index = index;
        let trailer = (E_FLAG | index).to_be_bytes();
        let (header, payload) = packet.split_at_mut_checked(RTCP_HEADER).ok_or(SealError::Malformed)?;
        match &self.keys {
            Keys::Gcm { rtcp, .. } => {
                let aad = rtcp_aad(header, trailer);
                let tag = rtcp.seal(ssrc, u64::from(index), &aad, payload).ok_or(SealError::Exhausted)?;
                out.extend_from_slice(&tag);
                out.extend_from_slice(&trailer);
            }
            Keys::Cm { rtcp, .. } => {
                rtcp.apply(ssrc, u64::from(index), payload).ok_or(SealError::Exhausted)?;
                out.extend_from_slice(&trailer);
                let tag = rtcp.tag(out.get(start..).ok_or(SealError::Malformed)?, None);
                out.extend_from_slice(&tag);
            }
        }
        Ok(())
    }
}

/// The receiving direction: the replay windows by SSRC.
pub(crate) struct SrtpReceiver {
    keys: Keys,
    rtp: FxHashMap<u32, Window>,
    rtcp: FxHashMap<u32, Window>,
}

impl SrtpReceiver {
    fn new(keys: Keys) -> Self {
        Self { keys, rtp: FxHashMap::default(), rtcp: FxHashMap::default() }
    }

    /// Opens an SRTP packet in place and returns the plain packet.
    pub(crate) fn open_rtp<'a>(&mut self, datagram: &'a mut [u8]) -> Result<&'a mut [u8], OpenError> {
        let header = RtpHeader::parse(datagram).ok_or(OpenError::Malformed)?;
        let known = self.rtp.get_mut(&header.ssrc);
        let highest = known.as_ref().and_then(|window| window.highest());
        let index = replay::index(highest, header.seq).ok_or(OpenError::Replayed)?;
        if known.as_ref().is_some_and(|window| !window.is_fresh(index)) {
            return Err(OpenError::Replayed);
        }
        let len = match &self.keys {
            Keys::Gcm { rtp, .. } => {
                let (aad, data) = datagram.split_at_mut_checked(header.len).ok_or(OpenError::Malformed)?;
                let len = header.len + data.len().checked_sub(gcm::TAG).ok_or(OpenError::Malformed)?;
                rtp.open(header.ssrc, index, aad, data).ok_or(OpenError::Forged)?;
                len
            }
            Keys::Cm { rtp, .. } => {
                let len = datagram.len().checked_sub(cm::TAG).ok_or(OpenError::Malformed)?;
                let (packet, tag) = datagram.split_at_mut_checked(len).ok_or(OpenError::Malformed)?;
                let payload = packet.get(header.len..).ok_or(OpenError::Malformed)?.len();
                if !rtp.verify(packet, Some((index >> 16) as u32), tag) {
                    return Err(OpenError::Forged);
                }
                let payload = packet.get_mut(len - payload..).ok_or(OpenError::Malformed)?;
                rtp.apply(header.ssrc, index, payload).ok_or(OpenError::Forged)?;
                len
            }
        };
        match known {
            Some(window) => window.mark(index),
            None => add_stream(&mut self.rtp, header.ssrc, index)?,
        }
        datagram.get_mut(..len).ok_or(OpenError::Malformed)
    }

    /// Opens an SRTCP packet in place and returns the plain compound packet.
    pub(crate) fn open_rtcp<'a>(&mut self, datagram: &'a mut [u8]) -> Result<&'a mut [u8], OpenError> {
        let ssrc = rtcp_ssrc(datagram).ok_or(OpenError::Malformed)?;
        let tag_behind = match &self.keys {
            Keys::Gcm { .. } => 0,
            Keys::Cm { .. } => cm::TAG,
        };
        let trailer_at = datagram.len().checked_sub(tag_behind + 4).ok_or(OpenError::Malformed)?;
        let trailer: [u8; 4] = datagram
            .get(trailer_at..trailer_at + 4)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(OpenError::Malformed)?;
        let word = u32::from_be_bytes(trailer);
        // Unencrypted SRTCP is not negotiated.
        if word & E_FLAG == 0 {
            return Err(OpenError::Malformed);
        }
        let index = u64::from(word & !E_FLAG);
        if self.rtcp.get(&ssrc).is_some_and(|window| !window.is_fresh(index)) {
            return Err(OpenError::Replayed);
        }
        let len = match &self.keys {
            Keys::Gcm { rtcp, .. } => {
                let len = trailer_at
                    .checked_sub(gcm::TAG)
                    .filter(|len| *len >= RTCP_HEADER)
                    .ok_or(OpenError::Malformed)?;
                let body = datagram.get_mut(..trailer_at).ok_or(OpenError::Malformed)?;
                let (header, data) = body.split_at_mut_checked(RTCP_HEADER).ok_or(OpenError::Malformed)?;
                rtcp.open(ssrc, index, &rtcp_aad(header, trailer), data).ok_or(OpenError::Forged)?;
                len
            }
            Keys::Cm { rtcp, .. } => {
                let (packet, tag) =
                    datagram.split_at_mut_checked(trailer_at + 4).ok_or(OpenError::Malformed)?;
                if !rtcp.verify(packet, None, tag) {
                    return Err(OpenError::Forged);
                }
                let payload = packet.get_mut(RTCP_HEADER..trailer_at).ok_or(OpenError::Malformed)?;
                rtcp.apply(ssrc, index, payload).ok_or(OpenError::Forged)?;
                trailer_at
            }
        };
        match self.rtcp.get_mut(&ssrc) {
            Some(window) => window.mark(index),
            None => add_stream(&mut self.rtcp, ssrc, index)?,
        }
        datagram.get_mut(..len).ok_or(OpenError::Malformed)
    }
}

/// Adds an SSRC with its first authenticated packet.
fn add_stream(streams: &mut FxHashMap<u32, Window>, ssrc: u32, index: u64) -> Result<(), OpenError> {
    if streams.len() >= MAX_RECEIVED {
        return Err(OpenError::TooManySsrcs);
    }
    streams.entry(ssrc).or_default().mark(index);
    Ok(())
}

/// The additional authenticated data of SRTCP: header and index word (RFC 7714 section 9.2).
fn rtcp_aad(header: &[u8], trailer: [u8; 4]) -> [u8; RTCP_HEADER + 4] {
    let mut aad = [0; RTCP_HEADER + 4];
    aad.iter_mut().zip(header.iter().chain(&trailer)).for_each(|(to, from)| *to = *from);
    aad
}

fn rtcp_ssrc(packet: &[u8]) -> Option<u32> {
    match packet {
        [128..=191, _, _, _, a, b, c, d, ..] => Some(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => None,
    }
}

/// The fields of an RTP header that SRTP needs (RFC 3550 section 5.1).
struct RtpHeader {
    seq: u16,
    ssrc: u32,
    /// Length with CSRCs and extension, in bytes; the header is not encrypted.
    len: usize,
}

impl RtpHeader {
    fn parse(packet: &[u8]) -> Option<Self> {
        let [first, _, seq_high, seq_low, _, _, _, _, a, b, c, d] = *packet.first_chunk::<RTP_HEADER>()?;
        if first >> 6 != 2 {
            return None;
        }
        let mut len = RTP_HEADER + 4 * usize::from(first & 0x0f);
        if first & 0x10 != 0 {
            let words = packet.get(len + 2..len + 4)?;
            len += 4 + 4 * usize::from(u16::from_be_bytes(words.try_into().ok()?));
        }
        (packet.len() >= len).then_some(Self {
            seq: u16::from_be_bytes([seq_high, seq_low]),
            ssrc: u32::from_be_bytes([a, b, c, d]),
            len,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
