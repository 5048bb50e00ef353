use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use tidewatch_core::{Clock, KeyValue, ManualClock, Revision};
use tidewatch_fleet::{FleetKey, State, View, value};

use super::*;
use crate::container::{Container, Port, Protocol};
use crate::plugin;

fn put(view: &mut View, key: &str, value: impl Into<bytes::Bytes>) {
    view.put(&KeyValue {
        key: key.to_owned().into(),
        value: value.into(),
        create_revision: Revision(2),
        // A view decodes again only what was written since.
        mod_revision: Revision(fastrand::u64(3..)),
        version: 1,
        lease: None,
    });
}

fn view(entries: &[(&str, &str)]) -> View {
    let mut view = View::default();
    for (key, value) in entries {
        put(&mut view, key, (*value).to_owned());
    }
    view
}

fn host() -> PlanHost {
    let mut host = PlanHost::new("h1".parse().unwrap(), ManualClock::new().system_time());
    host.daemon_id = "d1".into();
    host
}

fn labelled(id: &str, workload: &str, role: &str) -> Container {
    let mut container = Container::new(id, format!("{workload}-{role}"));
    for (label, value) in [
        ("tidewatch.managed", "true"),
        ("tidewatch.workload.id", workload),
        ("tidewatch.role", role),
    ] {
        container.labels.insert(label.into(), value.into());
    }
    container
}

fn with_label(mut container: Container, label: &str, value: &str) -> Container {
    container.labels.insert(label.into(), value.into());
    container
}

/// Writes a plan into the view, as the executor does.
fn apply(view: &mut View, plan: &Plan) {
    for change in &plan.changes {
        let key = change.key().to_string();
        match change {
            Change::Declare(workload) => put(view, &key, value::encode(workload)),
            Change::Insert(_, row) | Change::Update(_, row) => put(view, &key, value::encode(row)),
            Change::Remove(_) | Change::Retire(_) => view.delete(&key.into()),
        }
    }
}

/// Plans for a full list, applies it, and returns the plan.
fn look(view: &mut View, containers: &[Container]) -> Plan {
    look_as(view, containers, &host())
}

fn look_as(view: &mut View, containers: &[Container], host: &PlanHost) -> Plan {
    let listing = containers.to_vec().into();
    let plan = plan(view, &listing, Scope::All, &BTreeMap::new(), host);
    apply(view, &plan);
    plan
}

fn table(view: &View) -> Vec<String> {
    view.containers
        .iter()
        .map(|((workload, row, host), entry)| {
            format!(
                "{workload}/{host}/{row} {} {}",
                entry.value.container_id, entry.value.state
            )
        })
        .collect()
}

fn why(plan: &Plan, id: &str) -> &'static str {
    plan.verdicts[id].untracked().map_or("tracked", Reason::name)
}

