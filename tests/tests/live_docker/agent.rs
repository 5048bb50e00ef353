//! One server, three agents, each with an engine of its own.

use rustix::process::Signal;
use serde_json::Value;
use tidewatch_tests::private_docker::PrivateDocker;
use tidewatch_tests::program::{Running, ServerProgram, agent};
use tidewatch_tests::wait::eventually;

use super::observed::{CEILING, labels};

const HOSTS: [&str; 3] = ["h1", "h2", "h3"];

struct Fleet {
    dockers: Vec<PrivateDocker>,
    agents: Vec<Running>,
    server: ServerProgram,
}

impl Fleet {
    /// Three hosts, each with a container `web-<host>` of the workload `shop` and one without a row.
    fn start() -> Option<Self> {
        let dockers: Vec<_> = HOSTS
            .iter()
            .map(|_| PrivateDocker::for_test())
            .collect::<Option<_>>()?;
        let server = ServerProgram::start_alone(&dockers[0].dir().join("tidewatch")).unwrap();
        server
            .run(&["workload", "declare", "shop", "--kind", "stack"])
            .unwrap();
        let mut agents = Vec::new();
        for (host, docker) in HOSTS.iter().zip(&dockers) {
            run(docker, &format!("web-{host}"));
            docker.run(&format!("lone-{host}"), &[]).unwrap();
            agents.push(agent(server.endpoint(), host, &docker.address()).unwrap());
        }
        let fleet = Self {
            dockers,
            agents,
            server,
        };
        fleet.until_states(["running"; 3]);
        Some(fleet)
    }

    /// The state of each host's row.
    fn states(&self) -> Vec<String> {
        let rows = self.server.run(&["ps"]).unwrap();
        let state = |host: &&str| {
            let row = rows.iter().find(|row| row["host"] == *host);
            row.map(|row| text(&row["state"])).unwrap_or_default()
        };
        HOSTS.iter().map(state).collect()
    }

    fn until_states(&self, states: [&str; 3]) {
        let reached = eventually(CEILING, || self.states() == states);
        assert!(
            reached,
            "{:?} are not {states:?}; {:?}",
            self.states(),
            self.hosts()
        );
    }

    fn hosts(&self) -> Vec<Value> {
        self.server.run(&["hosts"]).unwrap()
    }

    fn host(&self, name: &str) -> Value {
        let key = format!("/hosts/{name}");
        let hosts = self.hosts().into_iter();
        hosts
            .into_iter()
            .find(|host| host["key"] == key.as_str())
            .unwrap_or_default()
    }
}

fn run(docker: &PrivateDocker, name: &str) {
    let labels = labels("shop", "stack", "web");
    let options: Vec<_> = labels.iter().map(String::as_str).collect();
    docker.run(name, &options).unwrap();
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_host_that_is_cut_off_reads_as_unknown_the_others_go_on_and_it_is_right_when_it_is_back() {
    let Some(mut fleet) = Fleet::start() else {
        return;
    };
    // What agents tell is known to the server.
    for host in HOSTS {
        let told = eventually(CEILING, || {
            let told = fleet.host(host);
            told["reachable"] == true && told["last_sync"].is_string() && told["drift"] == 0
        });
        assert!(told, "{:?}", fleet.host(host));
    }
    let untracked = || {
        let rows = fleet.server.run(&["ps", "--untracked"]).unwrap();
        rows.iter().map(|row| text(&row["name"])).collect::<Vec<_>>()
    };
    let all = eventually(CEILING, || untracked() == ["lone-h1", "lone-h2", "lone-h3"]);
    assert!(all, "{:?}", untracked());
    let explained = fleet.server.run(&["explain", "lone-h2"]).unwrap();
    assert_eq!(
        (&explained[0]["host"], &explained[0]["reason"]),
        (&"h2".into(), &"not_labelled".into())
    );
    let explained = fleet.server.run(&["explain", "web-h3"]).unwrap();
    assert_eq!(
        (&explained[0]["reason"], &explained[0]["row"]["host"]),
        (&"labels".into(), &"h3".into())
    );

    // Cut off: the process stands still, its containers do not.
    fleet.agents[1].signal(Signal::STOP).unwrap();
    fleet.until_states(["running", "unknown", "running"]);
    // Since when is read from the history, which takes a moment longer than that nobody is there.
    let since = eventually(CEILING, || !text(&fleet.host("h2")["since"]).is_empty());
    let told = fleet.host("h2");
    assert!(since, "{told}");
    assert_eq!(
        (&told["alive"], &told["reachable"]),
        (&false.into(), &false.into()),
        "{told}"
    );
    assert!(!text(&told["error"]).is_empty(), "{told}");
    fleet.dockers[0].docker(["pause", "web-h1"]).unwrap();
    fleet.dockers[1].docker(["kill", "web-h2"]).unwrap();
    fleet.until_states(["paused", "unknown", "running"]);

    fleet.agents[1].signal(Signal::CONT).unwrap();
    fleet.until_states(["paused", "stopped", "running"]);
    assert_eq!(fleet.host("h2")["alive"], true);

    // Killed: the next one is another instance, and has the host when the lease has expired.
    let before = text(&fleet.host("h3")["instance"]);
    let next = agent(fleet.server.endpoint(), "h3", &fleet.dockers[2].address()).unwrap();
    drop(std::mem::replace(&mut fleet.agents[2], next));
    fleet.dockers[2].docker(["kill", "web-h3"]).unwrap();
    fleet.until_states(["paused", "stopped", "stopped"]);
    assert_ne!(text(&fleet.host("h3")["instance"]), before);

    // The server goes and comes back; what happened meanwhile is seen.
    let docker = &fleet.dockers[0];
    let meanwhile = || drop(docker.docker(["unpause", "web-h1"]).unwrap());
    fleet.server.stop_for(meanwhile).unwrap();
    fleet.until_states(["running", "stopped", "stopped"]);
    for agent in fleet.agents.drain(..) {
        assert_eq!(agent.end(Signal::TERM).unwrap(), Some(0));
    }
    fleet.until_states(["unknown"; 3]);
}
