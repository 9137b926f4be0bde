//! AV1: the mandatory fields of the dependency descriptor (AV1 RTP payload format, appendix A.8) and the
//! aggregation header (section 4.4).

/// Does this packet start a key frame? With a dependency descriptor: it carries a template structure.
/// Without one: the N bit of the aggregation header marks the start of a coded video sequence.
#[must_use]
pub fn begins_key_frame(dependency: Option<&[u8]>, payload: &[u8]) -> bool {
    match dependency {
        Some([first, _, _, fourth, ..]) => first & 0x80 != 0 && fourth & 0x80 != 0,
        Some(_) => false,
        None => payload.first().is_some_and(|header| header & 0x88 == 0x08),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_template_structure_marks_a_key_frame_and_overrides_the_aggregation_header() {
        assert!(begins_key_frame(Some(&[0x80, 0, 1, 0x80, 0]), &[0]));
        assert!(!begins_key_frame(Some(&[0x00, 0, 1, 0x80, 0]), &[0x08]));
        assert!(!begins_key_frame(Some(&[0x80, 0, 1]), &[0x08]));
        assert!(begins_key_frame(None, &[0x08]));
        assert!(!begins_key_frame(None, &[0x88]));
    }

    proptest! {
        #[test]
        fn arbitrary_packets_do_not_panic(
            dependency in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..8)),
            payload in proptest::collection::vec(any::<u8>(), 0..4),
        ) {
            let _ = begins_key_frame(dependency.as_deref(), &payload);
        }
    }
}
