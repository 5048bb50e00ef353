//! What the integration, simulation and live tests share: backends they start themselves, and what stands between
//! them and a program when something is to go wrong.

pub mod live;
pub mod private_docker;
pub mod program;
pub mod socket_proxy;
pub mod wait;
