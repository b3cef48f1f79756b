//! GitLab's API, asked or told with a token.

use reqwest::header::HeaderValue;
use reqwest::{Client, Method, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use slipway_domain::names::ProjectId;
use tokio::sync::OnceCell;

use crate::fetch::{self, Failed};
use crate::issuer::Issuer;

/// A merge request carries its description, which may have a megabyte.
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// One instance's API. Bounded in time and size, never redirected, each call tried once.
pub(crate) struct Api {
    issuer: Issuer,
    token: HeaderValue,
    /// What the token must be able to do.
    scope: &'static str,
    client: OnceCell<Client>,
}

/// Why there is no answer to look at. No text has the token.
pub(crate) enum Why {
    /// It is the same for whatever is asked.
    Unavailable(String),
    /// It is about what was asked.
    Unclear(String),
}

/// A merge request, as far as anybody here looks at it.
#[derive(Deserialize)]
pub(crate) struct MergeRequest {
    pub(crate) iid: u64,
    state: String,
    source_branch: String,
    source_project_id: Option<u64>,
    pub(crate) sha: Option<String>,
}

impl Api {
    /// That of `issuer`'s instance, with `token`, which has that `scope`.
    pub(crate) fn new(issuer: Issuer, token: &str, scope: &'static str) -> Result<Self, &'static str> {
        let mut token = HeaderValue::from_str(token.trim()).map_err(|_| "the token holds what no token holds")?;
        token.set_sensitive(true);
        Ok(Self { issuer, token, scope, client: OnceCell::new() })
    }

    pub(crate) fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    pub(crate) async fn get(&self, path: &[&str], query: &[(&str, &str)]) -> Result<(StatusCode, Vec<u8>), Why> {
        self.call(Method::GET, path, query, None::<&()>).await
    }

    /// Calls `path` below `/api/v4`, each of whose parts is one segment, with `body` as JSON.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&impl Serialize>,
    ) -> Result<(StatusCode, Vec<u8>), Why> {
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
        let request = made.map_err(Why::from)?.request(method, url).header("private-token", self.token.clone());
        let request = body.into_iter().fold(request, |request, body| request.json(body));
        let (status, body) = fetch::send(request, MAX_ANSWER_BYTES).await?;
        if status == StatusCode::UNAUTHORIZED {
            let scope = self.scope;
            let why = format!("it does not take the token (401): make a new one, with the scope {scope}");
            return Err(Why::Unavailable(why));
        }
        Ok((status, body))
    }

    /// The newest merge requests of a project's branch in that state, of the `most` that are asked for; and whether that is all of them
    /// (<https://docs.gitlab.com/api/merge_requests/#list-project-merge-requests>).
    pub(crate) async fn merge_requests(
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
}

impl From<Failed> for Why {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Unavailable(why) => Self::Unavailable(why),
            Failed::Unusable(why) => Self::Unclear(why),
        }
    }
}

pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|_| "its answer is not what GitLab's API answers".to_owned())
}
