//! What GitLab says of a project's branches, asked with a token that may read it.

use std::fmt;

use reqwest::header::HeaderValue;
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use slipway_domain::branch::{Merged, Seen};
use slipway_domain::names::ProjectId;
use tokio::sync::OnceCell;

use crate::fetch::{self, Failed};
use crate::issuer::Issuer;

/// A merge request carries its description, which may have a megabyte.
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;
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
    issuer: Issuer,
    token: HeaderValue,
    client: OnceCell<Client>,
}

impl fmt::Debug for Branches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Branches").field("issuer", &self.issuer).finish_non_exhaustive()
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
struct MergeRequest {
    iid: u64,
    state: String,
    source_branch: String,
    source_project_id: Option<u64>,
    sha: Option<String>,
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
        let malformed = |_| BranchesError::Unavailable("the token holds what no token holds".to_owned());
        let mut token = HeaderValue::from_str(token.trim()).map_err(malformed)?;
        token.set_sensitive(true);
        Ok(Self { issuer, token, client: OnceCell::new() })
    }

    /// What GitLab says of a branch: <https://docs.gitlab.com/api/branches/>, <https://docs.gitlab.com/api/merge_requests/>.
    ///
    /// # Errors
    /// [`BranchesError`], for anything but a clear answer.
    pub async fn seen(&self, project: ProjectId, branch: &str) -> Result<Seen, BranchesError> {
        let unclear = |why: String| BranchesError::Unclear { project, branch: branch.to_owned(), why };
        let id = project.to_string();
        let (status, body) =
            self.get(&["projects", &id, "repository", "branches", branch], &[]).await.map_err(|why| why.of(unclear))?;
        let found: Branch = match status {
            StatusCode::OK => read(&body).map_err(unclear)?,
            StatusCode::NOT_FOUND => {
                let said: Said = read(&body).map_err(unclear)?;
                if said.message != NO_BRANCH {
                    return Err(unclear(format!("it answered {status}")));
                }
                // The same token reads that very project.
                let (status, body) = self.get(&["projects", &id], &[]).await.map_err(|why| why.of(unclear))?;
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
        let (merged, _) = self.requests(project, branch, "merged", MERGED).await.map_err(|why| why.of(unclear))?;
        let merged = merged.into_iter().filter_map(|request| Some(Merged { number: request.iid, head: request.sha? }));
        let merged: Vec<Merged> = merged.collect();
        let open = if merged.iter().any(|merged| merged.head == tip) {
            let (open, all) = self.requests(project, branch, "opened", OPEN).await.map_err(|why| why.of(unclear))?;
            // Where not all were told, there may be one.
            !open.is_empty() || !all
        } else {
            false
        };
        Ok(Seen::There { tip, stays, merged, open })
    }

    /// The newest merge requests of a project's branch in that state, of the `most` that are asked for; and whether that is all of them.
    async fn requests(
        &self,
        project: ProjectId,
        branch: &str,
        state: &str,
        most: usize,
    ) -> Result<(Vec<MergeRequest>, bool), Why> {
        let asked = [("source_branch", branch), ("state", state), ("per_page", &most.to_string())];
        let (status, body) = self.get(&["projects", &project.to_string(), "merge_requests"], &asked).await?;
        if status != StatusCode::OK {
            return Err(Why::Unclear(format!("of its merge requests it answered {status}")));
        }
        let mut found: Vec<MergeRequest> = read(&body).map_err(Why::Unclear)?;
        let all = found.len() < most;
        // A fork's branch may have the same name.
        found.retain(|request| {
            request.state == state && request.source_branch == branch && request.source_project_id == Some(project.0)
        });
        Ok((found, all))
    }

    async fn get(&self, path: &[&str], query: &[(&str, &str)]) -> Result<(StatusCode, Vec<u8>), Why> {
        let mut url: Url = self.issuer.url().clone();
        // One segment each: a branch's slash is no slash of the path.
        match url.path_segments_mut() {
            Ok(mut segments) => {
                segments.pop_if_empty().extend(["api", "v4"]).extend(path);
            }
            Err(()) => return Err(Why::Unavailable("its URL has no path".to_owned())),
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let made = self.client.get_or_try_init(|| async { fetch::client(self.issuer.url()) }).await;
        let request = made.map_err(Why::from)?.get(url).header("private-token", self.token.clone());
        let (status, body) = fetch::send(request, MAX_ANSWER_BYTES).await?;
        if status == StatusCode::UNAUTHORIZED {
            return Err(Why::Unavailable(
                "it does not take the token (401): make a new one, with the scope read_api".to_owned(),
            ));
        }
        Ok((status, body))
    }
}

enum Why {
    Unavailable(String),
    Unclear(String),
}

impl Why {
    fn of(self, unclear: impl FnOnce(String) -> BranchesError) -> BranchesError {
        match self {
            Why::Unavailable(why) => BranchesError::Unavailable(why),
            Why::Unclear(why) => unclear(why),
        }
    }
}

impl From<Failed> for Why {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Unavailable(why) => Self::Unavailable(why),
            Failed::Unusable(why) => Self::Unclear(why),
        }
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|_| "its answer is not what GitLab's API answers".to_owned())
}
