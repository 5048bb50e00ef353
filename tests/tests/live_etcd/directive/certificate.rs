//! TLS and mutual TLS.

use std::time::Duration;

use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use tidewatch_etcd::{Error, EtcdDirectiveStore, EtcdDirectiveStoreBuilder, Tls};
use tidewatch_tests::certificate::TestCa;

use super::naive::Naive;
use super::start::text;
use super::{CEILING, KEY, set, until_ids};
use crate::secured::Secured;

impl Secured {
    fn builder(&self) -> EtcdDirectiveStoreBuilder {
        EtcdDirectiveStore::builder(self.etcd.endpoints(), KEY).start_budget(CEILING)
    }

    /// The loop has no way to be told of a CA, nor of a certificate of its own.
    async fn assert_naive_fails(&self) {
        let endpoint = format!("https://{}", self.etcd.address(0));
        let naive = tokio::time::timeout(Duration::from_secs(5), Naive::connect(&[endpoint])).await;
        assert!(!matches!(naive, Ok(Ok(_))), "it reads");
    }

    async fn publish(&self, value: String) {
        let tls = TlsOptions::new()
            .ca_certificate(Certificate::from_pem(self.ca.pem()))
            .identity(Identity::from_pem(&self.client.certificate, &self.client.key));
        let options = ConnectOptions::new().with_tls(tls);
        let endpoints = [format!("https://{}", self.etcd.address(0))];
        let mut client = Client::connect(endpoints, Some(options)).await.unwrap();
        client.put(KEY, value, None).await.unwrap();
    }
}

#[tokio::test]
async fn f13_a_store_reads_over_tls_and_the_loop_cannot() {
    let Some(secured) = Secured::for_test(false) else {
        return;
    };
    secured.publish(set(&["a"])).await;
    secured.assert_naive_fails().await;
    let ours = secured.builder().tls(Tls::with_ca(secured.ca.pem())).connect();
    until_ids(&ours.await.unwrap(), &["a"]).await;
}

#[tokio::test]
async fn f13_both_sides_may_show_a_certificate_and_the_loop_has_none() {
    let Some(secured) = Secured::for_test(true) else {
        return;
    };
    secured.publish(set(&["a"])).await;
    secured.assert_naive_fails().await;
    let tls = Tls::with_ca(secured.ca.pem())
        .identity(secured.client.certificate.clone(), secured.client.key.clone());
    let ours = secured.builder().tls(tls).connect().await.unwrap();
    until_ids(&ours, &["a"]).await;
    secured.publish(set(&["b"])).await;
    until_ids(&ours, &["b"]).await;
}

#[tokio::test]
async fn a_wrong_ca_fails_the_start_with_what_tls_says() {
    let Some(secured) = Secured::for_test(false) else {
        return;
    };
    let tls = Tls::with_ca(TestCa::new().pem());
    let error = secured.builder().tls(tls).connect().await.unwrap_err();
    assert!(matches!(error, Error::Tls { .. }), "{error:?}");
    assert!(text(&error).contains("UnknownIssuer"), "{}", text(&error));
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_missing_client_certificate_fails_the_start_with_what_tls_says() {
    let Some(secured) = Secured::for_test(true) else {
        return;
    };
    let tls = Tls::with_ca(secured.ca.pem());
    let error = secured.builder().tls(tls).connect().await.unwrap_err();
    assert!(matches!(error, Error::Tls { .. }), "{error:?}");
    // etcd's Go says it in one of two ways, by its version.
    let text = text(&error);
    assert!(
        ["CertificateRequired", "BadCertificate"]
            .iter()
            .any(|word| text.contains(word)),
        "{text}"
    );
}

#[tokio::test]
async fn files_of_another_kind_are_refused_before_anything_is_dialed() {
    for tls in [
        Tls::with_ca("no certificate"),
        Tls::with_ca(TestCa::new().pem()).identity("no certificate", "no key"),
    ] {
        let started = EtcdDirectiveStore::builder(["127.0.0.1:1"], KEY)
            .tls(tls)
            .connect();
        let error = started.await.unwrap_err();
        assert!(matches!(error, Error::Config { .. }), "{error:?}");
        assert!(text(&error).contains("PEM"), "{}", text(&error));
    }
}

#[tokio::test]
async fn plain_text_where_tls_is_spoken_fails_the_start() {
    let Some(secured) = Secured::for_test(false) else {
        return;
    };
    let started = secured.builder().start_budget(Duration::from_secs(2)).connect();
    let error = started.await.unwrap_err();
    assert!(
        matches!(error, Error::Unreachable { .. } | Error::Tls { .. }),
        "{error:?}"
    );
}
