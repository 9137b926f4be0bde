#![no_main]
use libfuzzer_sys::fuzz_target;
use systir_media::codec::av1::begins_key_frame;

fuzz_target!(|input: (Option<&[u8]>, &[u8])| {
    let _ = begins_key_frame(input.0, input.1);
});
