//! Writes RTCP: each function appends one packet to the caller's buffer. Successive calls form a compound
//! packet.

use rtcp_types::{
    Bye, Nack, PayloadFeedback, Pli, ReceiverReport, ReportBlock as Block, RtcpPacketWriter,
    RtcpPacketWriterExt, Sdes, SdesChunk, SdesItem, SenderReport, TransportFeedback,
};

use super::ReportBlock;

/// The content does not fit in one RTCP packet: over 31 report blocks, or a CNAME over 255 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too much for one RTCP packet; nothing was written, split it")]
pub struct OversizedError;

/// Appends one packet.
pub(crate) fn append(out: &mut Vec<u8>, packet: &dyn RtcpPacketWriter) -> Result<(), OversizedError> {
    let size = packet.calculate_size().map_err(|_| OversizedError)?;
    let start = out.len();
    out.resize(start + size, 0);
    let written = out.get_mut(start..).and_then(|room| Writer(packet).write_into(room).ok());
    if written == Some(size) {
        return Ok(());
    }
    out.truncate(start);
    Err(OversizedError)
}

/// Makes a trait object writable: `write_into` needs a sized type.
#[derive(Debug)]
struct Writer<'a>(&'a dyn RtcpPacketWriter);

impl RtcpPacketWriter for Writer<'_> {
    fn calculate_size(&self) -> Result<usize, rtcp_types::RtcpWriteError> {
        self.0.calculate_size()
    }

    fn write_into_unchecked(&self, buf: &mut [u8]) -> usize {
        self.0.write_into_unchecked(buf)
    }

    fn get_padding(&self) -> Option<u8> {
        self.0.get_padding()
    }
}

/// Appends a receiver report and the SDES with the CNAME that must follow it (RFC 3550 section 6.1).
///
/// # Errors
/// Over 31 blocks, or a CNAME over 255 bytes.
pub fn write_receiver_report(
    out: &mut Vec<u8>,
    ssrc: u32,
    blocks: &[ReportBlock],
    cname: &str,
) -> Result<(), OversizedError> {
    let start = out.len();
    let mut report = ReceiverReport::builder(ssrc);
    for block in blocks {
        report = report.add_report_block(
            Block::builder(block.ssrc)
                .fraction_lost(block.fraction_lost)
                .cumulative_lost(block.cumulative_lost & 0x00ff_ffff)
                .extended_sequence_number(block.extended_seq)
                .interarrival_jitter(block.jitter)
                .last_sender_report_timestamp(block.last_sr)
                .delay_since_last_sender_report_timestamp(block.delay_since_last_sr),
        );
    }
    append(out, &report)?;
    write_cname(out, ssrc, cname).inspect_err(|_| out.truncate(start))
}

/// Appends a sender report and the SDES with the CNAME. `ntp` is 32.32 fixed point.
///
/// # Errors
/// A CNAME over 255 bytes.
pub fn write_sender_report(
    out: &mut Vec<u8>,
    ssrc: u32,
    ntp: u64,
    rtp: u32,
    packets: u32,
    octets: u32,
    cname: &str,
) -> Result<(), OversizedError> {
    let start = out.len();
    let report = SenderReport::builder(ssrc)
        .ntp_timestamp(ntp)
        .rtp_timestamp(rtp)
        .packet_count(packets)
        .octet_count(octets);
    append(out, &report)?;
    write_cname(out, ssrc, cname).inspect_err(|_| out.truncate(start))
}

fn write_cname(out: &mut Vec<u8>, ssrc: u32, cname: &str) -> Result<(), OversizedError> {
    let item = SdesItem::builder(SdesItem::CNAME, cname);
    append(out, &Sdes::builder().add_chunk(SdesChunk::builder(ssrc).add_item(item)))
}

/// Appends a generic NACK.
///
/// # Errors
/// More numbers than fit in a packet.
pub fn write_nack(
    out: &mut Vec<u8>,
    sender_ssrc: u32,
    media_ssrc: u32,
    seqs: impl IntoIterator<Item = u16>,
) -> Result<(), OversizedError> {
    let nack = seqs.into_iter().fold(Nack::builder(), |nack, seq| nack.add_rtp_sequence(seq));
    append(out, &TransportFeedback::builder(&nack).sender_ssrc(sender_ssrc).media_ssrc(media_ssrc))
}

/// Appends a picture loss indication.
///
/// # Errors
/// None in practice.
pub fn write_pli(out: &mut Vec<u8>, sender_ssrc: u32, media_ssrc: u32) -> Result<(), OversizedError> {
    let pli = Pli::builder();
    append(out, &PayloadFeedback::builder(&pli).sender_ssrc(sender_ssrc).media_ssrc(media_ssrc))
}

/// Appends a BYE for a stream of ours.
///
/// # Errors
/// None in practice.
pub fn write_bye(out: &mut Vec<u8>, ssrc: u32) -> Result<(), OversizedError> {
    append(out, &Bye::builder().add_source(ssrc))
}