const SHOP: (&str, &str) = ("/workloads/shop", r#"{"id":"shop","kind":"stack"}"#);
const PROJ: (&str, &str) = ("/workloads/proj", r#"{"id":"proj","kind":"project"}"#);

#[test]
fn rule_2_a_project_row_is_never_invented() {
    let mut view = view(&[PROJ]);
    let plan = look(&mut view, &[labelled("c1", "proj", "web")]);
    assert_eq!(plan.changes, []);
    assert_eq!(why(&plan, "c1"), "no_deploy_row");
}

#[test]
fn rule_3_a_deploy_row_that_names_the_container_decides_its_row() {
    let mut view = view(&[
        PROJ,
        (
            "/deploy/proj/blue",
            r#"{"role":"web","host":"h1","container_id":"c2"}"#,
        ),
    ]);
    // Not even labels are needed: the deployer knows.
    let mut bare = Container::new("c2", "bare");
    bare.created = 9;
    look(&mut view, &[labelled("c1", "proj", "web"), bare]);
    assert_eq!(table(&view), ["proj/h1/blue c2 running"]);
}

#[test]
fn rule_3_when_a_deployer_gives_a_row_to_another_container_the_row_follows() {
    let mut view = view(&[
        PROJ,
        (
            "/deploy/proj/blue",
            r#"{"role":"web","host":"h1","container_id":"c1"}"#,
        ),
    ]);
    let both = [labelled("c1", "proj", "web"), labelled("c2", "proj", "web")];
    look(&mut view, &both);
    assert_eq!(table(&view), ["proj/h1/blue c1 running"]);
    put(
        &mut view,
        "/deploy/proj/blue",
        r#"{"role":"web","host":"h1","container_id":"c2"}"#,
    );
    let plan = look(&mut view, &both);
    assert_eq!(table(&view), ["proj/h1/blue c2 running"]);
    assert_eq!(why(&plan, "c1"), "no_deploy_row");
}

#[test]
fn rule_3_a_container_that_gets_a_deploy_row_moves_to_it_with_what_was_known() {
    let mut view = view(&[SHOP]);
    let container = labelled("c1", "shop", "web");
    look(&mut view, std::slice::from_ref(&container));
    let key = FleetKey::parse(b"/containers/shop/h1/web").unwrap().unwrap();
    let mut row = view.containers.values().next().unwrap().value.clone();
    row.extra.insert("mine".into(), 1.into());
    put(&mut view, &key.to_string(), value::encode(&row));
    put(
        &mut view,
        "/deploy/shop/green",
        r#"{"host":"h1","container_id":"c1"}"#,
    );
    look(&mut view, std::slice::from_ref(&container));
    assert_eq!(table(&view), ["shop/h1/green c1 running"]);
    assert_eq!(view.containers.values().next().unwrap().value.extra["mine"], 1);
}

#[test]
fn rule_5_a_placeholder_is_bound_when_it_is_the_only_one_of_its_role() {
    let mut view = view(&[PROJ, ("/deploy/proj/blue", r#"{"role":"web","host":"h1"}"#)]);
    assert_eq!(look(&mut view, &[]).changes, [], "until then it is left alone");
    let plan = look(&mut view, &[labelled("c1", "proj", "web")]);
    assert_eq!(table(&view), ["proj/h1/blue c1 running"]);
    let Outcome::Tracked { by, .. } = plan.verdicts["c1"].outcome else {
        panic!();
    };
    assert_eq!(by, BoundBy::Placeholder);
}

#[test]
fn rule_5_of_several_placeholders_the_row_label_tells_which() {
    let mut view = view(&[
        PROJ,
        ("/deploy/proj/blue", r#"{"role":"web","host":"h1"}"#),
        ("/deploy/proj/green", r#"{"role":"web","host":"h1"}"#),
    ]);
    let unnamed = labelled("c1", "proj", "web");
    let plan = look(&mut view, std::slice::from_ref(&unnamed));
    assert_eq!(why(&plan, "c1"), "no_deploy_row", "it could be either");
    let green = with_label(labelled("c2", "proj", "web"), "tidewatch.row", "green");
    look(&mut view, &[unnamed, green]);
    assert_eq!(
        table(&view),
        ["proj/h1/blue c1 running", "proj/h1/green c2 running"],
        "and then only one is left"
    );
}

#[test]
fn rule_5_a_placeholder_of_another_host_or_role_is_not_ours_to_bind() {
    let mut view = view(&[
        PROJ,
        ("/deploy/proj/blue", r#"{"role":"web","host":"h2"}"#),
        ("/deploy/proj/green", r#"{"role":"db","host":"h1"}"#),
        ("/deploy/proj/anywhere", r#"{"role":"web"}"#),
    ]);
    let plan = look(&mut view, &[labelled("c1", "proj", "web")]);
    assert_eq!(why(&plan, "c1"), "no_deploy_row");
    let there = with_label(labelled("c1", "proj", "web"), "tidewatch.row", "blue");
    let plan = look(&mut view, &[there]);
    assert_eq!(why(&plan, "c1"), "no_deploy_row");
    let anywhere = with_label(labelled("c1", "proj", "web"), "tidewatch.row", "anywhere");
    look(&mut view, &[anywhere]);
    assert_eq!(table(&view), ["proj/h1/anywhere c1 running"]);
}

#[test]
fn rule_5_names_that_deployers_have_reserved_are_not_given_to_others() {
    let mut view = view(&[
        SHOP,
        ("/deploy/shop/web", r#"{"role":"api","host":"h1"}"#),
        ("/deploy/shop/web.2", r#"{"role":"api","host":"h2"}"#),
    ]);
    look(&mut view, &[labelled("c1", "shop", "web")]);
    assert_eq!(table(&view), ["shop/h1/web.2 c1 running"]);
}

#[test]
fn rule_6_every_reason_for_having_no_row_is_told() {
    let mut view = view(&[SHOP, PROJ, ("/workloads/broken", "{")]);
    let container = |id: &str| Container::new(id, id);
    let cases = [
        (container("plain"), "not_labelled"),
        (
            with_label(container("unmanaged"), "tidewatch.workload.id", "shop"),
            "not_managed",
        ),
        (
            with_label(labelled("out", "shop", "web"), "tidewatch.managed", "false"),
            "opted_out",
        ),
        (labelled("forged", "nobody", "web"), "unknown_workload"),
        (labelled("unreadable", "broken", "web"), "unreadable_workload"),
        (labelled("badid", "sh op", "web"), "invalid_label"),
        (labelled("badrole", "shop", "w/b"), "invalid_label"),
        (
            with_label(labelled("badrow", "shop", "web"), "tidewatch.row", "../x"),
            "invalid_label",
        ),
        (labelled("proj", "proj", "web"), "no_deploy_row"),
        (
            with_label(
                with_label(container("oneoff"), "com.docker.compose.project", "blog"),
                "com.docker.compose.oneoff",
                "True",
            ),
            "one_off",
        ),
        (
            with_label(container("optout"), "com.docker.compose.project", "blog"),
            "tracked",
        ),
    ];
    let containers: Vec<_> = cases.iter().map(|(container, _)| container.clone()).collect();
    let plan = look(&mut view, &containers);
    for (container, reason) in &cases {
        assert_eq!(why(&plan, &container.id), *reason, "{}", container.id);
        if let Some(reason) = plan.verdicts[&container.id].untracked() {
            assert!(reason.to_string().len() > 20, "it says how to mend it: {reason}");
        }
    }
    assert_eq!(table(&view), ["compose-blog/h1/optout optout running"]);
}

#[test]
fn rule_6_a_container_that_keeps_its_row_is_explained_by_what_it_says_itself() {
    let mut view = view(&[SHOP]);
    let mut composed = Container::new("c2", "blog-web-1");
    for (label, value) in [
        (crate::label::COMPOSE_PROJECT, "blog"),
        (crate::label::COMPOSE_SERVICE, "web"),
    ] {
        composed.labels.insert(label.into(), value.into());
    }
    let containers = [labelled("c1", "shop", "web"), composed];
    for _ in 0..2 {
        let plan = look(&mut view, &containers);
        let by = |id: &str| match &plan.verdicts[id].outcome {
            Outcome::Tracked { by, .. } => *by,
            Outcome::Untracked(reason) => panic!("{reason}"),
        };
        assert_eq!((by("c1"), by("c2")), (BoundBy::Labels, BoundBy::Plugin));
    }
}

#[test]
fn rule_6_one_container_with_nonsense_harms_no_other() {
    let mut view = view(&[SHOP]);
    let mut strange = labelled("c1", "shop", "web");
    strange.state = State::from_docker("hibernating");
    strange.ports = vec![Port {
        protocol: Protocol::from_docker("quic"),
        private: 443,
        public: None,
        ip: String::new(),
    }];
    look(&mut view, &[strange, labelled("c2", "shop", "db")]);
    assert_eq!(table(&view), ["shop/h1/db c2 running", "shop/h1/web c1 unknown"]);
}

#[test]
fn rule_7_a_row_bound_to_another_live_container_is_refused_and_reported() {
    let mut view = view(&[SHOP]);
    let holder = with_label(labelled("c1", "shop", "web"), "tidewatch.row", "main");
    look(&mut view, std::slice::from_ref(&holder));
    let mut thief = with_label(labelled("c0", "shop", "web"), "tidewatch.row", "main");
    thief.created = -1;
    let plan = look(&mut view, &[holder.clone(), thief.clone()]);
    assert_eq!(table(&view), ["shop/h1/main c1 running"]);
    assert_eq!(
        plan.verdicts["c0"].untracked(),
        Some(&Reason::RowTaken {
            workload: "shop".parse().unwrap(),
            row: "main".parse().unwrap(),
            holder: "c1".into()
        })
    );
    // A look at the thief alone must come to the same.
    let ids = ["c0".to_owned()];
    let listing = vec![thief.clone()].into();
    let alone = super::plan(&view, &listing, Scope::Ids(&ids), &BTreeMap::new(), &host());
    assert_eq!((alone.changes.len(), why(&alone, "c0")), (0, "row_taken"));
    // Once the holder is gone, the row is free.
    look(&mut view, &[thief]);
    assert_eq!(table(&view), ["shop/h1/main c0 running"]);
}

#[test]
fn rule_7_a_deploy_row_of_a_live_container_cannot_be_claimed_before_it_has_a_row_either() {
    let mut view = view(&[
        PROJ,
        (
            "/deploy/proj/blue",
            r#"{"role":"web","host":"h1","container_id":"c1"}"#,
        ),
    ]);
    let thief = with_label(labelled("c0", "proj", "web"), "tidewatch.row", "blue");
    let ids = ["c0".to_owned()];
    let listing = vec![thief.clone()].into();
    let plan = plan(&view, &listing, Scope::Ids(&ids), &BTreeMap::new(), &host());
    assert_eq!(why(&plan, "c0"), "row_taken", "c1 may well exist");
    look(&mut view, &[thief, labelled("c1", "proj", "web")]);
    assert_eq!(table(&view), ["proj/h1/blue c1 running"]);
}

#[test]
fn rule_8_a_list_with_elements_that_cannot_be_told_apart_marks_nothing_as_gone() {
    let mut view = view(&[SHOP]);
    look(&mut view, &[labelled("c1", "shop", "web")]);
    let listing = Listing {
        containers: vec![labelled("c2", "shop", "web")],
        undecodable: 1,
    };
    let plan = plan(&view, &listing, Scope::All, &BTreeMap::new(), &host());
    apply(&mut view, &plan);
    assert_eq!(
        table(&view),
        ["shop/h1/web c1 running", "shop/h1/web.2 c2 running"]
    );
    assert_eq!(plan.unswept, 1);
}

#[test]
fn rule_8_a_look_at_some_containers_says_nothing_about_others() {
    let mut view = view(&[SHOP]);
    look(
        &mut view,
        &[labelled("c1", "shop", "web"), labelled("c2", "shop", "db")],
    );
    let ids = ["c2".to_owned(), "c3".to_owned()];
    let plan = plan(
        &view,
        &Listing::default(),
        Scope::Ids(&ids),
        &BTreeMap::new(),
        &host(),
    );
    apply(&mut view, &plan);
    assert_eq!(table(&view), ["shop/h1/db c2 missing", "shop/h1/web c1 running"]);
}

#[test]
fn rows_of_other_hosts_are_none_of_a_plans_business() {
    let mut view = view(&[SHOP]);
    let mut other = host();
    other.name = "h2".parse().unwrap();
    look_as(&mut view, &[labelled("c1", "shop", "web")], &other);
    look(&mut view, &[labelled("c2", "shop", "web")]);
    look(&mut view, &[]);
    assert_eq!(table(&view), ["shop/h1/web c2 missing", "shop/h2/web c1 running"]);
}

#[test]
fn rule_9_the_same_input_gives_the_same_plan_whatever_order_docker_lists_in() {
    let containers: Vec<_> = (0..20_u8)
        .map(|n| {
            let mut container = labelled(&format!("c{n:02}"), "shop", ["web", "db"][usize::from(n % 2)]);
            container.created = i64::from(n) * 7 % 5;
            container
        })
        .collect();
    let view = view(&[SHOP]);
    let mut shuffled = containers.clone();
    let expected = plan(&view, &containers.into(), Scope::All, &BTreeMap::new(), &host());
    for seed in 0..20 {
        fastrand::Rng::with_seed(seed).shuffle(&mut shuffled);
        let plan = plan(
            &view,
            &shuffled.clone().into(),
            Scope::All,
            &BTreeMap::new(),
            &host(),
        );
        assert_eq!(plan, expected, "seed {seed}");
    }
}

#[test]
fn rule_9_facts_are_asked_for_on_transitions_only_and_kept_in_between() {
    let mut view = view(&[SHOP]);
    let mut container = labelled("c1", "shop", "web");
    container.state = State::Created;
    let listing: Listing = vec![container.clone()].into();
    let first = plan(&view, &listing, Scope::All, &BTreeMap::new(), &host());
    assert_eq!(first.inspect, ["c1"]);
    let failed = Facts {
        exit_code: Some(127),
        error: "exec: \"nginxx\": executable file not found in $PATH".into(),
        ..Facts::default()
    };
    let facts = BTreeMap::from([("c1".to_owned(), failed)]);
    let told = plan(&view, &listing, Scope::All, &facts, &host());
    assert_eq!(told.inspect, [""; 0]);
    apply(&mut view, &told);
    let row = view.containers.values().next().unwrap().value.clone();
    assert_eq!(row.exit_code, Some(127), "a failed start is a created container");
    assert!(row.reason.contains("not found"));
    let steady = plan(&view, &listing, Scope::All, &BTreeMap::new(), &host());
    assert_eq!((steady.changes.len(), steady.inspect.len()), (0, 0));
}

#[test]
fn rule_4_the_retention_of_a_missing_row_counts_from_when_it_was_first_missed() {
    let mut view = view(&[SHOP]);
    look(&mut view, &[labelled("c1", "shop", "web")]);
    let mut later = host();
    look_as(&mut view, &[], &later);
    later.now += RETENTION;
    later.now -= Duration::from_secs(1);
    assert_eq!(look_as(&mut view, &[], &later).changes, []);
    later.now += Duration::from_secs(1);
    look_as(&mut view, &[], &later);
    assert_eq!(table(&view), [""; 0]);
}

#[test]
fn a_wall_clock_that_was_set_back_makes_nothing_old() {
    let mut view = view(&[SHOP]);
    look(&mut view, &[labelled("c1", "shop", "web")]);
    look(&mut view, &[]);
    let mut earlier = host();
    earlier.now -= RETENTION * 400;
    assert_eq!(look_as(&mut view, &[], &earlier).changes, []);
}

#[test]
fn rows_of_a_workload_that_was_removed_go_and_those_of_an_unreadable_one_stay() {
    let mut view = view(&[SHOP, PROJ]);
    let containers = [labelled("c1", "shop", "web")];
    look(&mut view, &containers);
    put(&mut view, "/workloads/shop", "nonsense");
    assert_eq!(look(&mut view, &containers).changes, []);
    view.delete(&"/workloads/shop".into());
    let plan = look(&mut view, &containers);
    assert_eq!((table(&view).len(), why(&plan, "c1")), (0, "unknown_workload"));
}

#[test]
fn rule_13_switching_adoption_off_gives_up_what_was_adopted() {
    let mut view = View::default();
    let container = with_label(
        Container::new("c1", "web-1"),
        "com.docker.compose.project",
        "blog",
    );
    let plan = look(&mut view, std::slice::from_ref(&container));
    assert!(matches!(&plan.changes[0], Change::Declare(workload) if workload.id == "compose-blog"));
    let mut strict = host();
    strict.plugins = plugin::without_adoption();
    let plan = look_as(&mut view, std::slice::from_ref(&container), &strict);
    assert_eq!((table(&view).len(), why(&plan, "c1")), (0, "not_labelled"));
}

#[test]
fn rule_13_our_labels_win_over_composes_and_over_names() {
    let mut view = view(&[
        SHOP,
        (
            "/workloads/pin",
            r#"{"id":"pin","kind":"static","labels":{"container":"shop-web"}}"#,
        ),
    ]);
    let container = with_label(
        labelled("c1", "shop", "web"),
        "com.docker.compose.project",
        "blog",
    );
    look(&mut view, &[container]);
    assert_eq!(table(&view), ["shop/h1/web c1 running"]);
}

#[test]
fn a_container_that_compose_replaces_leaves_its_row_to_the_new_one() {
    let service = |id: &str, name: &str| {
        let container = with_label(Container::new(id, name), "com.docker.compose.project", "blog");
        with_label(container, "com.docker.compose.service", "web")
    };
    let mut view = View::default();
    let old = service("old", "blog-web-1");
    look(&mut view, std::slice::from_ref(&old));
    let mut new = with_label(
        service("new", "old_blog-web-1"),
        "com.docker.compose.replace",
        "old",
    );
    new.state = State::Created;
    let plan = look(&mut view, &[old.clone(), new.clone()]);
    assert_eq!(table(&view), ["compose-blog/h1/web old running"]);
    assert_eq!(why(&plan, "new"), "waiting");
    // The look that follows the event of its making sees it alone.
    let ids = ["new".to_owned()];
    let listing = vec![new.clone()].into();
    let alone = super::plan(&view, &listing, Scope::Ids(&ids), &BTreeMap::new(), &host());
    assert_eq!((alone.changes.len(), why(&alone, "new")), (0, "waiting"));
    new.name = "blog-web-1".into();
    look(&mut view, std::slice::from_ref(&new));
    assert_eq!(table(&view), ["compose-blog/h1/web new created"]);
    new.state = State::Running;
    look(&mut view, &[new]);
    assert_eq!(table(&view), ["compose-blog/h1/web new running"]);
}

#[test]
fn whatever_a_container_carries_its_row_stays_far_below_the_limit_of_a_value() {
    let mut view = view(&[SHOP]);
    let mut container = labelled("c1", "shop", "web");
    for n in 0..2_000 {
        container
            .labels
            .insert(format!("com.docker.compose.{n:04}"), "x".repeat(4_000));
    }
    container.ports = (1..=u16::MAX)
        .map(|private| Port {
            protocol: Protocol::Tcp,
            private,
            public: Some(private),
            ip: "0.0.0.0".into(),
        })
        .collect();
    let plan = look(&mut view, &[container]);
    let [Change::Insert(_, row)] = &plan.changes[..] else {
        panic!();
    };
    assert!(value::encode(row).len() < 256 * 1024);
    assert_eq!(
        (row.port, row.labels["tidewatch.role"].as_str()),
        (Some(1), "web")
    );
}

#[test]
fn a_rename_changes_the_name_and_keeps_row_and_role() {
    let mut view = View::default();
    let mut container = with_label(
        Container::new("c1", "first"),
        "com.docker.compose.project",
        "blog",
    );
    look(&mut view, std::slice::from_ref(&container));
    container.name = "second".into();
    look(&mut view, std::slice::from_ref(&container));
    assert_eq!(table(&view), ["compose-blog/h1/first c1 running"]);
    let row = &view.containers.values().next().unwrap().value;
    assert_eq!((&*row.name, row.role.as_str()), ("second", "first"));
}

/// A container as a person might start it, in one of a few states, with few enough names that they
/// collide all the time.
fn any_container() -> impl Strategy<Value = Container> {
    let labels = (
        prop_oneof![Just(None), Just(Some("true")), Just(Some("false"))],
        prop_oneof![
            Just(None),
            Just(Some("shop")),
            Just(Some("proj")),
            Just(Some("nobody"))
        ],
        prop_oneof![Just(None), Just(Some("web")), Just(Some("db"))],
        prop_oneof![4 => Just(None), 1 => Just(Some("blue")), 1 => Just(Some("web.2"))],
        prop_oneof![Just(None), Just(Some("blog"))],
    );
    let state = prop_oneof![Just(State::Running), Just(State::Stopped), Just(State::Created)];
    (0..6_u8, 0..3_i64, labels, state, proptest::bool::ANY).prop_map(
        |(id, created, (managed, workload, role, row, project), state, port)| {
            let mut container = Container::new(format!("c{id}"), format!("name-{id}"));
            container.created = created;
            container.state = state;
            if port {
                container.ports = vec![Port {
                    protocol: Protocol::Tcp,
                    private: 80,
                    public: None,
                    ip: String::new(),
                }];
            }
            let pairs = [
                ("tidewatch.managed", managed),
                ("tidewatch.workload.id", workload),
                ("tidewatch.role", role),
                ("tidewatch.row", row),
                ("com.docker.compose.project", project),
            ];
            for (label, value) in pairs {
                container
                    .labels
                    .extend(value.map(|value| (label.to_owned(), value.to_owned())));
            }
            container
        },
    )
}

fn any_deploy() -> impl Strategy<Value = Vec<(String, String)>> {
    let row = (
        prop_oneof![Just("shop"), Just("proj")],
        prop_oneof![Just("blue"), Just("web"), Just("green")],
        prop_oneof![Just(""), Just("web"), Just("db")],
        prop_oneof![Just(""), Just("h1"), Just("h2")],
        prop_oneof![3 => Just(String::new()), 1 => (0..6_u8).prop_map(|id| format!("c{id}"))],
    );
    let row = row.prop_map(|(workload, row, role, host, container)| {
        let value = format!(r#"{{"role":"{role}","host":"{host}","container_id":"{container}"}}"#);
        (format!("/deploy/{workload}/{row}"), value)
    });
    proptest::collection::vec(row, 0..4)
}

proptest! {
    /// Whatever was there before: after one look nothing is left to do, no container has two rows, no
    /// row two containers, deployers' keys are as they were, and every container has a verdict.
    #[test]
    fn one_look_is_enough_and_nobody_shares_a_row(
        steps in proptest::collection::vec(
            (proptest::collection::vec(any_container(), 0..6), any_deploy()),
            1..5,
        ),
    ) {
        let mut view = view(&[SHOP, PROJ]);
        for (containers, deploy) in steps {
            for (key, value) in &deploy {
                put(&mut view, key, value.clone());
            }
            let before = view.deploy.clone();
            let plan = look(&mut view, &containers);
            let again = look(&mut view, &containers);
            // A workload whose last row went in the first look is retired in the second.
            let left: Vec<_> =
                again.changes.iter().filter(|change| !matches!(change, Change::Retire(_))).collect();
            prop_assert!(left.is_empty(), "{left:?} after {:?}", plan.changes);
            prop_assert_eq!(&view.deploy, &before);
            let mut bound = std::collections::BTreeSet::new();
            for entry in view.containers.values() {
                let row = &entry.value;
                if row.state != State::Missing {
                    prop_assert!(bound.insert(row.container_id.clone()), "two rows of {}", row.container_id);
                }
            }
            for container in &containers {
                let verdict = &plan.verdicts[&container.id];
                let tracked = verdict.untracked().is_none();
                prop_assert_eq!(tracked, bound.contains(&container.id), "{:?}", verdict);
            }
            // One key, one change.
            let keys: std::collections::BTreeSet<_> = plan.changes.iter().map(Change::key).collect();
            prop_assert_eq!(keys.len(), plan.changes.len());
        }
    }
}
