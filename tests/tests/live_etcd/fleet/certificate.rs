//! Servers whose etcd wants to see certificates.

use anyhow::ensure;
use tempfile::TempDir;
use tidewatch_tests::certificate::TestCa;

use super::outage::refusal;
use super::{Server, key, next_events};
use crate::secured::Secured;

/// An etcd that lets nobody in without a certificate, and files for `serve`.
struct Fleet {
    secured: Secured,
    members: Vec<String>,
    dir: TempDir,
}

impl Fleet {
    fn for_test() -> anyhow::Result<Option<Self>> {
        let Some(secured) = Secured::for_test(true) else {
            return Ok(None);
        };
        let dir = tempfile::tempdir()?;
        for (name, text) in [
            ("ca", &secured.ca.pem()),
            ("strange-ca", &TestCa::new().pem()),
            ("cert", &secured.client.certificate),
            ("key", &secured.client.key),
        ] {
            std::fs::write(dir.path().join(name), text)?;
        }
        let members = secured.etcd.endpoints();
        Ok(Some(Self {
            members: members.iter().map(|member| format!("https://{member}")).collect(),
            secured,
            dir,
        }))
    }

    /// An option that names a file.
    fn option(&self, option: &str, file: &str) -> String {
        format!("--{option}={}", self.dir.path().join(file).display())
    }

    /// The options for the client's certificate.
    fn identity(&self) -> [String; 2] {
        [self.option("etcd-cert", "cert"), self.option("etcd-key", "key")]
    }
}

#[tokio::test]
async fn servers_that_show_a_certificate_share_an_etcd_that_wants_one() -> anyhow::Result<()> {
    let Some(fleet) = Fleet::for_test()? else {
        return Ok(());
    };
    let (ca, [cert, key_file]) = (fleet.option("etcd-ca", "ca"), fleet.identity());
    let options = [&*ca, &cert, &key_file];
    let one = Server::with(&fleet.members, &options).await?;
    let other = Server::with(&fleet.members, &options).await?;
    let mut watch = other.watch().await?;
    let written = one.ks.put(key("k"), "v").await?;
    assert_eq!(
        next_events(&mut watch).await?,
        (written.0, vec!["k=v".to_owned()])
    );
    let status = one.status()?;
    assert_eq!(status["upstream"]["state"], "live", "{status}");
    assert_eq!(status["upstream"]["endpoints"][0], fleet.members[0]);
    Ok(())
}

#[tokio::test]
async fn a_start_without_a_certificate_or_with_a_wrong_ca_ends_with_what_tls_says() -> anyhow::Result<()> {
    let Some(fleet) = Fleet::for_test()? else {
        return Ok(());
    };
    let [cert, key_file] = fleet.identity();
    let (ca, strange) = (
        fleet.option("etcd-ca", "ca"),
        fleet.option("etcd-ca", "strange-ca"),
    );
    for (options, words) in [
        // etcd's Go says it in one of two ways, by its version.
        (vec![&*ca], ["CertificateRequired", "BadCertificate"]),
        (vec![&*strange, &cert, &key_file], ["UnknownIssuer"; 2]),
    ] {
        let told = refusal(&fleet.members, &options)?;
        ensure!(
            words.iter().any(|word| told.contains(word)),
            "none of {words:?} in {told:?}"
        );
        ensure!(
            told.contains(&fleet.members[0]) && told.contains("check the CA"),
            "{told}"
        );
    }
    // It was not etcd's fault.
    let options = [&*ca, &cert, &key_file];
    Server::with(&fleet.members, &options).await?;
    ensure!(fleet.secured.etcd.is_leader(0));
    Ok(())
}
