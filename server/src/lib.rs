//! The Wharf daemon, `wharfd`: a container engine whose API is gRPC.
//!
//! Layers, each knowing only those below it: `transport` (tonic, tower) -> `engine` (the domain) ->
//! `journal`, `store`, `stdio`, `backend` -> `oci`, `files`, `cgroup` -> `model`, `tarball`. ARCHITECTURE.md tells how they
//! work together.

pub mod backend;
pub mod cgroup;
pub mod config;
pub mod daemon;
pub mod engine;
pub mod files;
pub mod journal;
pub mod model;
pub mod oci;
pub mod registry;
pub mod stdio;
pub mod store;
mod tarball;
pub mod telemetry;
pub mod transport;
