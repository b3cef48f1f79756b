//! Any bytes as a template.
#![no_main]

#[path = "../../crates/template/tests/fuzz_body.rs"]
mod fuzz_body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz_body::template(bytes));
