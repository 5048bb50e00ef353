//! What is held of hosts, for how long, and how much.

use std::time::{Duration, SystemTime};

use tidewatch_core::ManualClock;
use tidewatch_core::txn::PutRequest;

use super::*;

struct World {
    clock: ManualClock,
    ks: Keyspace,
    reports: Reports,
}

impl World {
    async fn new() -> Self {
        Self::bounded(MAX_HOSTS, MAX_VERDICTS_BYTES).await
    }

    async fn bounded(max_hosts: usize, max_verdicts_bytes: usize) -> Self {
        let clock = ManualClock::new();
        let ks = Keyspace::builder()
            .clock(Arc::new(clock.clone()))
            .open()
            .await
            .unwrap();
        let reports = Reports::bounded(Arc::new(clock.clone()), max_hosts, max_verdicts_bytes);
        Self { clock, ks, reports }
    }

    async fn claim(&self) -> (LeaseId, Revision) {
        self.claim_of("h1").await
    }

    /// Renews without verdicts, under this number of a report, when their clock shows this.
    async fn renew(&self, lease: LeaseId, sequence: u64, theirs: SystemTime) -> v1::ReportHostResponse {
        let mut request = self.request(lease, 1, None);
        request.now = Some(theirs.into());
        request.sequence = sequence;
        request.report.as_mut().unwrap().drift = sequence;
        self.take(request).await
    }

