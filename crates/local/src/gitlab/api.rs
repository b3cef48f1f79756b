//! What the instance's API says of projects, branches and merge requests, and takes as notes and statuses, from whoever has the token: as
//! much of it as Slipway asks, in the words of GitLab's own (`lib/api/branches.rb`, `merge_requests.rb`, `notes.rb`, `commit_statuses.rb`).

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::sign_in::Provider;

/// The token that may read.
pub(super) const READ_TOKEN: &str = "glpat-a-token-that-reads-branches";
/// The token that may write, too.
pub(super) const WRITE_TOKEN: &str = "glpat-a-token-that-writes-notes";
/// The user that the tokens are.
const US: u64 = 1200;
/// How long it thinks about an answer where it is slow: less than anybody waits for one.
const SLOW: Duration = Duration::from_secs(4);
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
    /// As it is, but seconds later.
    Slowly,
    /// That there were too many requests.
    RateLimited,
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
        .route("/api/v4/projects/{project}/merge_requests/{request}/notes", get(notes).post(add_note))
        .route("/api/v4/projects/{project}/merge_requests/{request}/notes/{note}", put(change_note))
        .route("/api/v4/projects/{project}/statuses/{sha}", post(set_status))
        .route("/api/v4/user", get(user))
        .route(
            "/api/v4/projects/{project}/packages/generic/{package}/{version}/{file}",
            get(download).put(publish).layer(DefaultBodyLimit::disable()),
        )
}

fn said(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"message": message}))).into_response()
}

/// A note of a merge request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Its number.
    pub id: u64,
    /// The project.
    pub project: u64,
    /// The merge request.
    pub request: u64,
    /// The number of the user who wrote it.
    pub author: u64,
    /// Its Markdown.
    pub body: String,
    /// How often it was changed.
    pub changes: u32,
}

/// A status that a commit was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The project.
    pub project: u64,
    /// The commit.
    pub sha: String,
    /// What was sent.
    pub sent: Value,
}

/// What it answers whatever is asked; nothing when it looks at the question.
async fn whatever(provider: &Provider, headers: &HeaderMap, writes: bool) -> Option<Response> {
    let token = headers.get("private-token").and_then(|token| token.to_str().ok());
    let answers = {
        let mut state = provider.state();
        state.calls += usize::from(token == Some(WRITE_TOKEN));
        state.answers
    };
    match token {
        Some(WRITE_TOKEN) => {}
        Some(READ_TOKEN) if writes => return Some(said(StatusCode::FORBIDDEN, "403 Forbidden")),
        Some(READ_TOKEN) => {}
        Some(_) | None => return Some(said(StatusCode::UNAUTHORIZED, "401 Unauthorized")),
    }
    match answers {
        Answers::Truly | Answers::NoBranchOfNoProject => None,
        Answers::Slowly => {
            tokio::time::sleep(SLOW).await;
            None
        }
        Answers::RateLimited => Some(said(StatusCode::TOO_MANY_REQUESTS, "429 Too Many Requests")),
        Answers::Down => Some(said(StatusCode::BAD_GATEWAY, "502 Bad Gateway")),
        Answers::Forbidden => Some(said(StatusCode::FORBIDDEN, "403 Forbidden")),
        Answers::Unauthorized => Some(said(StatusCode::UNAUTHORIZED, "401 Unauthorized")),
        Answers::NoProject => Some(said(StatusCode::NOT_FOUND, "404 Project Not Found")),
        Answers::Html => Some((StatusCode::NOT_FOUND, Html("<h1>404 Branch Not Found</h1>")).into_response()),
        Answers::Redirect => Some((StatusCode::FOUND, [(LOCATION, "/users/sign_in")]).into_response()),
    }
}

/// Publishes a file in a project's generic package registry (<https://docs.gitlab.com/user/packages/generic_packages/>).
async fn publish(
    State(provider): Shared,
    headers: HeaderMap,
    Path(package): Path<(String, String, String, String)>,
    file: Bytes,
) -> Response {
    if let Some(answer) = whatever(&provider, &headers, true).await {
        return answer;
    }
    provider.state().packages.insert(package, file);
    said(StatusCode::CREATED, "201 Created")
}

/// Gives it to anybody, as where everybody may read the registry.
async fn download(State(provider): Shared, Path(package): Path<(String, String, String, String)>) -> Response {
    match provider.state().packages.get(&package) {
        Some(file) => file.clone().into_response(),
        None => said(StatusCode::NOT_FOUND, "404 Not Found"),
    }
}

