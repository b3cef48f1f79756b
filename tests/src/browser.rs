//! A person's browser: Chromium, headless, led over WebDriver. Each [`Browser`] is one of its own, with an empty profile.
//!
//! It reaches the function URL of the control plane under its real name, over TLS, so that cookies which are `Secure` and
//! `__Host-`, and headers that bind a page to its origin, mean what they mean on AWS. GitLab is on another site.

mod axe;
mod driver;
mod tls;

use std::time::{Duration, Instant};

use base64::Engine as _;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use slipway_local::target_dir;

use crate::World;
use driver::Driver;

/// How long a page may take to become what a test waits for.
const PATIENCE: Duration = Duration::from_secs(40);
/// Between two looks at a page.
const POLL: Duration = Duration::from_millis(50);
/// How high the window is, in CSS pixels.
const HEIGHT: u32 = 900;

/// How a browser shows pages.
#[derive(Debug, Clone, Copy)]
pub struct Looks {
    /// The window's width in CSS pixels; a small one is a phone's.
    pub width: u32,
    /// Whether the person prefers dark colours.
    pub dark: bool,
    /// Whether the pages' scripts run.
    pub javascript: bool,
}

impl Default for Looks {
    /// A desk: 1280 pixels, light, with JavaScript.
    fn default() -> Self {
        Self { width: 1280, dark: false, javascript: true }
    }
}

/// What has the keyboard's focus.
#[derive(Debug, Clone, serde::Deserialize)]
pub struct Focus {
    /// The text of a link, the value of a button, or the id of a field; `BODY` for none.
    pub what: String,
    /// Whether a person sees that it has the focus: the browser's own outline, or one of at least 2 pixels.
    pub outlined: bool,
}

/// The Enter key, as WebDriver writes it (<https://www.w3.org/TR/webdriver2/#keyboard-actions>).
pub const ENTER: &str = "\u{e007}";
const TAB: &str = "\u{e004}";

/// A running browser, with one tab. Dropping it ends it.
pub struct Browser {
    driver: Driver,
    looks: Looks,
    _front: tls::Front,
}

/// One of a browser's tabs.
#[derive(Debug, Clone)]
pub struct Tab(Value);

impl Browser {
    /// Starts one that reaches the control plane of `world`.
    ///
    /// # Panics
    /// Where Chromium or chromedriver is missing, with what to install.
    pub async fn start(world: &World, looks: Looks) -> Self {
        let front = tls::Front::start(world.control_plane.emulator.port()).await;
        let resolver = format!("--host-resolver-rules=MAP *.on.aws 127.0.0.1:{}", front.port());
        // The certificate of `tls` is nobody's.
        let driver = Driver::start(&[resolver, "--ignore-certificate-errors".to_owned()]).await;
        let browser = Self { driver, looks, _front: front };
        browser.look().await;
        browser
    }

