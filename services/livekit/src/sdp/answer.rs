//! Our answer to a client's offer: ICE-lite, usually DTLS server, one bundle, and the client's own payload
//! types and extension ids.

use sdp_types::Media;
use systir_rtp::packet::{Codec, Kind};

use super::codecs;
use super::description::Setup;
use super::extensions;
use super::offer::Offer;
use super::section::{Section, SectionKind};
use super::write::{data_channel, flag, media, session, text, transport, value};
use super::{LocalTransport, Origin};
use systir_media_control::{ReceiveCodec, ReceiveExtensions, ReceiveSection, TrackKey};

/// How one m-line on which the client sends is received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiveOptions {
    /// The track that it carries; `None` when the track is not announced yet.
    pub track: Option<TrackKey>,
    /// The codec to put first.
    pub codec: Option<Codec>,
    /// May RED be used?
    pub red: bool,
    /// Does the client send stereo (`TF_STEREO`)?
    pub stereo: bool,
    /// May Opus use DTX, and send nothing during silence?
    pub dtx: bool,
}

/// The answer, and how the worker receives its m-lines.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The text.
    pub sdp: String,
    /// The m-lines on which the client sends.
    pub receive: Vec<ReceiveSection>,
}

impl Offer {
    /// Our answer. `options` decides how an m-line is received on which the client sends; an m-line for which
    /// it returns `None` is inactive in the answer.
    #[must_use]
    pub fn answer(
        &self,
        host: LocalTransport<'_>,
        origin: Origin,
        options: impl Fn(&Section) -> Option<ReceiveOptions>,
    ) -> Answer {
        let usable = |section: &Section| self.usable(section);
        let mids: Vec<&str> = self
            .sections()
            .iter()
            .filter(|section| usable(section) && !has_no_codec(section))
            .map(|section| section.mid.as_str())
            .collect();
        // Without a bundle in the offer there is none in the answer, and only one m-line is in use.
        let bundle = if self.description.bundle.is_empty() { &[][..] } else { &mids[..] };
        let mut session = session(origin, bundle, self.description.mixed_extensions);
        // We are the DTLS server, unless the client insists on being it.
        let setup = if self.description.setup == Setup::Passive { "active" } else { "passive" };
        let mut receive = Vec::new();
        let mut candidates_written = false;

        for section in self.sections() {
            if !usable(section) || has_no_codec(section) {
                session.medias.push(rejected(section));
                continue;
            }
            let mut line = match section.kind {
                SectionKind::Media(kind) => {
                    let options = self.sends(section).then(|| options(section)).flatten();
                    media_line(section, kind, options, &mut receive)
                }
                SectionKind::Data | SectionKind::Other => {
                    let mut line = media(&section.media, 9, &section.proto, section.fmt.clone());
                    line.attributes.push(value("mid", section.mid.as_str()));
                    data_channel(&mut line);
                    line
                }
            };
            transport(&mut line, host, setup, !candidates_written);
            candidates_written = true;
            session.medias.push(line);
        }
        Answer { sdp: text(&session), receive }
    }
}

/// An m-line without a supported codec is rejected, because an answer needs at least one format.
fn has_no_codec(section: &Section) -> bool {
    matches!(section.kind, SectionKind::Media(_)) && section.receive_codecs(None, false).is_empty()
}

fn rejected(section: &Section) -> Media {
    let mut line = media(&section.media, 0, &section.proto, section.fmt.clone());
    if !section.mid.starts_with('#') {
        line.attributes.push(value("mid", section.mid.as_str()));
    }
    line.attributes.push(flag("inactive"));
    line
}

fn media_line(
    section: &Section,
    kind: Kind,
    options: Option<ReceiveOptions>,
    receive: &mut Vec<ReceiveSection>,
) -> Media {
    let accepted =
        section.receive_codecs(options.and_then(|one| one.codec), options.is_some_and(|one| one.red));
    let mut formats = Vec::new();
    for codec in &accepted {
        formats.push(codec.pt.to_string());
        formats.extend(codec.rtx_pt.map(|pt| pt.to_string()));
    }
    let mut line = media(&section.media, 9, &section.proto, formats.join(" "));
    line.attributes.push(value("mid", section.mid.as_str()));

    let mut ids = ReceiveExtensions::default();
    for (id, uri) in &section.extensions {
        if extensions::store_id(&mut ids, *id, uri) {
            line.attributes.push(value("extmap", format!("{id} {uri}")));
        }
    }
    line.attributes.push(flag(if options.is_some() { "recvonly" } else { "inactive" }));
    line.attributes.push(flag("rtcp-mux"));
    if section.reduced_size {
        line.attributes.push(flag("rtcp-rsize"));
    }
    for codec in &accepted {
        codec_lines(&mut line, section, kind, *codec, options);
    }

    let Some(options) = options else { return line };
    let rids = section.rid_layers();
    if rids.len() > 1 {
        for (rid, _) in &rids {
            line.attributes.push(value("rid", format!("{rid} recv")));
        }
        let list: Vec<&str> = rids.iter().map(|(rid, _)| rid.as_str()).collect();
        line.attributes.push(value("simulcast", format!("recv {}", list.join(";"))));
    }
    receive.push(ReceiveSection {
        mid: section.mid.clone(),
        track: options.track,
        codecs: accepted,
        extensions: ids,
        rids,
        ssrcs: section.receive_ssrcs(),
    });
    line
}

fn codec_lines(
    line: &mut Media,
    section: &Section,
    kind: Kind,
    codec: ReceiveCodec,
    options: Option<ReceiveOptions>,
) {
    let Some(offered) = section.codecs.iter().find(|one| one.pt == codec.pt) else { return };
    let pt = codec.pt;
    line.attributes.push(value("rtpmap", format!("{pt} {}", codecs::rtpmap(codec.codec))));
    for feedback in codecs::feedback(kind) {
        if codec.codec != Codec::Red && offered.feedback.contains(feedback) {
            line.attributes.push(value("rtcp-fb", format!("{pt} {feedback}")));
        }
    }
    let fmtp = match codec.codec {
        Codec::Opus => opus_fmtp(options),
        _ => offered.fmtp.clone(),
    };
    if !fmtp.is_empty() {
        line.attributes.push(value("fmtp", format!("{pt} {fmtp}")));
    }
    if let Some(rtx) = codec.rtx_pt {
        line.attributes.push(value("rtpmap", format!("{rtx} rtx/90000")));
        line.attributes.push(value("fmtp", format!("{rtx} apt={pt}")));
    }
}

/// The fmtp of the answer selects what the client sends.
fn opus_fmtp(options: Option<ReceiveOptions>) -> String {
    let mut fmtp = String::from("minptime=10;useinbandfec=1");
    if options.is_none_or(|one| one.dtx) {
        fmtp.push_str(";usedtx=1");
    }
    if options.is_some_and(|one| one.stereo) {
        fmtp.push_str(";stereo=1;maxaveragebitrate=510000");
    }
    fmtp
}
