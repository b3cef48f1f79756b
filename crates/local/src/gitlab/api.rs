//! What the instance's API says of projects, branches and merge requests, to whoever has the token: as much of it as Slipway asks, in
//! the words of GitLab's own (`lib/api/branches.rb`, `merge_requests.rb`).

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::sign_in::Provider;

/// The token that may read.
pub(super) const READ_TOKEN: &str = "glpat-a-token-that-reads-branches";
/// The commit that each branch is at, and jobs run on.
pub const TIP: &str = "714a629c0b401fdce83e847fc9589983fc6f46bc";

/// How the API answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// As it is.
    Truly,
    /// That it is down.
    Down,
    /// That the token may not read the repository.
    Forbidden,
    /// That the token is no token.
    Unauthorized,
    /// That there is no such project, as to a token of another group.
    NoProject,
    /// That there is no such branch, of a project that cannot be read.
    NoBranchOfNoProject,
    /// With a page to sign in at.
    Html,
    /// That it is elsewhere.
    Redirect,
}

type Shared = State<Arc<Provider>>;

pub(super) fn routes() -> Router<Arc<Provider>> {
    Router::new()
        .route("/api/v4/projects/{project}", get(project))
        .route("/api/v4/projects/{project}/repository/branches/{branch}", get(branch))
        .route("/api/v4/projects/{project}/merge_requests", get(merge_requests))
}

fn said(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"message": message}))).into_response()
}

/// What it answers whatever is asked; nothing when it looks at the question.
fn whatever(provider: &Provider, headers: &HeaderMap) -> Option<Response> {
    if headers.get("private-token").and_then(|token| token.to_str().ok()) != Some(READ_TOKEN) {
        return Some(said(StatusCode::UNAUTHORIZED, "401 Unauthorized"));
    }
    match provider.state().answers {
        Answers::Truly | Answers::NoBranchOfNoProject => None,
        Answers::Down => Some(said(StatusCode::BAD_GATEWAY, "502 Bad Gateway")),
        Answers::Forbidden => Some(said(StatusCode::FORBIDDEN, "403 Forbidden")),
        Answers::Unauthorized => Some(said(StatusCode::UNAUTHORIZED, "401 Unauthorized")),
        Answers::NoProject => Some(said(StatusCode::NOT_FOUND, "404 Project Not Found")),
        Answers::Html => Some((StatusCode::NOT_FOUND, Html("<h1>404 Branch Not Found</h1>")).into_response()),
        Answers::Redirect => Some((StatusCode::FOUND, [(LOCATION, "/users/sign_in")]).into_response()),
    }
}

async fn project(State(provider): Shared, headers: HeaderMap, Path(project): Path<u64>) -> Response {
    if let Some(answer) = whatever(&provider, &headers) {
        return answer;
    }
    if provider.state().answers == Answers::NoBranchOfNoProject {
        return said(StatusCode::NOT_FOUND, "404 Project Not Found");
    }
    Json(json!({"id": project, "default_branch": "main"})).into_response()
}

async fn branch(State(provider): Shared, headers: HeaderMap, Path((project, branch)): Path<(u64, String)>) -> Response {
    if let Some(answer) = whatever(&provider, &headers) {
        return answer;
    }
    let mut state = provider.state();
    state.asked_branches.push(branch.clone());
    if state.answers == Answers::NoBranchOfNoProject || state.deleted.contains(&(project, branch.clone())) {
        return said(StatusCode::NOT_FOUND, "404 Branch Not Found");
    }
    let protected = state.protected.contains(&branch);
    let default = branch == "main";
    Json(json!({"name": branch, "commit": {"id": TIP}, "protected": protected, "default": default})).into_response()
}

#[derive(Deserialize)]
struct Asked {
    source_branch: String,
    state: String,
}

async fn merge_requests(
    State(provider): Shared,
    headers: HeaderMap,
    Path(project): Path<u64>,
    Query(asked): Query<Asked>,
) -> Response {
    if let Some(answer) = whatever(&provider, &headers) {
        return answer;
    }
    let state = provider.state();
    let show = |state: &str, branch: &str, head: &str, number: u64| json!({"iid": number, "state": state, "source_branch": branch, "source_project_id": project, "sha": head});
    let merged = state.merged.iter().filter(|(of, branch, ..)| *of == project && *branch == asked.source_branch);
    let opened = state.opened.iter().filter(|(of, branch, _)| *of == project && *branch == asked.source_branch);
    let shown: Vec<Value> = match asked.state.as_str() {
        "merged" => merged.map(|(_, branch, head, number)| show("merged", branch, head, *number)).collect(),
        "opened" => opened.map(|(_, branch, number)| show("opened", branch, TIP, *number)).collect(),
        _ => Vec::new(),
    };
    Json(shown).into_response()
}
