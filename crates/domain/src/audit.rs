//! What is recorded of acts that are nobody's step: who did what to an environment, when and why.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::deployment::Requester;
use crate::lease::Holder;

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// The lease was taken away by force.
    Unlocked {
        /// From whom, if it is known.
        holder: Option<Holder>,
        /// Its fence.
        fence: u64,
    },
}

/// One act. It is written before it is done, once, and never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// What.
    pub act: Act,
    /// By whom.
    pub by: Requester,
    /// Why, in that person's words.
    pub reason: Option<String>,
    /// When.
    pub at: Timestamp,
}
