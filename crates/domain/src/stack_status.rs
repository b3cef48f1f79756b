//! What each CloudFormation stack status means to a deployment, a teardown, a repair and a wait.
//!
//! The statuses and which operations they admit:
//! <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/view-stack-events.html>.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A status that this version of Slipway does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("CloudFormation reports the stack status {0}, which this version of Slipway does not know")]
pub struct UnknownStatus(String);

/// What a new deployment does with a stack in some status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// There is no stack yet: a CREATE change set.
    Create,
    /// There is one: an UPDATE change set.
    Update,
    /// Something is going on: wait.
    Busy,
    /// The first create failed and nothing lives: delete it, then create. Only in an ephemeral stage.
    Recreate,
    /// A person has to repair it.
    Repair,
}

/// Where an operation that we started stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Still going on.
    Running,
    /// Ended as asked.
    Succeeded,
    /// Ended otherwise.
    Failed,
}

macro_rules! statuses {
    ($($name:ident, $text:literal, $entry:ident, $deploy:ident, $delete:ident, $repair:ident;)*) => {
        /// A stack's status.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum StackStatus {
            $(#[doc = $text] #[serde(rename = $text)] $name,)*
        }

        impl StackStatus {
            /// Every status.
            pub const ALL: &'static [StackStatus] = &[$(StackStatus::$name,)*];

            /// Reads a status as CloudFormation spells it.
            ///
            /// # Errors
            /// [`UnknownStatus`]: a wait must not go round for ever on what it does not understand.
            pub fn parse(text: &str) -> Result<Self, UnknownStatus> {
                match text {
                    $($text => Ok(StackStatus::$name),)*
                    _ => Err(UnknownStatus(text.to_owned())),
                }
            }

            /// As CloudFormation spells it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(StackStatus::$name => $text,)*
                }
            }

            fn entry_when_ephemeral(self) -> Entry {
                match self {
                    $(StackStatus::$name => Entry::$entry,)*
                }
            }

            /// Where the execution of a change set stands.
            #[must_use]
            pub fn deploying(self) -> Progress {
                match self {
                    $(StackStatus::$name => Progress::$deploy,)*
                }
            }

            /// Where a deletion stands.
            #[must_use]
            pub fn deleting(self) -> Progress {
                match self {
                    $(StackStatus::$name => Progress::$delete,)*
                }
            }

            /// Where a rollback that goes on stands.
            #[must_use]
            pub fn repairing(self) -> Progress {
                match self {
                    $(StackStatus::$name => Progress::$repair,)*
                }
            }
        }
    };
}

// One row a status: what a new deployment does, where an executed change set stands, where a deletion stands, where a
// rollback that goes on stands.
// A cleanup still belongs to the update: outputs and the old resources settle only when it ends.
statuses! {
    CreateInProgress, "CREATE_IN_PROGRESS", Busy, Running, Failed, Failed;
    CreateFailed, "CREATE_FAILED", Recreate, Failed, Failed, Failed;
    CreateComplete, "CREATE_COMPLETE", Update, Succeeded, Failed, Failed;
    RollbackInProgress, "ROLLBACK_IN_PROGRESS", Busy, Running, Failed, Failed;
    RollbackFailed, "ROLLBACK_FAILED", Recreate, Failed, Failed, Failed;
    RollbackComplete, "ROLLBACK_COMPLETE", Recreate, Failed, Failed, Failed;
    DeleteInProgress, "DELETE_IN_PROGRESS", Busy, Running, Running, Failed;
    DeleteFailed, "DELETE_FAILED", Repair, Failed, Failed, Failed;
    DeleteComplete, "DELETE_COMPLETE", Create, Failed, Succeeded, Failed;
    UpdateInProgress, "UPDATE_IN_PROGRESS", Busy, Running, Failed, Failed;
    UpdateCompleteCleanupInProgress, "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", Busy, Running, Failed, Failed;
    UpdateComplete, "UPDATE_COMPLETE", Update, Succeeded, Failed, Failed;
    UpdateFailed, "UPDATE_FAILED", Update, Failed, Failed, Failed;
    UpdateRollbackInProgress, "UPDATE_ROLLBACK_IN_PROGRESS", Busy, Running, Failed, Running;
    UpdateRollbackFailed, "UPDATE_ROLLBACK_FAILED", Repair, Failed, Failed, Failed;
    UpdateRollbackCompleteCleanupInProgress, "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", Busy, Running, Failed, Running;
    UpdateRollbackComplete, "UPDATE_ROLLBACK_COMPLETE", Update, Failed, Failed, Succeeded;
    ReviewInProgress, "REVIEW_IN_PROGRESS", Create, Running, Failed, Failed;
    ImportInProgress, "IMPORT_IN_PROGRESS", Busy, Running, Failed, Failed;
    ImportComplete, "IMPORT_COMPLETE", Update, Failed, Failed, Failed;
    ImportRollbackInProgress, "IMPORT_ROLLBACK_IN_PROGRESS", Busy, Running, Failed, Failed;
    ImportRollbackFailed, "IMPORT_ROLLBACK_FAILED", Repair, Failed, Failed, Failed;
    ImportRollbackComplete, "IMPORT_ROLLBACK_COMPLETE", Update, Failed, Failed, Failed;
}