    /// Makes the tab that is looked at show pages as the person wants them.
    async fn look(&self) {
        let Looks { width, dark, javascript } = self.looks;
        let mobile = width < 600;
        let metrics = json!({"width": width, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": mobile});
        self.driver.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.driver.devtools("Emulation.setEmulatedMedia", media).await;
        self.driver.devtools("Emulation.setScriptExecutionDisabled", json!({"value": !javascript})).await;
    }

    async fn script<T: DeserializeOwned>(&self, script: &str) -> Result<T, String> {
        let value = self.driver.post("/execute/sync", json!({"script": script, "args": []})).await?;
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    /// Opens `url`.
    pub async fn open(&self, url: &str) {
        self.driver.post("/url", json!({"url": url})).await.unwrap();
    }

    /// Loads the page again.
    pub async fn reload(&self) {
        self.driver.post("/refresh", json!({})).await.unwrap();
    }

    /// Goes back to the page before.
    pub async fn back(&self) {
        self.driver.post("/back", json!({})).await.unwrap();
    }

    /// The tab that is looked at.
    pub async fn tab(&self) -> Tab {
        Tab(self.driver.get("/window").await.unwrap())
    }

    /// Opens another tab, and goes to it.
    pub async fn new_tab(&self) -> Tab {
        let tab = Tab(self.driver.post("/window/new", json!({"type": "tab"})).await.unwrap()["handle"].clone());
        self.go_to(&tab).await;
        self.look().await;
        tab
    }

    /// Goes to a tab.
    pub async fn go_to(&self, tab: &Tab) {
        self.driver.post("/window", json!({"handle": tab.0})).await.unwrap();
    }

    /// The address of the page.
    pub async fn address(&self) -> String {
        self.driver.get("/url").await.unwrap().as_str().unwrap().to_owned()
    }

    /// The page's text, as a person sees it; empty while it is on its way.
    pub async fn text(&self) -> String {
        self.script("return document.body ? document.body.innerText : ''").await.unwrap_or_default()
    }

    /// Waits until the page shows `text`.
    pub async fn see(&self, text: &str) {
        self.wait(text, false).await;
    }

    /// The same, loading the page again and again: a page without a script does not change by itself.
    pub async fn see_in_time(&self, text: &str) {
        self.wait(text, true).await;
    }

    async fn wait(&self, text: &str, reload: bool) {
        let began = Instant::now();
        loop {
            let shown = self.text().await;
            if shown.contains(text) {
                return;
            }
            if began.elapsed() > PATIENCE {
                self.screenshot("failed").await;
                panic!("no \"{text}\" on {}:\n{shown}", self.address().await);
            }
            tokio::time::sleep(POLL).await;
            if reload {
                self.reload().await;
            }
        }
    }

    /// How many elements a CSS selector finds.
    pub async fn count(&self, css: &str) -> usize {
        let found = self.driver.post("/elements", json!({"using": "css selector", "value": css})).await.unwrap();
        found.as_array().unwrap().len()
    }

    /// Clicks what a CSS selector finds.
    pub async fn click(&self, css: &str) {
        self.touch(css, "click", json!({})).await;
    }

    /// Types into the field that a CSS selector finds.
    pub async fn write(&self, css: &str, text: &str) {
        self.touch(css, "value", json!({"text": text})).await;
    }

    /// Does something to an element, once it is there.
    async fn touch(&self, css: &str, action: &str, arguments: Value) {
        let began = Instant::now();
        let element = loop {
            match self.driver.find(css).await {
                Ok(element) => break element,
                Err(error) if began.elapsed() > PATIENCE => {
                    self.screenshot("failed").await;
                    panic!("no {css} on {}: {error}\n{}", self.address().await, self.text().await);
                }
                Err(_) => tokio::time::sleep(POLL).await,
            }
        };
        if let Err(error) = self.driver.post(&format!("{element}/{action}"), arguments).await {
            panic!("{action} of {css} on {}: {error}\n{}", self.address().await, self.text().await);
        }
    }

    /// Types wherever the focus is.
    pub async fn press(&self, keys: &str) {
        let strokes: Vec<Value> = keys
            .chars()
            .flat_map(|key| [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})])
            .collect();
        let actions = json!({"actions": [{"type": "key", "id": "keyboard", "actions": strokes}]});
        self.driver.post("/actions", actions).await.unwrap();
    }

    /// What has the focus.
    pub async fn focus(&self) -> Focus {
        const FOCUS: &str = "const it = document.activeElement, style = getComputedStyle(it);
            return {
                what: it.tagName === 'A' ? it.textContent.trim() : it.value && it.tagName === 'BUTTON' ? it.value : it.id || it.tagName,
                outlined: style.outlineStyle === 'auto' || style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,
            }";
        self.script(FOCUS).await.unwrap()
    }

    /// Presses Tab until `what` has the focus, which a person sees at each stop.
    pub async fn tab_to(&self, what: &str) {
        let mut stops = Vec::new();
        while stops.len() < 100 {
            self.press(TAB).await;
            let focus = self.focus().await;
            if focus.what != "BODY" {
                assert!(focus.outlined, "the focus is not seen on {}", focus.what);
            }
            if focus.what == what {
                return;
            }
            stops.push(focus.what);
        }
        panic!("Tab does not lead to {what}, but to {stops:?}");
    }

    /// Fails if something of the page is beside the window.
    pub async fn fits(&self) {
        // A phone makes its window wider for a page that is.
        let widths = "return [document.documentElement.clientWidth, document.documentElement.scrollWidth, innerWidth]";
        let [window, page, shown]: [u32; 3] = self.script(widths).await.unwrap();
        let (wanted, page) = (self.looks.width, page.max(shown));
        assert!(window == wanted && page <= wanted, "the page has {page} pixels, the window {wanted}");
    }

    /// Takes a picture of the whole page: `screenshots/NAME.png` in the target folder.
    pub async fn screenshot(&self, name: &str) {
        let size = self.driver.devtools("Page.getLayoutMetrics", json!({})).await["cssContentSize"].clone();
        let clip = json!({"x": 0, "y": 0, "width": self.looks.width, "height": size["height"], "scale": 1});
        let arguments = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let picture = self.driver.devtools("Page.captureScreenshot", arguments).await;
        let picture = base64::engine::general_purpose::STANDARD.decode(picture["data"].as_str().unwrap()).unwrap();
        let folder = target_dir().join("screenshots");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{name}.png")), picture).unwrap();
    }

    /// Fails with what axe finds against WCAG 2.2 AA, or against the best practice.
    pub async fn accessible(&self) {
        let found = self.driver.post("/execute/async", json!({"script": axe::script(), "args": []})).await.unwrap();
        let found: Vec<axe::Violation> = serde_json::from_value(found).unwrap();
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert!(found.is_empty(), "axe finds on {}:\n{}", self.address().await, found.join("\n"));
    }
}
