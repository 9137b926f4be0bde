#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| {
    let _ = systir_media::codec::vp9::begins_key_frame(payload);
});
