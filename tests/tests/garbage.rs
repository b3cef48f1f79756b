//! What nobody needs any more goes, and nothing else: the cleanup's daily look at bundles, releases and artifacts.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test may, and its time is now"
)]

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_dynamodb::types::AttributeValue as A;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use slipway_bundle::{Folder, Limits};
use slipway_domain::garbage::{MARKS_KEY, Marks};
use slipway_domain::names::Digest;
use slipway_domain::protocol::On;
use slipway_local::TOOLING;
use slipway_tests::{Ended, World, in_world, job, launch, on, tiny, unique};

/// The tests share one bucket, and each lets time pass there.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn named(prefix: &str) -> String {
    format!("{prefix}-{}", unique())
}

fn green(ended: &Ended) {
    assert_eq!(ended.status, "SUCCEEDED", "{ended:?}");
}

/// A bundle of a template with a layer for each of `layers`, whose content is that text.
struct Built {
    digest: Digest,
    zip: Vec<u8>,
}

fn built(text: &str, layers: &[&str]) -> Built {
    let folder = tempfile::tempdir().unwrap();
    let mut template = tiny(text);
    let mut folders = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let name = format!("layer{number}");
        std::fs::create_dir(folder.path().join(&name)).unwrap();
        std::fs::write(folder.path().join(&name).join("text"), layer).unwrap();
        let resource = format!(
            "Resources:\n  L{number}: {{Type: AWS::Lambda::LayerVersion, Properties: {{Content: {name}, LayerName: l{number}}}}}\n"
        );
        template = template.replacen("Resources:\n", &resource, 1);
        folders.push(name);
    }
    let folder = Folder::open(folder.path(), &Limits::default()).unwrap();
    let tree = folder.tree(&folders, Some(template.as_bytes())).unwrap();
    let mut zip = Vec::new();
    tree.write_zip(&mut zip).unwrap();
    Built { digest: Digest::new(tree.listing().digest().as_str()).unwrap(), zip }
}

/// The bucket, as the tests look at it.
struct Store {
    world: &'static World,
}

impl Store {
    async fn keys(&self, prefix: &str) -> BTreeSet<String> {
        let pages = self.world.s3.list_objects_v2().bucket(self.world.bucket()).prefix(prefix).into_paginator().send();
        let mut pages = pages;
        let mut keys = BTreeSet::new();
        while let Some(page) = pages.next().await {
            keys.extend(page.unwrap().contents.unwrap_or_default().into_iter().filter_map(|object| object.key));
        }
        keys
    }

    async fn has(&self, prefix: &str) -> bool {
        !self.keys(prefix).await.is_empty()
    }

    async fn read(&self, key: &str) -> Option<Vec<u8>> {
        let object = self.world.s3.get_object().bucket(self.world.bucket()).key(key).send().await.ok()?;
        Some(object.body.collect().await.unwrap().to_vec())
    }

    async fn put(&self, key: &str, bytes: Vec<u8>) {
        let put = self.world.s3.put_object().bucket(self.world.bucket()).key(key).body(bytes.into());
        put.send().await.unwrap();
    }

    async fn delete(&self, key: &str) {
        self.world.s3.delete_object().bucket(self.world.bucket()).key(key).send().await.unwrap();
    }

    /// What a release's manifest names.
    async fn artifacts(&self, release: &Digest) -> BTreeSet<String> {
        let manifest = self.read(&format!("releases/{release}/manifest.json")).await.unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        let artifacts = manifest["artifacts"].as_array().unwrap().iter();
        artifacts.map(|artifact| artifact["key"].as_str().unwrap().to_owned()).collect()
    }

    /// Lets everything be a month old.
    async fn age(&self) {
        let month = Timestamp::now() - SignedDuration::from_hours(30 * 24);
        for prefix in ["bundles/", "releases/", "artifacts/"] {
            self.world.age(prefix, month).await;
        }
    }

    async fn marks(&self) -> BTreeMap<String, Timestamp> {
        let marks = self.read(MARKS_KEY).await.map(|bytes| serde_json::from_slice::<Marks>(&bytes).unwrap());
        marks.map(|marks| marks.marked).unwrap_or_default()
    }

    /// Lets a day pass since the last look.
    async fn next_day(&self) {
        let before = |at: Timestamp| at - SignedDuration::from_hours(24);
        let Marks { looked_at, marked, .. } = match self.read(MARKS_KEY).await {
            Some(bytes) => serde_json::from_slice(&bytes).unwrap(),
            None => Marks { since: Timestamp::now(), looked_at: Timestamp::now(), marked: BTreeMap::new() },
        };
        let marked = marked.into_iter().map(|(unit, at)| (unit, before(at))).collect();
        let since = Timestamp::now() - SignedDuration::from_hours(90 * 24);
        let marks = Marks { since, looked_at: before(looked_at), marked };
        self.put(MARKS_KEY, serde_json::to_vec(&marks).unwrap()).await;
    }

