#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some(promise) = authferry::promises::named("directory_answer") {
        promise(bytes);
    }
});
