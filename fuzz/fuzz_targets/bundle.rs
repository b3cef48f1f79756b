//! Any bytes as a bundle.
#![no_main]

#[path = "../../crates/bundle/tests/fuzz_body.rs"]
mod fuzz_body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz_body::bundle(bytes));
