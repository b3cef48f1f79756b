//! What GitLab says of a project's branches, asked with a token that may read it.

use std::fmt;

use reqwest::StatusCode;
use serde::Deserialize;
use slipway_domain::branch::{Merged, Seen};
use slipway_domain::names::ProjectId;

use crate::api::{Api, Why, read};
use crate::issuer::Issuer;

/// How many merge requests of a branch that were merged are looked at, newest first.
const MERGED: usize = 5;
/// How many that are open: forks may have branches of the same name.
const OPEN: usize = 20;
/// What GitLab says of a branch that is not there, in a project whose repository the token may read.
const NO_BRANCH: &str = "404 Branch Not Found";

/// Why nothing is known of a branch. No variant holds the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BranchesError {
    /// The instance does not answer, or does not take the token: it is the same for every branch.
    #[error("GitLab cannot be asked about branches: {0}")]
    Unavailable(String),
    /// It answers, but does not say clearly of this one.
    #[error("GitLab does not say whether branch {branch} of project {project} is there: {why}")]
    Unclear {
        /// Which project.
        project: ProjectId,
        /// Which branch.
        branch: String,
        /// What it says instead.
        why: String,
    },
}

/// Asks one GitLab instance. Bounded in time and size, never redirected.
pub struct Branches {
    api: Api,
}

impl fmt::Debug for Branches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Branches").field("issuer", self.api.issuer()).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Branch {
    name: String,
    commit: Commit,
    protected: bool,
    default: bool,
}

#[derive(Deserialize)]
struct Commit {
    id: String,
}

#[derive(Deserialize)]
struct Project {
    id: u64,
}

#[derive(Deserialize)]
struct Said {
    message: String,
}

impl Branches {
    /// Those of `issuer`'s instance, asked with `token`: a project, group or personal access token with the scope `read_api`.
    ///
    /// # Errors
    /// When the token cannot be sent.
    pub fn new(issuer: Issuer, token: &str) -> Result<Self, BranchesError> {
        let api = Api::new(issuer, token, "read_api").map_err(|why| BranchesError::Unavailable(why.to_owned()))?;
        Ok(Self { api })
    }

    /// What GitLab says of a branch: <https://docs.gitlab.com/api/branches/>, <https://docs.gitlab.com/api/merge_requests/>.
    ///
    /// # Errors
    /// [`BranchesError`], for anything but a clear answer.
    pub async fn seen(&self, project: ProjectId, branch: &str) -> Result<Seen, BranchesError> {
        let unclear = |why: String| BranchesError::Unclear { project, branch: branch.to_owned(), why };
        let id = project.to_string();
        let (status, body) = self
            .api
            .get(&["projects", &id, "repository", "branches", branch], &[])
            .await
            .map_err(|why| of(why, unclear))?;
        let found: Branch = match status {
            StatusCode::OK => read(&body).map_err(unclear)?,
            StatusCode::NOT_FOUND => {
                let said: Said = read(&body).map_err(unclear)?;
                if said.message != NO_BRANCH {
                    return Err(unclear(format!("it answered {status}")));
                }
                // The same token reads that very project.
                let (status, body) = self.api.get(&["projects", &id], &[]).await.map_err(|why| of(why, unclear))?;
                let known = status == StatusCode::OK && read::<Project>(&body).is_ok_and(|known| known.id == project.0);
                return if known {
                    Ok(Seen::Gone)
                } else {
                    Err(unclear(format!("of its project it answered {status}")))
                };
            }
            status => return Err(unclear(format!("it answered {status}"))),
        };
        if found.name != branch {
            return Err(unclear("it speaks of another branch".to_owned()));
        }
        let stays = found.protected || found.default;
        let tip = found.commit.id;
        if stays {
            return Ok(Seen::There { tip, stays, merged: Vec::new(), open: false });
        }
        let (merged, _) =
            self.api.merge_requests(project, branch, "merged", MERGED).await.map_err(|why| of(why, unclear))?;
        let merged = merged.into_iter().filter_map(|request| Some(Merged { number: request.iid, head: request.sha? }));
        let merged: Vec<Merged> = merged.collect();
        let open = if merged.iter().any(|merged| merged.head == tip) {
            let (open, all) =
                self.api.merge_requests(project, branch, "opened", OPEN).await.map_err(|why| of(why, unclear))?;
            // Where not all were told, there may be one.
            !open.is_empty() || !all
        } else {
            false
        };
        Ok(Seen::There { tip, stays, merged, open })
    }
}

fn of(why: Why, unclear: impl FnOnce(String) -> BranchesError) -> BranchesError {
    match why {
        Why::Unavailable(why) => BranchesError::Unavailable(why),
        Why::Unclear(why) => unclear(why),
    }
}