    /// Sweeps on the next day: what became of the garbage.
    async fn sweep(&self) -> Value {
        self.next_day().await;
        let swept = self.world.sweep().await;
        assert_eq!((&swept["garbage"]["looked"], &swept["failed"]), (&json!(true), &json!(0)), "{swept}");
        swept["garbage"].clone()
    }

    async fn deploy(&self, on: &On, built: &Built) {
        let job = job("deploy-dev", "feature");
        let arn = self.world.begin_launch(&job, on, launch(&built.digest), built.zip.clone()).await;
        green(&self.world.end(&arn).await);
    }
}

fn release(built: &Built) -> String {
    format!("releases/{}", built.digest)
}

fn bundle_of(built: &Built) -> String {
    format!("bundles/101/{}.zip", built.digest)
}

#[test]
fn what_was_live_before_the_last_goes_and_nothing_else() {
    in_world(|world| async move {
        let _alone = ONE_AT_A_TIME.lock().await;
        let (store, on) = (Store { world }, on("dev", &named("review/garbage")));
        let (shared, text) = (named("shared"), named("text"));
        let [a, b, c] = ["a", "b", "c"].map(|own| built(&format!("{text}-{own}"), &[&shared, &format!("{text}{own}")]));
        for built in [&a, &b, &c] {
            store.deploy(&on, built).await;
        }
        let [of_a, of_b, of_c] =
            [store.artifacts(&a.digest).await, store.artifacts(&b.digest).await, store.artifacts(&c.digest).await];
        let own: Vec<String> = of_a.difference(&of_b).cloned().collect();
        assert_eq!((of_a.len(), own.len()), (2, 1), "one is shared");

        // Nothing is old yet.
        store.sweep().await;
        assert!(!store.marks().await.contains_key(&release(&a)));
        assert_eq!(world.sweep().await["garbage"]["looked"], false, "it looks once a day");

        // The first day: the release is marked. What it names is named.
        store.age().await;
        store.next_day().await;
        let planned = world.invoke(world.control_plane.output("SweepFunction"), &json!({"plan": {}})).await.unwrap();
        let planned = planned["garbage"]["plan"]["mark"].as_array().unwrap().clone();
        assert!(planned.contains(&json!(release(&a))) && !planned.contains(&json!(release(&b))), "{planned:?}");
        assert!(!store.marks().await.contains_key(&release(&a)), "a plan changes nothing");
        store.sweep().await;
        let marks = store.marks().await;
        assert!(marks.contains_key(&release(&a)) && !marks.contains_key(&own[0]), "{marks:?}");
        assert!(![&b, &c].into_iter().any(|built| marks.contains_key(&release(built))), "{marks:?}");
        assert!(store.has(&release(&a)).await, "only marked");

        // The second: it goes. The third: its bundle and its artifact are marked. The fourth: they go.
        store.sweep().await;
        assert!(!store.has(&release(&a)).await);
        assert!(store.has(&bundle_of(&a)).await && store.has(&own[0]).await);
        store.sweep().await;
        let marks = store.marks().await;
        assert!(marks.contains_key(&bundle_of(&a)) && marks.contains_key(&own[0]), "{marks:?}");
        store.sweep().await;
        assert!(!store.has(&bundle_of(&a)).await && !store.has(&own[0]).await);
        store.sweep().await;
        let marks = store.marks().await;
        assert!(
            !marks.keys().any(|unit| unit.contains(a.digest.as_str()) || *unit == own[0]),
            "what is gone is forgotten"
        );

        // All of what is live, and of what was before, is there: it can be gone back to.
        for (built, artifacts) in [(&b, &of_b), (&c, &of_c)] {
            assert_eq!(store.keys(&release(built)).await.len(), 3);
            assert!(store.has(&bundle_of(built)).await);
            for artifact in artifacts {
                assert!(store.has(artifact).await, "{artifact}");
            }
        }
        green(&world.rollback(&job("rollback", "feature"), &on).await);
        // What went is sent and made again.
        let again = job("deploy-dev", "feature");
        let admitted = world.admit(&again, &on, launch(&a.digest), a.zip.len()).await.unwrap();
        assert!(admitted.upload.is_some());
        world.upload(&admitted, a.zip.clone()).await;
        let arn = world.start_admitted(&admitted, &again).await;
        green(&world.end(&arn).await);
        assert!(store.has(&own[0]).await);
    });
}

