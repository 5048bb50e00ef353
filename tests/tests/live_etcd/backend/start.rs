//! Who is let in, and with what words others are not.

use std::time::Duration;

use etcd_client::{Client, ConnectOptions, Permission, PermissionType};
use tidewatch_core::Error as KeyspaceError;
use tidewatch_etcd::{Error, EtcdBackend};
use tidewatch_tests::etcd_cluster::EtcdCluster;
use tidewatch_tests::tcp_proxy::TcpProxy;

use super::{Served, client};

#[tokio::test]
async fn a_namespace_inside_or_around_another_is_refused_and_leaves_nothing() {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let namespaced = |prefix: &'static str| EtcdBackend::builder(etcd.endpoints()).namespace(prefix);
    let _fleet = Served::new(namespaced("/fleet/")).await;
    for overlapping in ["", "/", "/fleet", "/fleet/a/"] {
        let error = namespaced(overlapping).connect().await.unwrap_err();
        assert!(
            matches!(&error, Error::Overlap { other, .. } if other == "/fleet/"),
            "{overlapping}: {error}"
        );
        assert!(error.to_string().contains("\"/fleet/\""), "{error}");
    }
    let _beside = Served::new(namespaced("/fleet2/")).await;
    let mut direct = client(etcd.endpoints()).await;
    let all = etcd_client::GetOptions::new().with_all_keys().with_keys_only();
    let keys = direct.get("", Some(all)).await.unwrap();
    let keys: Vec<_> = keys
        .kvs()
        .iter()
        .map(|kv| kv.key_str().unwrap().to_owned())
        .collect();
    assert_eq!(keys, ["/fleet/", "/fleet2/"]);
}

#[tokio::test]
async fn a_part_of_what_is_all_in_use_is_refused() {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let _whole = Served::at(etcd.endpoints()).await;
    let error = EtcdBackend::builder(etcd.endpoints())
        .namespace("/fleet/")
        .connect()
        .await;
    let error = error.unwrap_err();
    assert!(
        matches!(&error, Error::Overlap { other, .. } if other.is_empty()),
        "{error}"
    );
}

#[tokio::test]
async fn a_key_of_somebody_elses_where_the_marker_belongs_is_named() {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    client(etcd.endpoints())
        .await
        .put("/fleet/", "mine", None)
        .await
        .unwrap();
    let error = EtcdBackend::builder(etcd.endpoints())
        .namespace("/fleet/")
        .connect()
        .await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("/fleet/") && error.contains("somebody else's"),
        "{error}"
    );
}

#[tokio::test]
async fn wrong_passwords_and_missing_rights_are_errors_at_once() {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let mut open = client(etcd.endpoints()).await;
    open.role_add("root").await.unwrap();
    open.user_add("root", "root's", None).await.unwrap();
    open.user_grant_role("root", "root").await.unwrap();
    open.role_add("fleet").await.unwrap();
    let below = Permission::new(PermissionType::Readwrite, "/fleet/").with_prefix();
    open.role_grant_permission("fleet", below).await.unwrap();
    open.role_add("reader").await.unwrap();
    let read = Permission::new(PermissionType::Read, "/fleet/").with_prefix();
    open.role_grant_permission("reader", read).await.unwrap();
    for (user, role) in [("server", "fleet"), ("guest", "reader")] {
        open.user_add(user, "secret", None).await.unwrap();
        open.user_grant_role(user, role).await.unwrap();
    }
    open.auth_enable().await.unwrap();
    let as_user = |user: &'static str, password: &'static str| {
        EtcdBackend::builder(etcd.endpoints())
            .namespace("/fleet/")
            .start_budget(super::CEILING)
            .user(user, password)
    };
    for (user, password) in [("server", "another"), ("nobody", "secret"), ("guest", "secret")] {
        let error = as_user(user, password).connect().await.unwrap_err();
        assert!(matches!(error, Error::Denied { .. }), "{user}: {error:?}");
        assert!(!format!("{error:?} {error}").contains(password), "{error:?}");
    }
    // Whoever may use the namespace and nothing else is served.
    let served = Served::new(as_user("server", "secret")).await;
    served.ks.put("/a", "1").await.unwrap();
    assert_eq!(served.ks.get("/a").await.unwrap().unwrap().value, "1");
    // A right that is taken away is a word of its own.
    let options = ConnectOptions::new().with_user("root", "root's");
    let mut root = Client::connect(etcd.endpoints(), Some(options)).await.unwrap();
    root.user_revoke_role("server", "fleet").await.unwrap();
    let error = served.ks.put("/a", "2").await.unwrap_err();
    assert!(
        matches!(error, KeyspaceError::PermissionDenied { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_etcd_that_does_not_answer_fails_the_start_within_its_budget() {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let proxy = TcpProxy::start(etcd.address(0)).await.unwrap();
    proxy.refuse(true);
    let connect = EtcdBackend::builder([proxy.address().to_string()])
        .start_budget(Duration::from_secs(2))
        .connect();
    let error = tokio::time::timeout(super::CEILING, connect)
        .await
        .unwrap()
        .unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
}
