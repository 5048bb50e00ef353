//! Declaring workloads and removing them, on a real keyspace.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use tidewatch_core::Keyspace;
use tidewatch_fleet::{Error, Kind, View, Workload, declaration, declare, remove};

async fn shop(ks: &Keyspace) -> serde_json::Value {
    let kv = ks.get("/workloads/shop").await.unwrap().unwrap();
    serde_json::from_slice(&kv.value).unwrap()
}

fn workload(kind: Kind) -> Workload {
    Workload::new("shop".parse().unwrap(), kind)
}

#[tokio::test]
async fn a_workload_is_declared_once_and_declaring_it_again_writes_nothing() {
    let ks = Keyspace::memory();
    let (stored, revision) = declare(&ks, workload(Kind::Stack)).await.unwrap();
    assert_eq!(stored, workload(Kind::Stack));
    let (_, again) = declare(&ks, workload(Kind::Stack)).await.unwrap();
    assert_eq!(again, revision);
    assert_eq!(ks.status().await.unwrap().revision, revision);
}

#[tokio::test]
async fn fields_that_a_new_declaration_does_not_name_are_kept_and_those_it_names_are_replaced() {
    let ks = Keyspace::memory();
    let raw = r#"{"id":"shop","kind":"stack","name":"old","owner":"a","tier":1}"#;
    ks.put("/workloads/shop", raw).await.unwrap();
    let mut new = workload(Kind::Project);
    new.extra.insert("tier".into(), 2.into());
    declare(&ks, new).await.unwrap();
    let stored = shop(&ks).await;
    assert_eq!((&stored["owner"], &stored["tier"]), (&"a".into(), &2.into()));
    assert_eq!(
        (&stored["kind"], &stored["name"]),
        (&"project".into(), &"".into())
    );
}

#[tokio::test]
async fn what_is_stored_and_is_no_workload_is_replaced() {
    let ks = Keyspace::memory();
    ks.put("/workloads/shop", "nonsense").await.unwrap();
    declare(&ks, workload(Kind::Image)).await.unwrap();
    assert_eq!(shop(&ks).await["kind"], "image");
}

#[tokio::test]
async fn ids_of_adopted_projects_are_refused_with_a_reason() {
    let ks = Keyspace::memory();
    let reserved = Workload::new("compose-blog".parse().unwrap(), Kind::Compose);
    let error = declare(&ks, reserved.clone()).await.unwrap_err();
    assert!(matches!(error, Error::Reserved { .. }));
    assert!(error.to_string().contains("choose another id"), "{error}");
    declaration::declare_any(&ks, reserved.clone()).await.unwrap();
    let error = remove(&ks, &reserved.id, false).await.unwrap_err();
    assert!(matches!(error, Error::Reserved { .. }));
    remove(&ks, &reserved.id, true).await.unwrap();
}

#[tokio::test]
async fn the_kind_of_compose_projects_is_refused_by_name_and_nothing_is_written() {
    let ks = Keyspace::memory();
    let error = declare(&ks, workload(Kind::Compose)).await.unwrap_err();
    assert!(matches!(error, Error::ReservedKind { .. }));
    assert!(
        error.to_string().contains("kind \"compose\" is reserved"),
        "{error}"
    );
    assert_eq!(ks.get("/workloads/shop").await.unwrap(), None);
}

