//! What containers of scenarios run.

use std::time::Duration;

use wharf_api::v1::{ContainerSpec, NetworkSpec, NoNetwork, ProcessSpec, network_spec};

use super::image;

/// A program of the busybox image, without a network.
pub fn running(args: &[&str]) -> ContainerSpec {
    ContainerSpec {
        image: image::REFERENCE.to_owned(),
        process: Some(ProcessSpec {
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            ..Default::default()
        }),
        network: Some(NetworkSpec {
            mode: Some(network_spec::Mode::None(NoNetwork {})),
        }),
        ..Default::default()
    }
}

/// The same of another image that has busybox.
pub fn running_of(image: &str, args: &[&str]) -> ContainerSpec {
    ContainerSpec {
        image: image.to_owned(),
        ..running(args)
    }
}

/// Runs until it is stopped, and ends at once on SIGTERM with code 0.
pub const PATIENT: &[&str] = &[
    "sh",
    "-c",
    "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done",
];

/// Runs until it is killed: process 1 has no default actions for signals.
pub const STUBBORN: &[&str] = &["sleep", "3600"];

pub fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(duration).unwrap()
}