    async fn claim_of(&self, host: &str) -> (LeaseId, Revision) {
        let (_, grant) = self.ks.lease_grant(None, Duration::from_secs(10)).await.unwrap();
        let put = PutRequest::new(format!("/alive/{host}"), r#"{"instance":"i"}"#).lease(grant.id);
        let claimed = self.ks.txn(put.into()).await.unwrap();
        (grant.id, claimed.header.revision)
    }

    fn request(&self, lease: LeaseId, version: u64, names: Option<&[&str]>) -> v1::ReportHostRequest {
        let verdict = |name: &&str| v1::ContainerVerdict {
            name: (*name).to_owned(),
            ..v1::ContainerVerdict::default()
        };
        v1::ReportHostRequest {
            host: "h1".into(),
            lease: lease.0,
            now: Some((self.clock.system_time() + Duration::from_secs(3600)).into()),
            report: Some(v1::HostReport {
                drift: version,
                last_sync: Some((self.clock.system_time() + Duration::from_secs(3590)).into()),
                ..v1::HostReport::default()
            }),
            verdicts_version: version,
            verdicts: names.map(|names| v1::ContainerVerdicts {
                verdicts: names.iter().map(verdict).collect(),
                omitted: 0,
            }),
            claimed: 0,
            sequence: 0,
        }
    }

    async fn take(&self, request: v1::ReportHostRequest) -> v1::ReportHostResponse {
        self.reports.take(&self.ks, request).await.unwrap()
    }

    async fn tell(&self, lease: LeaseId, version: u64, names: Option<&[&str]>) -> v1::ReportHostResponse {
        self.take(self.request(lease, version, names)).await
    }

    fn names(&self, claimed: Revision) -> Option<Vec<String>> {
        let ToldOf::Verdicts(told) = self.reports.verdicts(&host("h1"), claimed) else {
            return None;
        };
        Some(told.verdicts.iter().map(|verdict| verdict.name.clone()).collect())
    }
}

fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

#[tokio::test]
async fn verdicts_are_told_once_for_each_number_and_lease() {
    let world = World::new().await;
    let (lease, claimed) = world.claim().await;
    assert!(world.tell(lease, 1, None).await.wants_verdicts);
    assert!(!world.tell(lease, 1, Some(&["web"])).await.wants_verdicts);
    assert!(!world.tell(lease, 1, None).await.wants_verdicts);
    assert_eq!(world.names(claimed).unwrap(), ["web"]);
    assert!(
        world.tell(lease, 2, None).await.wants_verdicts,
        "they have changed"
    );
    assert_eq!(
        world.names(claimed).unwrap(),
        ["web"],
        "what was told stands until the next is there"
    );
    world.tell(lease, 2, Some(&["db"])).await;
    assert_eq!(world.names(claimed).unwrap(), ["db"]);
    let (lease, again) = world.claim().await;
    assert!(
        world.tell(lease, 2, None).await.wants_verdicts,
        "of another claim"
    );
    assert_eq!((world.names(claimed), world.names(again)), (None, None));
}

#[tokio::test]
async fn a_report_is_dropped_when_the_lease_is_gone_or_the_host_somebody_elses() {
    let world = World::new().await;
    let (lease, first) = world.claim().await;
    world.tell(lease, 7, None).await;
    let told = world.reports.of("h1", first).unwrap();
    assert_eq!(told.drift, 7);
    let ago = world.clock.system_time().duration_since(told.last_sync.unwrap());
    assert_eq!(ago.unwrap(), Duration::from_secs(10), "told by our clock");
    world.clock.advance(Duration::from_secs(9));
    assert!(world.reports.of("h1", first).is_some());
    let (second, claimed) = world.claim().await;
    assert_eq!(
        world.reports.of("h1", claimed),
        None,
        "the report is of another claim"
    );
    assert!(
        !world.tell(lease, 8, None).await.held,
        "the key has another lease"
    );
    world.tell(second, 9, None).await;
    assert_eq!(world.reports.of("h1", claimed).unwrap().drift, 9);
    world.clock.advance(Duration::from_secs(10));
    assert_eq!(world.reports.of("h1", claimed), None);
}

#[tokio::test]
async fn a_report_is_refused_when_the_key_was_overwritten_under_the_same_lease() {
    let world = World::new().await;
    let (lease, claimed) = world.claim().await;
    let request = || v1::ReportHostRequest {
        claimed: claimed.0,
        ..world.request(lease, 1, None)
    };
    assert!(world.take(request()).await.held);
    let put = PutRequest {
        ignore_lease: true,
        ..PutRequest::new("/alive/h1", "by hand")
    };
    world.ks.txn(put.into()).await.unwrap();
    assert!(!world.take(request()).await.held);
}

#[tokio::test]
async fn a_report_that_was_overtaken_changes_nothing_but_what_it_alone_tells() {
    let world = World::new().await;
    let (lease, claimed) = world.claim().await;
    let slow = v1::ReportHostRequest {
        sequence: 1,
        ..world.request(lease, 1, Some(&["web"]))
    };
    let now = world.clock.system_time();
    world.renew(lease, 2, now).await;
    world.take(slow).await;
    assert_eq!(world.reports.of("h1", claimed).unwrap().drift, 2, "the newer one");
    assert_eq!(world.names(claimed).unwrap(), ["web"]);
    // Also after that.
    world.renew(lease, 1, now).await;
    assert_eq!(world.reports.of("h1", claimed).unwrap().drift, 2);
}

#[tokio::test]
async fn the_newer_report_is_known_by_its_number_though_their_clock_goes_back() {
    let world = World::new().await;
    let (lease, claimed) = world.claim().await;
    let now = world.clock.system_time();
    world.renew(lease, 1, now).await;
    world.renew(lease, 2, now - Duration::from_secs(3600)).await;
    assert_eq!(world.reports.of("h1", claimed).unwrap().drift, 2);
    // Whoever does not count them is taken at their word.
    world.renew(lease, 0, now - Duration::from_secs(7200)).await;
    assert_eq!(world.reports.of("h1", claimed).unwrap().drift, 0);
}

#[tokio::test]
async fn nothing_that_was_told_outlives_its_claim() {
    let world = World::new().await;
    let (lease, claimed) = world.claim().await;
    let first = v1::ReportHostRequest {
        sequence: 9,
        ..world.request(lease, 1, Some(&["web"]))
    };
    world.take(first).await;
    // The same lease, and another claim.
    let put = PutRequest::new("/alive/h1", r#"{"instance":"i"}"#).lease(lease);
    let again = world.ks.txn(put.into()).await.unwrap().header.revision;
    assert!(
        world
            .renew(lease, 1, world.clock.system_time())
            .await
            .wants_verdicts
    );
    assert_eq!((world.names(claimed), world.names(again)), (None, None));
    assert_eq!(world.reports.of("h1", again).unwrap().drift, 1);
}

#[tokio::test]
async fn what_finds_no_room_is_refused_with_a_reason_until_there_is_room() {
    let world = World::bounded(10, 2_000).await;
    let large = "x".repeat(1_500);
    let mut requests = Vec::new();
    for name in ["h1", "h2"] {
        let (lease, claimed) = world.claim_of(name).await;
        let request = v1::ReportHostRequest {
            host: name.into(),
            ..world.request(lease, 1, Some(&[&large]))
        };
        requests.push((request, claimed));
    }
    let (first, second) = (&requests[0], &requests[1]);
    assert_eq!(world.take(first.0.clone()).await.refused, "");
    let answer = world.take(second.0.clone()).await;
    assert!(
        answer.held && !answer.wants_verdicts,
        "its lease is kept alive all the same"
    );
    assert!(answer.refused.contains("this server holds at most"), "{answer:?}");
    let told = world.reports.verdicts(&host("h2"), second.1);
    assert!(matches!(told, ToldOf::Refused(why) if why == answer.refused));
    assert!(
        world.reports.of("h2", second.1).is_some(),
        "how its reconciler is, is known"
    );
    // It says so with every report, and does not ask for what it cannot hold.
    let renewal = v1::ReportHostRequest {
        verdicts: None,
        ..second.0.clone()
    };
    let again = world.take(renewal.clone()).await;
    assert_eq!((again.refused, again.wants_verdicts), (answer.refused, false));
    // The first says less now.
    let less = v1::ReportHostRequest {
        verdicts: Some(v1::ContainerVerdicts::default()),
        verdicts_version: 2,
        ..first.0.clone()
    };
    world.take(less).await;
    let now = world.take(renewal).await;
    assert!(now.wants_verdicts && now.refused.is_empty(), "{now:?}");
    assert_eq!(world.take(second.0.clone()).await.refused, "");
    assert!(matches!(
        world.reports.verdicts(&host("h2"), second.1),
        ToldOf::Verdicts(_)
    ));
}

#[tokio::test]
async fn room_for_one_is_offered_to_one_of_those_who_were_refused() {
    let world = World::bounded(10, 2_000).await;
    let large = "x".repeat(1_500);
    let mut uploads = Vec::new();
    for name in ["h1", "h2", "h3"] {
        let (lease, _) = world.claim_of(name).await;
        let upload = v1::ReportHostRequest {
            host: name.into(),
            ..world.request(lease, 1, Some(&[&large]))
        };
        let refused = !world.take(upload.clone()).await.refused.is_empty();
        assert_eq!(refused, name != "h1");
        uploads.push(upload);
    }
    let renew = async |index: usize| {
        let renewal = v1::ReportHostRequest {
            verdicts: None,
            // Another number makes it no smaller.
            verdicts_version: 2,
            ..uploads[index].clone()
        };
        let answer = world.take(renewal).await;
        assert!(answer.wants_verdicts == answer.refused.is_empty(), "{answer:?}");
        answer.wants_verdicts
    };
    assert!(!renew(1).await && !renew(2).await);
    let less = v1::ReportHostRequest {
        verdicts: Some(v1::ContainerVerdicts::default()),
        ..uploads[0].clone()
    };
    world.take(less).await;
    // It stays the second's while that is on its way.
    assert!(renew(1).await && !renew(2).await);
    assert!(renew(1).await && !renew(2).await);
    assert_eq!(world.take(uploads[1].clone()).await.refused, "");
    assert!(!renew(2).await);
    // When the second's lease has ended, so has its place.
    world.clock.advance(Duration::from_secs(9));
    assert!(!renew(2).await);
    world.clock.advance(Duration::from_secs(1));
    assert!(renew(2).await);
}

#[tokio::test]
async fn what_was_told_makes_room_when_it_is_replaced_or_its_lease_has_ended() {
    let world = World::bounded(10, 2_000).await;
    let large = "x".repeat(1_500);
    for version in 1..5 {
        let (lease, claimed) = world.claim().await;
        for version in [version, version + 10] {
            assert_eq!(world.tell(lease, version, Some(&[&large])).await.refused, "");
        }
        assert!(world.names(claimed).is_some());
    }
    world.clock.advance(Duration::from_secs(10));
    let (lease, _) = world.claim_of("h2").await;
    let other = v1::ReportHostRequest {
        host: "h2".into(),
        ..world.request(lease, 1, Some(&[&large]))
    };
    assert_eq!(world.take(other).await.refused, "");
}

#[tokio::test]
async fn a_host_too_many_is_refused_with_a_reason_and_its_lease_is_kept_alive() {
    let world = World::bounded(1, 2_000).await;
    let (lease, _) = world.claim().await;
    assert_eq!(world.tell(lease, 1, None).await.refused, "");
    let (lease, claimed) = world.claim_of("h2").await;
    let other = v1::ReportHostRequest {
        host: "h2".into(),
        ..world.request(lease, 1, None)
    };
    let answer = world.take(other).await;
    assert!(answer.held && !answer.wants_verdicts);
    assert_eq!(answer.refused, "this server holds the reports of at most 1 hosts");
    let told = world.reports.verdicts(&host("h2"), claimed);
    assert!(matches!(told, ToldOf::Refused(why) if why == answer.refused));
}