#[test]
fn a_declaration_in_json_is_checked_and_told_what_is_wrong() {
    for (json, told) in [
        (
            r#"{"id":"shop","kind":"pod"}"#,
            "unknown kind \"pod\"; it must be one of stack",
        ),
        (
            r#"{"id":"sh op","kind":"stack"}"#,
            "invalid workload id \"sh op\": ' ' at byte 2",
        ),
        (r#"{"kind":"stack"}"#, "missing field `id`"),
        (r#"{"id":"shop"}"#, "missing field `kind`"),
        (
            r#"{"id":"shop","kind":"stack","expect":{"web":{"min":-1}}}"#,
            "invalid value: integer `-1`",
        ),
        ("[]", "invalid type"),
        ("{", "EOF while parsing"),
    ] {
        let error = declaration::parse(json.as_bytes()).unwrap_err();
        assert!(error.to_string().contains(told), "{json}: {error}");
    }
    let parsed = declaration::parse(br#"{"id":"shop","kind":"stack","owner":"a"}"#).unwrap();
    assert_eq!(parsed.extra["owner"], "a");
}

#[tokio::test]
async fn removing_a_workload_takes_its_rows_and_nobody_elses() {
    let ks = Keyspace::memory();
    declare(&ks, workload(Kind::Stack)).await.unwrap();
    for key in [
        "/containers/shop/h1/web",
        "/containers/shop/h2/web",
        "/containers/shop2/h1/web",
    ] {
        ks.put(key, "{}").await.unwrap();
    }
    let (revision, removed) = remove(&ks, &"shop".parse().unwrap(), false).await.unwrap();
    assert_eq!(removed, 3);
    assert_eq!(
        ks.status().await.unwrap().revision,
        revision,
        "all at one revision"
    );
    assert!(ks.get("/containers/shop2/h1/web").await.unwrap().is_some());
    let error = remove(&ks, &"shop".parse().unwrap(), false).await.unwrap_err();
    assert!(matches!(error, Error::WorkloadNotFound { .. }));
}

#[tokio::test]
async fn a_workload_with_deploy_rows_is_removed_only_by_force_and_then_with_them() {
    let ks = Keyspace::memory();
    declare(&ks, workload(Kind::Project)).await.unwrap();
    for key in ["/deploy/shop/blue", "/deploy/shop/green"] {
        ks.put(key, "{}").await.unwrap();
    }
    let id = "shop".parse().unwrap();
    let error = remove(&ks, &id, false).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "workload \"shop\" still has deploy rows (/deploy/shop/blue and 1 more); remove them first, or force it"
    );
    assert_eq!(View::read(&ks).await.unwrap().1.deploy.len(), 2);
    let (_, removed) = remove(&ks, &id, true).await.unwrap();
    assert_eq!(removed, 3);
}

#[tokio::test]
async fn a_view_that_is_read_again_decodes_what_changed_and_forgets_what_is_gone() {
    let ks = Keyspace::memory();
    declare(&ks, workload(Kind::Stack)).await.unwrap();
    ks.put("/deploy/shop/blue", "{}").await.unwrap();
    ks.put("/deploy/shop/bad", "[").await.unwrap();
    let (_, mut view) = View::read(&ks).await.unwrap();
    assert_eq!(
        (view.workloads.len(), view.deploy.len(), view.skipped.len()),
        (1, 1, 1)
    );
    ks.put("/deploy/shop/blue", r#"{"subdomain":"x"}"#).await.unwrap();
    ks.delete(tidewatch_core::key("/deploy/shop/bad").unwrap())
        .await
        .unwrap();
    ks.delete(tidewatch_core::key("/workloads/shop").unwrap())
        .await
        .unwrap();
    view.refresh(&ks).await.unwrap();
    assert_eq!((view.workloads.len(), view.skipped.len()), (0, 0));
    assert_eq!(view.deploy.values().next().unwrap().value.subdomain, "x");
}

#[tokio::test]
async fn a_view_takes_nothing_over_from_another_keyspace_where_revisions_happen_to_agree() {
    let (one, other) = (Keyspace::memory(), Keyspace::memory());
    one.put("/deploy/shop/blue", r#"{"subdomain":"one"}"#)
        .await
        .unwrap();
    other
        .put("/deploy/shop/blue", r#"{"subdomain":"other"}"#)
        .await
        .unwrap();
    let (_, mut view) = View::read(&one).await.unwrap();
    view.refresh(&other).await.unwrap();
    assert_eq!(view.deploy.values().next().unwrap().value.subdomain, "other");
}
