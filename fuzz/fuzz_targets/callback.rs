//! Any bytes as a request to the callback URL.
#![no_main]

#[path = "../../functions/web/tests/fuzz_body.rs"]
mod fuzz_body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz_body::callback(bytes));
