#![no_main]
use libfuzzer_sys::fuzz_target;
use systir_media::rtp::RtpHeader;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(header) = RtpHeader::parse(bytes) {
        assert_eq!(header.header_len + header.payload.len() + usize::from(header.padding), bytes.len());
        let total: usize = header.extensions().map(|(_, value)| value.len()).sum();
        assert!(total <= header.extension.len());
    }
});