impl StackStatus {
    /// What a new deployment does. In a protected stage nothing is ever deleted, so what would be recreated is a person's.
    #[must_use]
    pub fn entry(self, protected: bool) -> Entry {
        let entry = self.entry_when_ephemeral();
        if protected && entry == Entry::Recreate { Entry::Repair } else { entry }
    }

    /// Whether CloudFormation takes back what it did.
    #[must_use]
    pub fn is_rolling_back(self) -> bool {
        self.as_str().contains("ROLLBACK") && self.as_str().ends_with("_IN_PROGRESS")
    }

    /// The subcommand of `aws cloudformation` that leads out of it, for a person who has looked at the stack's events; where
    /// none does, the one that shows those. A failed rollback goes on with `slipway repair`.
    #[must_use]
    pub fn repair(self) -> &'static str {
        match self.entry_when_ephemeral() {
            Entry::Recreate => "delete-stack",
            Entry::Repair if self == StackStatus::DeleteFailed => "delete-stack",
            Entry::Repair | Entry::Create | Entry::Update | Entry::Busy => "describe-stack-events",
        }
    }
}

impl fmt::Display for StackStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    #[test]
    fn every_status_is_spelled_as_cloudformation_does() {
        assert_eq!(StackStatus::ALL.len(), 23);
        for status in StackStatus::ALL {
            assert_eq!(StackStatus::parse(status.as_str()).unwrap(), *status);
        }
        assert!(StackStatus::parse("UPDATE_PAUSED").is_err());
    }

    #[test]
    fn busy_is_exactly_what_is_in_progress() {
        for status in StackStatus::ALL {
            let in_progress = status.as_str().ends_with("_IN_PROGRESS") && *status != StackStatus::ReviewInProgress;
            assert_eq!(status.entry(false) == Entry::Busy, in_progress, "{status}");
        }
    }

    #[test]
    fn a_protected_stack_is_never_recreated() {
        assert!(StackStatus::ALL.iter().all(|status| status.entry(true) != Entry::Recreate));
    }

    #[test]
    fn only_the_asked_for_ends_are_success() {
        let green: Vec<_> =
            StackStatus::ALL.iter().filter(|s| s.deploying() == Progress::Succeeded).map(|s| s.as_str()).collect();
        assert_eq!(green, ["CREATE_COMPLETE", "UPDATE_COMPLETE"]);
        let deleted: Vec<_> =
            StackStatus::ALL.iter().filter(|s| s.deleting() == Progress::Succeeded).map(|s| s.as_str()).collect();
        assert_eq!(deleted, ["DELETE_COMPLETE"]);
        let repaired: Vec<_> =
            StackStatus::ALL.iter().filter(|s| s.repairing() == Progress::Succeeded).map(|s| s.as_str()).collect();
        assert_eq!(repaired, ["UPDATE_ROLLBACK_COMPLETE"]);
    }
}
