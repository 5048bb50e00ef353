//! What the integration, simulation and live tests share: backends they start themselves, and what stands between
//! them and a program when something is to go wrong.

pub mod certificate;
pub mod etcd;
pub mod etcd_cluster;
pub mod json;
pub mod live;
pub mod port;
pub mod private_docker;
pub mod program;
pub mod prometheus;
pub mod simulation;
pub mod socket_proxy;
pub mod tcp_proxy;
pub mod wait;
pub mod watch_check;
