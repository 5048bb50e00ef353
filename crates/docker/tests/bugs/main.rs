//! The bugs of others that this crate has to be free of. Each is told in one line; the tests of it begin with its number.
//!
//! | bug | of whom | tested in |
//! |---|---|---|
//! | 01: what happens between list and subscription is lost | docker-gen 57, registrator 73 | `loss` |
//! | 02: a lost `die` leaves a container running for ever | registrator 325, 277 | `loss` |
//! | 03: a list that was under way resurrects what went meanwhile | registrator 621 | `loss` |
//! | 04: a restarted daemon has another socket under the same name | traefik 5833, docker-gen 224 | `wire` |
//! | 05: attempts to reconnect stop after some hours | traefik 13549 | `outage` |
//! | 06: each health probe inspects each container | traefik 13321 | `cost` |
//! | 07: a network that is connected later goes unseen | traefik 7673, docker-gen 190 | `loss` |
//! | 08: a socket that is down declares everything dead | nomad 1859, 24105 | `outage` |
//! | 09: what it does not own is cleaned away | nomad 16338 | `identity`, `wire` |
//! | 10: one unknown word fails the whole list | bollard 701, 715 | `wire` |
//! | 11: one malformed event silences all that follow | podman-desktop 14877 | `wire` |
//! | 12: the engine remembers 256 events and drops others | moby 36928, 33593, 38812 | `loss` |
//! | 13: one dead host holds the others up | dozzle 4622, 2969 | `outage` |
//! | 14: a proxy cuts a quiet stream, and the last event comes again | docker-socket-proxy 62, 181 | `wire`, `loss`, `outage` |
//! | 15: identity comes from a host's name, and doubles | registrator 644, 190 | `identity` |
//! | `api_version`: a newer engine refuses older paths | traefik 12253 | `wire` |
//! | `dead_containers`: 21 000 of them | weave scope 3211 | `cost` |
//! | `list_hang`: a list that never answers | moby 30883 | `outage` |

mod cost;
mod identity;
mod loss;
mod outage;
#[cfg(feature = "bollard")]
mod wire;

#[cfg(feature = "bollard")]
#[path = "../scripted/mod.rs"]
mod scripted;
#[path = "../world/mod.rs"]
mod world;