async fn project(State(provider): Shared, headers: HeaderMap, Path(project): Path<u64>) -> Response {
    if let Some(answer) = whatever(&provider, &headers, false).await {
        return answer;
    }
    if provider.state().answers == Answers::NoBranchOfNoProject {
        return said(StatusCode::NOT_FOUND, "404 Project Not Found");
    }
    Json(json!({"id": project, "default_branch": "main"})).into_response()
}

async fn branch(State(provider): Shared, headers: HeaderMap, Path((project, branch)): Path<(u64, String)>) -> Response {
    if let Some(answer) = whatever(&provider, &headers, false).await {
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
    if let Some(answer) = whatever(&provider, &headers, false).await {
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

async fn user(State(provider): Shared, headers: HeaderMap) -> Response {
    if let Some(answer) = whatever(&provider, &headers, false).await {
        return answer;
    }
    Json(json!({"id": US, "username": "project_101_bot", "bot": true})).into_response()
}

#[derive(Deserialize)]
struct Paged {
    page: usize,
    per_page: usize,
}

/// The oldest first: nobody here asks for another order.
async fn notes(
    State(provider): Shared,
    headers: HeaderMap,
    Path((project, request)): Path<(u64, u64)>,
    Query(paged): Query<Paged>,
) -> Response {
    if let Some(answer) = whatever(&provider, &headers, false).await {
        return answer;
    }
    let state = provider.state();
    let known = state.notes.iter().filter(|note| (note.project, note.request) == (project, request));
    let page = known.skip(paged.page.saturating_sub(1) * paged.per_page).take(paged.per_page.min(100));
    Json(page.map(shown).collect::<Vec<_>>()).into_response()
}

fn shown(note: &Note) -> Value {
    json!({"id": note.id, "body": note.body, "system": false, "author": {"id": note.author}})
}

#[derive(Deserialize)]
struct Body {
    body: String,
}

async fn add_note(
    State(provider): Shared,
    headers: HeaderMap,
    Path((project, request)): Path<(u64, u64)>,
    Json(Body { body }): Json<Body>,
) -> Response {
    if let Some(answer) = whatever(&provider, &headers, true).await {
        return answer;
    }
    let mut state = provider.state();
    let note = state.add_note(project, request, US, body);
    (StatusCode::CREATED, Json(shown(&note))).into_response()
}

async fn change_note(
    State(provider): Shared,
    headers: HeaderMap,
    Path((project, request, id)): Path<(u64, u64, u64)>,
    Json(Body { body }): Json<Body>,
) -> Response {
    if let Some(answer) = whatever(&provider, &headers, true).await {
        return answer;
    }
    let mut state = provider.state();
    let mut notes = state.notes.iter_mut();
    let Some(note) = notes.find(|note| (note.project, note.request, note.id) == (project, request, id)) else {
        return said(StatusCode::NOT_FOUND, "404 Note Not Found");
    };
    if note.author != US {
        return said(StatusCode::FORBIDDEN, "403 Forbidden");
    }
    note.body = body;
    note.changes += 1;
    Json(shown(note)).into_response()
}

async fn set_status(
    State(provider): Shared,
    headers: HeaderMap,
    Path((project, sha)): Path<(u64, String)>,
    Json(sent): Json<Value>,
) -> Response {
    if let Some(answer) = whatever(&provider, &headers, true).await {
        return answer;
    }
    // As GitLab's columns and `CommitStatus` have it.
    let fits = |name: &str| sent[name].as_str().is_none_or(|text| text.chars().count() <= 255);
    let known =
        ["pending", "running", "success", "failed", "canceled", "skipped"].map(Some).contains(&sent["state"].as_str());
    if !known || !["name", "description", "target_url"].into_iter().all(fits) {
        return said(StatusCode::BAD_REQUEST, "400 Bad Request");
    }
    let mut state = provider.state();
    let is_same = |known: &&Status| {
        (known.project, &known.sha) == (project, &sha)
            && ["name", "pipeline_id"].into_iter().all(|field| known.sent[field] == sent[field])
    };
    let last = state.statuses.iter().rev().find(is_same);
    if sent["state"] == "pending" && last.is_some_and(|known| known.sent["state"] == "pending") {
        return said(StatusCode::BAD_REQUEST, "Cannot transition status via :enqueue from :pending");
    }
    state.statuses.push(Status { project, sha, sent: sent.clone() });
    (StatusCode::CREATED, Json(sent)).into_response()
}
