//! What a person is told who wants more than a server gives.

use std::net::SocketAddr;

use tidewatch_core::WatchSettings;
use tidewatch_server::{Config, Server};
use tokio::runtime::Runtime;

use crate::program::{Running, run, tidewatch};

/// A server in this process with tighter bounds than the program has.
struct Bounded {
    address: SocketAddr,
    _runtime: Runtime,
}

impl Bounded {
    fn start(bound: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            no_docker: true,
            ..Config::default()
        };
        bound(&mut config);
        let runtime = Runtime::new().unwrap();
        let server = runtime.block_on(Server::bind(config)).unwrap();
        let address = server.local_addr();
        let (ready, is_ready) = std::sync::mpsc::channel();
        runtime.spawn(server.run_with(move || ready.send(()).unwrap(), std::future::pending()));
        is_ready.recv_timeout(crate::program::DEADLINE).unwrap();
        Self {
            address,
            _runtime: runtime,
        }
    }

    fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = tidewatch();
        command
            .args(args)
            .env("TIDEWATCH_ENDPOINT", format!("http://{}", self.address));
        command
    }
}

#[test]
fn a_watch_beyond_the_limit_is_refused_with_4() {
    let server = Bounded::start(|config| {
        config.keyspace.watch = WatchSettings {
            max_watchers: 1,
            ..WatchSettings::default()
        };
    });
    let first = Running::start(&mut server.command(&["watch", "/w/", "--output", "json"]));
    first.next_of_type("created");
    let refused = run(&mut server.command(&["watch", "/w/"]));
    assert_eq!(refused.code, Some(4), "{refused:?}");
    insta::assert_snapshot!(refused.stderr, @r"
    error: limit of 1 watchers exceeded
    hint: `tidewatch watchers ls` shows who watches; end those that nobody needs, or raise the limit
    ");
}
