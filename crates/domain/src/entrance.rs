//! Whether a target account lets Slipway in, and only as it should: what `slipway doctor` asks of the function `teardown`, which may
//! enter, and what that answers. Nothing is changed by it.

use serde::{Deserialize, Serialize};

use crate::names::{ApplicationName, EnvironmentKey, EnvironmentName, InvalidName, ProjectId, StageName};

/// Which stage's account is entered: which one that is, the control plane knows, and nobody tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntranceAsk {
    /// The stage.
    pub stage: StageName,
}

impl EntranceAsk {
    /// The environment that the sessions are narrowed to. No project has the number 0, so that there is no such stack.
    ///
    /// # Errors
    /// [`InvalidName`], never.
    pub fn environment(&self) -> Result<EnvironmentKey, InvalidName> {
        Ok(EnvironmentKey {
            project: ProjectId(0),
            application: ApplicationName::new("slipway")?,
            stage: self.stage.clone(),
            environment: EnvironmentName::new("doctor")?,
        })
    }
}

/// What is wrong with a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoleFault {
    /// It does not let the control plane in.
    NotLetIn {
        /// AWS's answer.
        why: String,
    },
    /// It lets in who does not know the ExternalId.
    WithoutExternalId,
    /// It, or a session that is narrowed to one stack, reaches more than it should.
    Reaches {
        /// The call that should have been refused.
        call: String,
    },
    /// A session is kept from what it is for.
    KeptFrom {
        /// The call, and AWS's answer.
        why: String,
    },
}

impl std::fmt::Display for RoleFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotLetIn { why } => write!(f, "it does not let the control plane in: {why}"),
            Self::WithoutExternalId => f.write_str("it lets in who does not know the ExternalId"),
            Self::Reaches { call } => write!(f, "it reaches more than it should: {call}"),
            Self::KeptFrom { why } => write!(f, "it is kept from what it is for: {why}"),
        }
    }
}

/// A role of the target account, as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleSeen {
    /// Its name.
    pub role: String,
    /// What is wrong with it.
    pub faults: Vec<RoleFault>,
}
