//! Watches. Most are what etcd's own tests of a single server ask for (the names in brackets are theirs).

mod creating;
mod delivering;
mod ending;
mod fragments;
mod progress;
