//! Where Slipway touches AWS: the few things that its rules need, each as one plain call.
//!
//! Nothing here decides. Time and names are passed in; the environment is read in `crates/handler`.

mod error;

pub mod announcements;
pub mod bucket;
pub mod functions;
pub mod machines;
pub mod parameters;
pub mod secrets;
pub mod store;
pub mod target;

pub use error::{AwsError, Kind};