#[test]
fn what_waits_for_people_keeps_its_release() {
    in_world(|world| async move {
        let _alone = ONE_AT_A_TIME.lock().await;
        let (store, on) = (Store { world }, on("prod", &named("waits")));
        let (dana, built) = (job("create-change", "main"), built(&named("waits"), &[&named("layer")]));
        let arn = world.begin_launch(&dana, &on, launch(&built.digest), built.zip.clone()).await;
        let link = world.asked(&dana, &on).await;
        let artifacts = store.artifacts(&built.digest).await;
        store.age().await;
        for _ in 0..4 {
            store.sweep().await;
        }
        assert_eq!(store.keys(&release(&built)).await.len(), 3);
        for artifact in &artifacts {
            assert!(store.has(artifact).await, "{artifact}");
        }
        // One that began before deployments were noted as open is known by its own row.
        world.set_in_row(&on, "open", &json!([])).await;
        store.sweep().await;
        store.sweep().await;
        assert!(!store.marks().await.contains_key(&release(&built)));
        assert_eq!(world.decide(&link, "approve", &dana.clone().played_by(8, "release-manager")).await.0, 200);
        green(&world.end(&arn).await);
    });
}

#[test]
fn of_two_looks_at_once_one_counts() {
    in_world(|world| async move {
        let _alone = ONE_AT_A_TIME.lock().await;
        let (store, on) = (Store { world }, on("dev", &named("review/two")));
        let [old, _, _] = [1, 2, 3].map(|_| built(&named("two"), &[&named("layer")]));
        let newer = [built(&named("two"), &[]), built(&named("two"), &[])];
        store.deploy(&on, &old).await;
        for built in &newer {
            store.deploy(&on, built).await;
        }
        store.age().await;
        store.sweep().await;
        assert!(store.marks().await.contains_key(&release(&old)));
        store.next_day().await;
        let swept = futures::join!(world.sweep(), world.sweep(), world.sweep());
        let looked = [&swept.0, &swept.1, &swept.2].map(|swept| swept["garbage"]["looked"] == true);
        assert_eq!(looked.into_iter().filter(|looked| *looked).count(), 1, "{swept:?}");
        assert!([&swept.0, &swept.1, &swept.2].iter().all(|swept| swept["failed"] == 0), "{swept:?}");
        assert!(!store.has(&release(&old)).await);
    });
}

#[test]
fn a_look_that_died_is_finished_by_the_next() {
    in_world(|world| async move {
        let _alone = ONE_AT_A_TIME.lock().await;
        let (store, on) = (Store { world }, on("dev", &named("review/died")));
        let built = [1, 2, 3].map(|_| built(&named("died"), &[&named("layer")]));
        for built in &built {
            store.deploy(&on, built).await;
        }
        let old = &built[0];
        store.age().await;
        store.sweep().await;
        // It deletes the note that a project had the bundle, and no more.
        let deny = json!({"Version": "2012-10-17", "Statement": [{
            "Sid": "Dies", "Effect": "Deny", "Action": "s3:DeleteObject", "Resource": "arn:aws:s3:::*/releases/*/manifest.json",
        }]});
        let iam = world.iam(TOOLING);
        let policy = iam.put_role_policy().role_name("slipway-sweep").policy_name("dies");
        policy.policy_document(deny.to_string()).send().await.unwrap();
        let died = store.sweep().await;
        iam.delete_role_policy().role_name("slipway-sweep").policy_name("dies").send().await.unwrap();
        assert!(died["failed"].as_u64() >= Some(1), "{died}");
        let left = store.keys(&release(old)).await;
        assert_eq!(left.len(), 2, "{left:?}");
        // A job sends its bundle again, as it must: what is there may go at any moment.
        let again = job("deploy-dev", "feature");
        let admitted = world.admit(&again, &on, launch(&old.digest), old.zip.len()).await.unwrap();
        assert!(admitted.upload.is_some());
        store.sweep().await;
        assert!(!store.has(&release(old)).await);
        store.sweep().await;
        store.sweep().await;
        assert!(!store.has(&bundle_of(old)).await);
    });
}

