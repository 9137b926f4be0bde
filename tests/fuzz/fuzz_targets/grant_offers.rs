#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| systir_fuzz::grants::offers(bytes));
