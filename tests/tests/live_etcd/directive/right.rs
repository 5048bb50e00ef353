//! Users, passwords, and rights that change.

use etcd_client::{Client, ConnectOptions, Permission, PermissionType, RoleRevokePermissionOptions};
use tidewatch_directives::Connection;
use tidewatch_etcd::{Error, EtcdDirectiveStore, EtcdDirectiveStoreBuilder};
use tidewatch_tests::etcd_cluster::{EtcdCluster, Setup};
use tidewatch_tests::tcp_proxy::TcpProxy;

use super::flaw::until_watchers;
use super::naive::Naive;
use super::paced::PacedClock;
use super::start::text;
use super::{CEILING, KEY, ids, set, until, until_ids, until_live, until_status};

/// The pauses of a store that was refused are half a minute; here they are some seconds.
const HASTE: f64 = 8.0;

/// An etcd that asks for passwords, with a user who may read the key.
struct Guarded {
    etcd: EtcdCluster,
    root: Client,
}

impl Guarded {
    async fn for_test(args: &[&str]) -> Option<Self> {
        let etcd = EtcdCluster::set_up(&Setup {
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            ..Setup::default()
        })?;
        let mut open = Client::connect(etcd.endpoints(), None).await.unwrap();
        open.role_add("root").await.unwrap();
        open.user_add("root", "root's", None).await.unwrap();
        open.user_grant_role("root", "root").await.unwrap();
        open.role_add("reader").await.unwrap();
        open.user_add("node", "node's", None).await.unwrap();
        open.user_grant_role("node", "reader").await.unwrap();
        open.auth_enable().await.unwrap();
        let options = ConnectOptions::new()
            .with_user("root", "root's")
            .with_auto_token_refresh(true);
        let root = Client::connect(etcd.endpoints(), Some(options)).await.unwrap();
        let mut guarded = Self { etcd, root };
        guarded.grant().await;
        Some(guarded)
    }

    async fn grant(&mut self) {
        let read = Permission::new(PermissionType::Read, KEY);
        self.root.role_grant_permission("reader", read).await.unwrap();
    }

    async fn revoke(&mut self) {
        let options = RoleRevokePermissionOptions::new();
        self.root
            .role_revoke_permission("reader", KEY, Some(options))
            .await
            .unwrap();
    }

    async fn publish(&mut self, value: String) {
        self.root.put(KEY, value, None).await.unwrap();
    }

    fn builder(&self) -> EtcdDirectiveStoreBuilder {
        EtcdDirectiveStore::builder(self.etcd.endpoints(), KEY).start_budget(CEILING)
    }
}

#[tokio::test]
async fn a_user_with_the_right_reads_and_others_fail_the_start() {
    let Some(mut guarded) = Guarded::for_test(&[]).await else {
        return;
    };
    guarded.publish(set(&["a"])).await;
    let ours = guarded.builder().user("node", "node's").connect().await.unwrap();
    until_ids(&ours, &["a"]).await;

    let wrong = guarded
        .builder()
        .user("node", "another's")
        .connect()
        .await
        .unwrap_err();
    assert!(matches!(wrong, Error::Denied { .. }), "{wrong:?}");
    assert!(text(&wrong).contains("authentication failed"), "{}", text(&wrong));
    assert!(!text(&wrong).contains("another's"), "no password in an error");
    let nobody = guarded.builder().connect().await.unwrap_err();
    assert!(matches!(nobody, Error::Denied { .. }), "{nobody:?}");
    guarded.revoke().await;
    let denied = guarded
        .builder()
        .user("node", "node's")
        .connect()
        .await
        .unwrap_err();
    assert!(text(&denied).contains("permission denied"), "{}", text(&denied));
}

#[tokio::test]
async fn f13_a_store_shows_a_password_and_the_loop_cannot() {
    let Some(mut guarded) = Guarded::for_test(&[]).await else {
        return;
    };
    guarded.publish(set(&["a"])).await;
    let error = Naive::connect(&guarded.etcd.endpoints())
        .await
        .map(drop)
        .unwrap_err();
    assert!(error.to_string().contains("user name is empty"), "{error}");
    let ours = guarded.builder().user("node", "node's").connect().await.unwrap();
    until_ids(&ours, &["a"]).await;
}