#[test]
fn what_is_not_known_to_be_unused_stays() {
    in_world(|world| async move {
        let _alone = ONE_AT_A_TIME.lock().await;
        let (store, on) = (Store { world }, on("dev", &named("review/unknown")));
        let built = [1, 2, 3].map(|_| built(&named("unknown"), &[&named("layer")]));
        for built in &built {
            store.deploy(&on, built).await;
        }
        let orphan = format!("artifacts/{}", Digest::of(named("orphan").as_bytes()));
        store.put(&orphan, b"orphan".to_vec()).await;
        store.age().await;
        // A row of another version: who knows what it names.
        let key = |name: &str, value: String| (name.to_owned(), A::S(value));
        let pk = key("pk", format!("ENV#101#tiny#dev#{}", named("unreadable")));
        let sk = key("sk", "META".to_owned());
        let put = world.dynamodb.put_item().table_name(world.control_plane.output("TableName"));
        let put = put.set_item(Some([pk.clone(), sk.clone()].into()));
        let put = put.item("version", A::N("1".into())).item("row", A::M([key("shape", "unknown".into())].into()));
        let put =
            put.item("listed_in", A::S("LISTED#1".into())).item("listed_as", A::S("101#dev#tiny#unreadable".into()));
        put.send().await.unwrap();
        store.next_day().await;
        let swept = world.sweep().await;
        assert_eq!((&swept["failed"], &swept["garbage"]["looked"]), (&json!(1), &json!(false)), "{swept}");
        assert!(!store.marks().await.contains_key(&release(&built[0])));
        let delete = world.dynamodb.delete_item().table_name(world.control_plane.output("TableName"));
        delete.set_key(Some([pk, sk].into())).send().await.unwrap();

        // A manifest that cannot be read names nobody knows which artifacts: only those stay.
        let manifest = format!("{}/manifest.json", release(&built[2]));
        let known = store.read(&manifest).await.unwrap();
        store.put(&manifest, b"{}".to_vec()).await;
        for _ in 0..3 {
            assert_eq!(store.sweep().await["artifacts_unknown"], true);
        }
        assert!(store.has(&orphan).await && !store.marks().await.contains_key(&orphan));
        assert!(!store.has(&release(&built[0])).await);
        // Nor is it known of a live release without one.
        store.delete(&manifest).await;
        assert_eq!(store.sweep().await["artifacts_unknown"], true);
        store.put(&manifest, known).await;
        store.sweep().await;
        assert!(store.marks().await.contains_key(&orphan));
        store.sweep().await;
        assert!(!store.has(&orphan).await);
    });
}

#[test]
fn a_look_that_knows_nothing_of_a_deployment_spares_what_it_launches() {
    in_world(|world| async move {
        let _alone = ONE_AT_A_TIME.lock().await;
        let (store, built) = (Store { world }, built(&named("again"), &[&named("layer")]));
        let (first, second) = (on("dev", &named("review/first")), on("dev", &named("review/second")));
        store.deploy(&first, &built).await;
        store.age().await;
        store.deploy(&second, &built).await;
        // Its reading of the rows is of before both.
        for on in [&first, &second] {
            let key = |name: &str, value: String| (name.to_owned(), A::S(value));
            let row = key("pk", format!("ENV#101#tiny#dev#{}", on.environment));
            let delete = world.dynamodb.delete_item().table_name(world.control_plane.output("TableName"));
            delete.set_key(Some([row, key("sk", "META".to_owned())].into())).send().await.unwrap();
        }
        let artifacts = store.artifacts(&built.digest).await;
        for _ in 0..3 {
            store.sweep().await;
        }
        let marks = store.marks().await;
        assert!(![release(&built)].iter().chain(&artifacts).any(|unit| marks.contains_key(unit)), "{marks:?}");
        assert_eq!(store.keys(&release(&built)).await.len(), 3);
        // Once that is old, too, it is garbage: nothing else kept it.
        store.age().await;
        store.sweep().await;
        assert!(store.marks().await.contains_key(&release(&built)));
    });
}

#[test]
fn a_release_that_lost_something_is_made_anew() {
    in_world(|world| async move {
        let _alone = ONE_AT_A_TIME.lock().await;
        let (store, built) = (Store { world }, built(&named("lost"), &[&named("layer")]));
        store.deploy(&on("dev", &named("review/lost")), &built).await;
        let artifact = store.artifacts(&built.digest).await.pop_first().unwrap();
        let (template, manifest) =
            (format!("{}/template.yaml", release(&built)), format!("{}/manifest.json", release(&built)));
        for lost in [&artifact, &template, &manifest] {
            let before = store.read(lost).await.unwrap();
            store.delete(lost).await;
            store.deploy(&on("dev", &named("review/lost")), &built).await;
            assert_eq!(store.read(lost).await.unwrap(), before, "{lost}");
        }
    });
}
