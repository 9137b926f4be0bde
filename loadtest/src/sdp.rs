//! Reads from a subscriber offer which track each media section carries. str0m keeps the first msid of a
//! section for ever, but servers reuse sections for other tracks.

use std::collections::HashMap;

/// Track ids by mid, of sections in which the server sends.
#[must_use]
pub fn tracks_by_mid(sdp: &str) -> HashMap<String, String> {
    let mut tracks = HashMap::new();
    for section in sdp.split("\nm=").skip(1) {
        let value = |name: &str| section.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let sends = section.lines().any(|line| matches!(line.trim(), "a=sendonly" | "a=sendrecv"));
        let track = value("a=msid:").and_then(|msid| msid.split_whitespace().nth(1));
        if let (Some(mid), Some(track), true) = (value("a=mid:"), track, sends) {
            tracks.insert(mid.to_owned(), track.to_owned());
        }
    }
    tracks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sending_sections_have_their_track() {
        let sdp = "v=0\r\nm=application 9 X\r\na=mid:0\r\nm=audio 9 X 111\r\na=mid:1\r\na=sendonly\r\n\
                   a=msid:PA_x TR_a\r\nm=video 9 X 96\r\na=mid:2\r\na=inactive\r\na=msid:PA_x TR_v\r\n";
        assert_eq!(tracks_by_mid(sdp), HashMap::from([("1".to_string(), "TR_a".to_string())]));
        assert!(tracks_by_mid("").is_empty());
    }
}
