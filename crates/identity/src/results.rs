//! Tells GitLab how a deployment ended, with a token that may write.

use std::fmt;

use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use slipway_domain::gitlab_note::{CommitStatus, Note};
use slipway_domain::names::ProjectId;

use crate::api::{Api, Why, read};
use crate::issuer::Issuer;

/// How many open merge requests of a branch get a note: it may be merged into several others.
const OPEN: usize = 5;
/// How many are looked at: forks may have branches of the same name.
const LOOKED_AT: usize = 20;
/// How many notes GitLab lists at once, at the most (<https://docs.gitlab.com/api/rest/#pagination>).
const PAGE: usize = 100;

/// Why GitLab was not told. It does not hold the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {why}")]
pub struct ResultsError {
    what: &'static str,
    why: String,
}

/// Tells one GitLab instance. Bounded in time and size, never redirected, each call tried once.
pub struct Results {
    api: Api,
}

impl fmt::Debug for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Results").field("issuer", self.api.issuer()).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct User {
    id: u64,
}

#[derive(Deserialize)]
struct Written {
    id: u64,
    body: String,
    system: bool,
    author: User,
}

impl Results {
    /// Those that `issuer`'s instance is told with `token`: a project, group or personal access token with the scope `api`.
    ///
    /// # Errors
    /// When the token cannot be sent.
    pub fn new(issuer: Issuer, token: &str) -> Result<Self, ResultsError> {
        let unusable = |why: &str| ResultsError { what: "GitLab cannot be told", why: why.to_owned() };
        Ok(Self { api: Api::new(issuer, token, "api").map_err(unusable)? })
    }

    /// Sets the status of a project's commit: <https://docs.gitlab.com/api/commits/#set-commit-pipeline-status>.
    ///
    /// # Errors
    /// [`ResultsError`].
    pub async fn set_status(&self, project: ProjectId, sha: &str, status: &CommitStatus) -> Result<(), ResultsError> {
        let path = ["projects", &project.to_string(), "statuses", sha];
        let told = self.api.call(Method::POST, &path, &[], Some(status)).await;
        taken(told, StatusCode::CREATED).map_err(in_words("the commit's status was not set"))
    }

    /// Writes the note into each open merge request of a project's branch: over the one that the same token wrote about the same
    /// environment, unless that one tells of something newer, or as a new one (<https://docs.gitlab.com/api/notes/#merge-requests>).
    ///
    /// # Errors
    /// [`ResultsError`], for the first that could not be written.
    pub async fn keep_note(&self, project: ProjectId, branch: &str, note: &Note) -> Result<(), ResultsError> {
        let result = async {
            let (open, _) = self.api.merge_requests(project, branch, "opened", LOOKED_AT).await?;
            if open.is_empty() {
                return Ok(());
            }
            let us: User = self.known(&["user"], &[]).await?;
            for request in open.into_iter().take(OPEN) {
                self.keep_in(project, request.iid, us.id, note).await?;
            }
            Ok(())
        };
        result.await.map_err(in_words("the merge request's note was not written"))
    }

    async fn keep_in(&self, project: ProjectId, request: u64, us: u64, note: &Note) -> Result<(), Why> {
        let (project, request) = (project.to_string(), request.to_string());
        let notes = ["projects", &project, "merge_requests", &request, "notes"];
        let known = self.find(&notes, us, note).await?;
        let body = json!({"body": note.markdown()});
        match known {
            Some(known) if note.is_older_than(&known.body) => Ok(()),
            Some(known) => {
                let known = known.id.to_string();
                let path: Vec<&str> = notes.into_iter().chain([known.as_str()]).collect();
                taken(self.api.call(Method::PUT, &path, &[], Some(&body)).await, StatusCode::OK)
            }
            None => taken(self.api.call(Method::POST, &notes, &[], Some(&body)).await, StatusCode::CREATED),
        }
    }

    /// The note of the same environment, the oldest if somebody's second try made another: what others copied of it is not ours.
    async fn find(&self, notes: &[&str], us: u64, note: &Note) -> Result<Option<Written>, Why> {
        let per_page = PAGE.to_string();
        let mut page = 1_u32;
        loop {
            let number = page.to_string();
            let asked = [("sort", "asc"), ("order_by", "created_at"), ("per_page", &per_page), ("page", &number)];
            let written: Vec<Written> = self.known(notes, &asked).await?;
            let is_last = written.len() < PAGE;
            let ours = |one: &Written| !one.system && one.author.id == us && note.is_of_same(&one.body);
            let found = written.into_iter().find(ours);
            if found.is_some() || is_last {
                return Ok(found);
            }
            page += 1;
        }
    }

    async fn known<T: serde::de::DeserializeOwned>(&self, path: &[&str], query: &[(&str, &str)]) -> Result<T, Why> {
        let (status, body) = self.api.get(path, query).await?;
        if status != StatusCode::OK {
            return Err(refused(status));
        }
        read(&body).map_err(Why::Unclear)
    }
}

fn taken(answer: Result<(StatusCode, Vec<u8>), Why>, expected: StatusCode) -> Result<(), Why> {
    match answer? {
        (status, _) if status == expected => Ok(()),
        (status, _) => Err(refused(status)),
    }
}

/// What it says besides is somebody's words, and in no log.
fn refused(status: StatusCode) -> Why {
    Why::Unclear(format!("it answered {status}"))
}

fn in_words(what: &'static str) -> impl FnOnce(Why) -> ResultsError {
    move |why| match why {
        Why::Unavailable(why) | Why::Unclear(why) => ResultsError { what, why },
    }
}
