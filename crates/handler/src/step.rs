//! What the steps of the state machines answer.

use serde::Serialize;

/// A step is done; what it did is in the deployment's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Done {}

/// A step looked at something that takes its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Polled<S> {
    /// What it saw.
    pub state: S,
    /// How many seconds to wait before the next look; 0 when there is nothing to wait for.
    pub wait: u32,
}
