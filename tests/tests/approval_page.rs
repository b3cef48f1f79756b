//! The approval page as people use it: in a browser, over TLS, with GitLab on another site.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

use slipway_domain::protocol::On;
use slipway_local::job::NewsJob;
use slipway_tests::browser::{Browser, Looks};
use slipway_tests::{World, in_world, job, on, tiny, unique};

const PHONE: Looks = Looks { width: 360, dark: false, javascript: true };
const DARK: Looks = Looks { width: 1280, dark: true, javascript: true };

/// A deployment to prod that waits for a person.
struct Asked {
    dana: NewsJob,
    on: On,
    execution: String,
    link: String,
}

impl Asked {
    async fn new(world: &World, name: &str) -> Self {
        let (dana, on) = (job("create-change", "main"), on("prod", &format!("{name}-{}", unique())));
        let execution = world.begin(&dana, &on, &tiny(name)).await;
        let link = world.asked(&dana, &on).await;
        Self { dana, on, execution, link }
    }
}

#[test]
fn the_page_fits_and_is_accessible() {
    in_world(|world| async move {
        let asked = Asked::new(world, "looks").await;
        for (name, looks) in [("open", Looks::default()), ("360", PHONE), ("dark", DARK)] {
            let browser = Browser::start(world, looks).await;
            browser.open(&asked.link).await;
            browser.see("Deploy tiny to prod?").await;
            browser.screenshot(name).await;
            browser.accessible().await;
            browser.fits().await;
        }
    });
}
