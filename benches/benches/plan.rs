//! What planning costs: a host with 1000 containers of which nothing has changed, one of which one has,
//! and one that is new as a whole.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, SystemTime};

use criterion::{Criterion, criterion_group, criterion_main};
use tidewatch_core::{KeyValue, Revision};
use tidewatch_docker::{Change, Container, Listing, PlanHost, Port, Protocol, Scope, plan};
use tidewatch_fleet::{FleetKey, State, View, value};

const CONTAINERS: usize = 1000;
const WORKLOADS: usize = 20;

fn host() -> PlanHost {
    let name = "h1".parse().expect("it is a name");
    let mut host = PlanHost::new(name, SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600));
    host.daemon_id = "d1".into();
    host
}

fn listing() -> Listing {
    let container = |n: usize| {
        let mut container = Container::new(format!("{n:064x}"), format!("shop-{n}"));
        for (label, value) in [
            ("tidewatch.managed", "true".to_owned()),
            ("tidewatch.workload.id", format!("w{}", n % WORKLOADS)),
            ("tidewatch.workload.kind", "stack".to_owned()),
            ("tidewatch.role", format!("role-{}", n % 7)),
            ("com.docker.compose.version", "2.30.0".to_owned()),
            ("org.opencontainers.image.title", "nginx".to_owned()),
        ] {
            container.labels.insert(label.to_owned(), value);
        }
        container.image_ref = "nginx:1.27".into();
        container.image_id = format!("sha256:{:064x}", n % 9);
        container.ports = vec![Port {
            protocol: Protocol::Tcp,
            private: 8080,
            public: Some(30_000),
            ip: "0.0.0.0".into(),
        }];
        container
    };
    (0..CONTAINERS).map(container).collect::<Vec<_>>().into()
}

fn put(view: &mut View, key: &FleetKey, value: bytes::Bytes) {
    view.put(&KeyValue {
        key: key.to_bytes(),
        value,
        create_revision: Revision(2),
        mod_revision: Revision(2),
        version: 1,
        lease: None,
    });
}

fn declared() -> View {
    let mut view = View::default();
    for n in 0..WORKLOADS {
        let key = FleetKey::Workload(format!("w{n}").parse().expect("it is a name"));
        put(
            &mut view,
            &key,
            format!(r#"{{"id":"w{n}","kind":"stack"}}"#).into(),
        );
    }
    view
}

fn bench(c: &mut Criterion) {
    let (host, listing, empty, no_facts) = (host(), listing(), declared(), BTreeMap::new());
    let first = plan(&empty, &listing, Scope::All, &no_facts, &host);
    assert_eq!(first.changes.len(), CONTAINERS);
    let mut written = declared();
    for change in &first.changes {
        if let Change::Insert(key, row) = change {
            put(&mut written, key, value::encode(row));
        }
    }
    let quiet = plan(&written, &listing, Scope::All, &no_facts, &host);
    assert!(quiet.changes.is_empty(), "nothing has changed");
    let mut changed = listing.containers[500].clone();
    changed.state = State::Stopped;
    let ids = [changed.id.clone()];
    let one = Listing::from(vec![changed]);

    let mut group = c.benchmark_group("plan_1000");
    group.bench_function("nothing_changed", |b| {
        b.iter(|| black_box(plan(&written, &listing, Scope::All, &no_facts, &host)));
    });
    group.bench_function("all_new", |b| {
        b.iter(|| black_box(plan(&empty, &listing, Scope::All, &no_facts, &host)));
    });
    group.bench_function("one_dirty", |b| {
        b.iter(|| black_box(plan(&written, &one, Scope::Ids(&ids), &no_facts, &host)));
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
