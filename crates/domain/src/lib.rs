//! The rules of Slipway: pure functions over types that cannot hold an illegal value.
//!
//! Nothing here talks to AWS, reads a clock or an environment variable, or does any I/O: time is passed in, and the
//! crates around this one fetch what a rule looks at and carry out what it decides.

pub mod admission;
pub mod announcement;
pub mod approval;
pub mod approver;
pub mod audit;
pub mod branch;
pub mod cause;
pub mod change_set;
pub mod claims;
pub mod deployment;
pub mod entrance;
pub mod environment;
pub mod error_name;
pub mod expiry;
pub mod garbage;
pub mod gitlab_note;
pub mod lease;
pub mod names;
pub mod protocol;
pub mod registry;
pub mod release;
pub mod repair;
pub mod review;
pub mod session_policy;
pub mod stack_change;
pub mod stack_status;
pub mod stages;
pub mod sweep;
pub mod teardown;
pub mod waiting;

pub use error_name::ErrorName;
