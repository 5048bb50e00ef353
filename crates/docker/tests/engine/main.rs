//! The adapter against engines that misbehave, byte by byte.
#![cfg(feature = "bollard")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod call;
mod front;
mod podman;
mod ssh;
mod subscription;
#[cfg(feature = "tls")]
mod tls;

#[path = "../scripted/mod.rs"]
mod scripted;
