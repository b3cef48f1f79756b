//! What `web` makes of what a stranger sends: pure, so that it can be tested, and fuzzed, without anything around it.

pub mod request;
pub mod session;
