//! What a browser does that shows nothing: it keeps cookies, and follows where it is sent. The real one is in `approval_page`.

use std::collections::BTreeMap;

use reqwest::header::{LOCATION, SET_COOKIE};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response, Url};

use crate::World;

/// What came back.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The status.
    pub status: u16,
    /// The headers: of several with one name, the last.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: String,
}

/// One person's browser.
pub struct Person {
    /// What answers for Slipway's host.
    endpoint: Url,
    client: Client,
    /// The cookies that it has for Slipway's host.
    pub cookies: BTreeMap<String, String>,
}

impl Person {
    /// A browser without a past.
    #[must_use]
    pub fn new(world: &World) -> Self {
        Self::at(world.control_plane.emulator.endpoint())
    }

    /// The same where the embedded AWS is at `endpoint`.
    #[must_use]
    pub fn at(endpoint: &str) -> Self {
        let client = Client::builder().redirect(Policy::none()).no_proxy().build().unwrap();
        Self { endpoint: Url::parse(endpoint).unwrap(), client, cookies: BTreeMap::new() }
    }

    /// A request to Slipway, with the headers that a browser sends.
    pub async fn send(&mut self, method: &str, link: &str, form: &[(&str, &str)], more: &[(&str, &str)]) -> Shown {
        let url = Url::parse(link).unwrap();
        let mut address = self.endpoint.clone();
        address.set_path(url.path());
        address.set_query(url.query());
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = self.client.request(method.clone(), address).header("host", url.host_str().unwrap());
        let request = request.header("accept", "text/html,application/xhtml+xml");
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = if cookies.is_empty() { request } else { request.header("cookie", cookies.join("; ")) };
        let request = more.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = if method == Method::POST { request.form(form) } else { request };
        let answer = request.send().await.unwrap();
        self.keep(&answer);
        let headers =
            answer.headers().iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
        Shown { status: answer.status().as_u16(), headers: headers.collect(), body: answer.text().await.unwrap() }
    }

    fn keep(&mut self, answer: &Response) {
        for cookie in answer.headers().get_all(SET_COOKIE) {
            let text = cookie.to_str().unwrap();
            let (name, rest) = text.split_once('=').unwrap();
            let value = rest.split(';').next().unwrap();
            for attribute in ["Path=/", "Secure", "HttpOnly", "SameSite=Lax"] {
                assert!(rest.contains(attribute), "{attribute} of {name}");
            }
            assert!(name.starts_with("__Host-"), "{name}");
            if rest.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    /// Opens a link.
    pub async fn open(&mut self, link: &str) -> Shown {
        self.send("GET", link, &[], &[]).await
    }

    /// Signs in as `login` for the approval at `link`, up to the moment when GitLab sends the browser back: there.
    pub async fn comes_back(&mut self, link: &str, login: &str) -> String {
        let begun = self.open(&format!("{link}/sign-in")).await;
        assert_eq!(begun.status, 303, "{begun:?}");
        let gitlab = &begun.headers[LOCATION.as_str()];
        let answer = self.client.post(gitlab).form(&[("user", login)]).send().await.unwrap();
        assert_eq!(answer.status(), 302, "{:?}", answer.text().await);
        answer.headers()[LOCATION].to_str().unwrap().to_owned()
    }

    /// Signs in as `login` for the approval at `link`: the page then.
    pub async fn signs_in(&mut self, link: &str, login: &str) -> Shown {
        let back = self.comes_back(link, login).await;
        let returned = self.open(&back).await;
        assert_eq!(returned.status, 303, "{returned:?}");
        let page = self.open(link).await;
        assert!(page.body.contains(&format!("Signed in as <strong>{login}</strong>")), "{}", page.body);
        page
    }

    /// Presses a button of the page, as it was shown.
    pub async fn presses(&mut self, link: &str, page: &Shown, decision: &str, reason: &str) -> Shown {
        let csrf = csrf(page).unwrap_or_default();
        let form = [("csrf", csrf.as_str()), ("decision", decision), ("reason", reason)];
        self.send("POST", link, &form, &[("origin", "null"), ("sec-fetch-site", "same-origin")]).await
    }
}

/// What the page's form holds.
#[must_use]
pub fn csrf(page: &Shown) -> Option<String> {
    let (_, rest) = page.body.split_once("name=\"csrf\" value=\"")?;
    Some(rest.split_once('"')?.0.to_owned())
}
