//! As much of a Docker engine as an agent's program needs to find containers.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

/// An engine at a unix socket of its own. Its threads end with the process.
pub(crate) struct FakeEngine {
    socket: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    containers: Vec<Value>,
    /// Those who listen to events.
    listeners: Vec<UnixStream>,
}

impl FakeEngine {
    /// One without containers.
    pub(crate) fn start(dir: &Path) -> Self {
        let socket = dir.join("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let state = Arc::<Mutex<State>>::default();
        let shared = state.clone();
        thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let shared = shared.clone();
                thread::spawn(move || serve(connection, &shared));
            }
        });
        Self { socket, state }
    }

    /// Where it is, as `DOCKER_HOST` says it.
    pub(crate) fn address(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Starts a container of the workload `shop`, and tells of it.
    pub(crate) fn run(&self, id: &str, role: &str) {
        let mut state = self.state.lock().unwrap();
        state.containers.push(json!({
            "Id": id, "Names": [format!("/shop-{role}")], "Image": "busybox", "State": "running", "Status": "Up 1 second",
            "Labels": {"tidewatch.managed": "true", "tidewatch.workload.id": "shop", "tidewatch.role": role},
        }));
        let event =
            json!({"Type": "container", "Action": "start", "Actor": {"ID": id}, "time": 1}).to_string();
        let chunk = format!("{:x}\r\n{event}\n\r\n", event.len() + 1);
        // Who has gone is not told any more.
        state
            .listeners
            .retain_mut(|listener| listener.write_all(chunk.as_bytes()).is_ok());
    }
}

fn serve(mut connection: UnixStream, state: &Mutex<State>) {
    while let Some(target) = read_target(&mut connection) {
        let mut state = state.lock().unwrap();
        let found = match target.split('?').next().unwrap_or_default() {
            "/events" => {
                let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
                if connection.write_all(head.as_bytes()).is_ok() {
                    state.listeners.push(connection);
                }
                return;
            }
            "/_ping" => Some("OK".to_owned()),
            "/version" => Some(json!({"Version": "20.10.24", "ApiVersion": "1.41"}).to_string()),
            "/info" => Some(json!({"ID": "d1"}).to_string()),
            "/containers/json" => Some(json!(state.containers).to_string()),
            // No more is known of any container than what lists tell.
            _ => None,
        };
        drop(state);
        let (status, body) = match found {
            Some(body) => ("200 OK", body),
            None => ("404 Not Found", "{}".to_owned()),
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        if connection.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// What is asked for; none when the client has left.
fn read_target(connection: &mut UnixStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        connection.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    head.split(' ').nth(1).map(ToOwned::to_owned)
}
