//! What the server can do. Each method of the API belongs to exactly one capability, and so does each
//! option that a request can name and no backend has. Names never change their meaning.

use wharf_api::v1;

/// Why something is not available: nobody has built it yet.
const NOT_BUILT: &str = "NOT_IMPLEMENTED";

/// What the server can do: a name, and the methods that need it; options have none.
const AVAILABLE: [(&str, &[&str]); 46] = [
    ("container.create", &["CreateContainer"]),
    ("container.read", &["GetContainer", "ListContainers"]),
    ("container.update", &["UpdateContainer"]),
    ("container.delete", &["DeleteContainer"]),
    (
        "container.start",
        &["StartContainer", "StopContainer", "RestartContainer"],
    ),
    ("container.signal", &["SignalContainer"]),
    ("container.pause", &["PauseContainer", "ResumeContainer"]),
    ("container.wait", &["WaitContainer"]),
    ("container.processes", &["ListContainerProcesses"]),
    ("container.prune", &["PruneContainers"]),
    ("container.attach", &["AttachContainer", "FollowContainer"]),
    ("container.resize", &["ResizeContainer"]),
    ("container.run", &["RunContainer"]),
    (
        "exec.create",
        &["CreateExec", "GetExec", "ListExecs", "DeleteExec"],
    ),
    ("exec.start", &["StartExec"]),
    ("exec.run", &["RunExec"]),
    ("exec.attach", &["AttachExec", "FollowExec"]),
    ("exec.sync", &["ExecSync"]),
    ("exec.stdin", &["WriteStdin"]),
    ("exec.signal", &["SignalExec"]),
    ("exec.resize", &["ResizeExec"]),
    ("exec.wait", &["WaitExec"]),
    ("container.spec.init", &[]),
    ("container.spec.log", &[]),
    ("container.spec.stdin_open", &[]),
    ("container.spec.terminal", &[]),
    ("event.initial_execs", &[]),
    ("event.watch", &["WatchEvents"]),
    ("event.list", &["ListEvents"]),
    ("file.stat", &["StatPath"]),
    ("file.read", &["ReadArchive", "ReadFile"]),
    ("file.write", &["WriteArchive", "WriteFile"]),
    ("container.spec.pull", &[]),
    ("image.pull", &["PullImage"]),
    ("image.push", &["PushImage"]),
    ("image.read", &["GetImage", "ListImages"]),
    ("image.export", &["ExportImage"]),
    ("image.import", &["ImportImage"]),
    ("image.manage", &["TagImage", "DeleteImage"]),
    ("image.prune", &["PruneImages"]),
    ("log.stream", &["StreamLogs"]),
    ("log.follow", &["FollowLogs"]),
    ("stats.list", &["ListStats"]),
    ("stats.stream", &["StreamStats"]),
    ("system.disk_usage", &["GetDiskUsage"]),
    ("system.info", &["GetVersion", "GetCapabilities", "GetInfo"]),
];

/// What it cannot do yet, methods first.
const NOT_YET: [(&str, &[&str]); 10] = [
    ("container.spec.apparmor_profile", &[]),
    ("container.spec.devices", &[]),
    ("container.spec.dns", &[]),
    ("container.spec.extra_hosts", &[]),
    ("container.spec.health_check", &[]),
    ("container.spec.image_mounts", &[]),
    ("container.spec.privileged", &[]),
    ("container.spec.restart_policy", &[]),
    ("container.spec.run_timeout", &[]),
    ("container.spec.user_namespace", &[]),
];

/// Every capability, by name.
pub(super) fn all() -> Vec<v1::Capability> {
    let available = AVAILABLE.iter().map(|(name, _)| (*name, ""));
    let not_yet = NOT_YET.iter().map(|(name, _)| (*name, NOT_BUILT));
    let mut all: Vec<_> = available
        .chain(not_yet)
        .map(|(name, reason)| v1::Capability {
            name: name.to_owned(),
            available: reason.is_empty(),
            reason: reason.to_owned(),
        })
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// The capability that a method belongs to.
#[cfg(test)]
pub(in crate::transport::services) fn of(method: &str) -> Option<&'static str> {
    let mut all = AVAILABLE.iter().chain(&NOT_YET);
    all.find(|(_, methods)| methods.contains(&method))
        .map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_method_belongs_to_exactly_one_capability() {
        let named: Vec<_> = AVAILABLE
            .iter()
            .chain(&NOT_YET)
            .flat_map(|(_, methods)| methods.iter().copied())
            .collect();
        let methods: BTreeSet<_> = wharf_api::METHODS.iter().map(|m| m.name).collect();
        assert_eq!(named.iter().copied().collect::<BTreeSet<_>>(), methods);
        assert_eq!(named.len(), methods.len());
    }

    #[test]
    fn no_capability_is_named_twice() {
        let names: BTreeSet<_> = all().into_iter().map(|c| c.name).collect();
        assert_eq!(names.len(), all().len());
    }
}
