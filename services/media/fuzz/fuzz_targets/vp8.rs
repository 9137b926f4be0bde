#![no_main]
use libfuzzer_sys::fuzz_target;
use systir_media::codec::vp8::{Descriptor, MAX_LEN};

fuzz_target!(|payload: &[u8]| {
    if let Some(descriptor) = Descriptor::parse(payload) {
        assert!(descriptor.len() < payload.len());
        let _ = descriptor.begins_key_frame(payload);
        let mut out = [0; MAX_LEN];
        let len = descriptor.write(0x1234, 5, 6, &mut out);
        assert!(len >= descriptor.len());
    }
});