#[tokio::test]
async fn a_password_where_none_is_asked_for_does_not_hurt() {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let ours = EtcdDirectiveStore::builder(etcd.endpoints(), KEY)
        .user("node", "node's")
        .connect();
    assert!(ids(&ours.await.unwrap()).is_empty());
}

#[tokio::test]
async fn f09_a_refused_watch_is_noticed_though_its_stream_stays_open() {
    let Some(mut guarded) = Guarded::for_test(&[]).await else {
        return;
    };
    guarded.publish(set(&["a"])).await;
    let options = ConnectOptions::new().with_user("node", "node's");
    let naive = Naive::with_gate(&guarded.etcd.endpoints(), Some(options))
        .await
        .unwrap();
    naive.until_at_gate().await;
    let ours = guarded
        .builder()
        .user("node", "node's")
        .clock(PacedClock::shared(HASTE))
        .connect()
        .await
        .unwrap();
    guarded.revoke().await;
    naive.pass();
    // A live watch is not ended by that; what is asked again and again tells.
    let denied = |status: &tidewatch_directives::Status| matches!(&status.connection, Connection::Interrupted { error, .. } if error.contains("permission denied"));
    until_status(&ours, denied).await;
    assert_eq!(ids(&ours), ["a"]);
    until_watchers(&guarded.etcd, 0.0).await;
    guarded.grant().await;
    guarded.publish(set(&["b"])).await;
    until_ids(&ours, &["b"]).await;
    until_live(&ours).await;
    // The loop was refused in its stream, which it holds open and takes for a watch.
    assert_eq!(naive.ids(), ["a"]);
}

#[tokio::test]
async fn f09_guards_that_are_set_up_while_a_store_lives_are_noticed() {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return;
    };
    let naive = Naive::connect(&etcd.endpoints()).await.unwrap();
    let ours = EtcdDirectiveStore::builder(etcd.endpoints(), KEY)
        .clock(PacedClock::shared(HASTE))
        .connect()
        .await
        .unwrap();
    until_watchers(&etcd, 2.0).await;
    let mut open = Client::connect(etcd.endpoints(), None).await.unwrap();
    open.role_add("root").await.unwrap();
    open.user_add("root", "root's", None).await.unwrap();
    open.user_grant_role("root", "root").await.unwrap();
    open.auth_enable().await.unwrap();
    let denied = |status: &tidewatch_directives::Status| matches!(&status.connection, Connection::Interrupted { error, .. } if error.contains("user name is empty"));
    until_status(&ours, denied).await;
    until_watchers(&etcd, 1.0).await;
    // The loop reads on what it has no right to, and nobody is told.
    let options = ConnectOptions::new().with_user("root", "root's");
    let mut root = Client::connect(etcd.endpoints(), Some(options)).await.unwrap();
    root.put(KEY, set(&["a"]), None).await.unwrap();
    assert!(until(|| naive.ids() == ["a"]).await);
    assert!(ids(&ours).is_empty());
}

#[tokio::test]
async fn a_token_that_expires_is_renewed_and_a_watch_opened_again_with_a_new_one() {
    let Some(mut guarded) = Guarded::for_test(&["--auth-token-ttl=1"]).await else {
        return;
    };
    guarded.publish(set(&["a"])).await;
    let proxy = TcpProxy::start(guarded.etcd.address(0)).await.unwrap();
    let ours = EtcdDirectiveStore::builder([proxy.address().to_string()], KEY)
        .user("node", "node's")
        .connect()
        .await
        .unwrap();
    // The tokens of this etcd live for a second: several expire while it watches.
    let asked = guarded.etcd.metric(0, "etcd_debugging_mvcc_range_total").unwrap();
    let many = || {
        guarded
            .etcd
            .metric(0, "etcd_debugging_mvcc_range_total")
            .is_ok_and(|now| now >= asked + 3.0)
    };
    assert!(until(many).await);
    until_live(&ours).await;
    proxy.cut();
    guarded.publish(set(&["b"])).await;
    until_ids(&ours, &["b"]).await;
    until_live(&ours).await;
}
