#![allow(clippy::panic, reason = "tests fail by panicking")]

use std::sync::Arc;

use super::*;
use crate::model::samples;
use crate::model::spec::{ContainerSpec, Process, Propagation};

const SHIM: &str = "failed to create shim task: OCI runtime create failed: ";
const RUNC: &str = "failed to create shim task: OCI runtime create failed: runc create failed: unable \
                    to start container process: ";
const INIT: &str = "failed to create shim task: OCI runtime create failed: runc create failed: unable \
                    to start container process: error during container init: ";

fn container(args: &[&str], working_dir: &str, mounts: &[(&str, &str)]) -> Container {
    let bind = |(source, target): &(&str, &str)| Mount {
        target: (*target).to_owned(),
        source: MountSource::Bind {
            path: (*source).to_owned(),
            create: false,
            propagation: Propagation::Private,
        },
        read_only: false,
    };
    let container = samples::container(ContainerSpec {
        mounts: mounts.iter().map(bind).collect(),
        runtime: Some("some-runtime".to_owned()),
        ..samples::spec()
    });
    Container {
        process: Arc::new(Process {
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            working_dir: working_dir.to_owned(),
            ..Process::clone(&container.process)
        }),
        ..container
    }
}

/// What `message` means for `container`; `None` for words that no rule knows.
fn meaning(message: &str, container: &Container) -> Option<BackendError> {
    let context = LaunchContext {
        container,
        process: &container.process,
        runtime: RuntimeName::of(container, "runc"),
    };
    classify(message, &context)
}

#[track_caller]
fn assert_launch(message: &str, container: &Container, expected: &LaunchFailure) {
    match meaning(message, container) {
        Some(BackendError::Launch(failure)) => assert_eq!(failure, *expected, "{message}"),
        other => panic!("{message}: {other:?}"),
    }
}

#[test]
fn a_program_that_is_not_there_is_known_from_all_its_texts() {
    // (program, as runc 1.1.5 and crun 1.8.1 through containerd 1.6.20 said it)
    let recorded = [
        (
            "/nope",
            format!("{RUNC}exec: \"/nope\": stat /nope: no such file or directory: unknown"),
        ),
        (
            "nope",
            format!("{RUNC}exec: \"nope\": executable file not found in $PATH: unknown"),
        ),
        (
            "./nope",
            format!("{RUNC}exec: \"./nope\": stat ./nope: no such file or directory: unknown"),
        ),
        (
            "/nope",
            format!(
                "{SHIM}executable file `/nope` not found in $PATH: No such file or directory: unknown"
            ),
        ),
        (
            "nope",
            format!(
                "{SHIM}executable file `nope` not found in $PATH: No such file or directory: unknown"
            ),
        ),
    ];
    for (path, message) in recorded {
        let path = path.to_owned();
        let container = container(&[&path], "/", &[]);
        assert_launch(
            &message,
            &container,
            &LaunchFailure::ExecutableNotFound { path },
        );
    }
}

#[test]
fn a_program_that_may_not_be_executed_is_known_from_all_its_texts() {
    let path = "/etc/plain".to_owned();
    let container = container(&[&path], "/", &[]);
    for message in [
        format!("{RUNC}exec: \"/etc/plain\": permission denied: unknown"),
        format!("{SHIM}open executable: Permission denied: unknown"),
        format!("{SHIM}open executable: Operation not permitted: unknown"),
    ] {
        let expected = LaunchFailure::ExecutableNotPermitted { path: path.clone() };
        assert_launch(&message, &container, &expected);
    }
}

#[test]
fn a_program_of_another_format_is_known() {
    // runc 1.1 and crun 1.8 only find out after the start, so this is read from runc's source
    // (libcontainer/system, Exec).
    let expected = LaunchFailure::ExecutableFormat {
        path: "/bin/garbage".to_owned(),
        platform: Platform::host().to_string(),
    };
    let message = format!("{INIT}exec /bin/garbage: exec format error: unknown");
    assert_launch(&message, &container(&["/bin/garbage"], "/", &[]), &expected);
}

#[test]
fn a_bad_working_directory_is_known_from_all_its_texts() {
    let path = "/etc/plain".to_owned();
    let container = container(&["true"], &path, &[]);
    for message in [
        format!("{INIT}mkdir /etc/plain: not a directory: unknown"),
        format!(
            "{INIT}chdir to cwd (\"/etc/plain\") set in config.json failed: permission denied: unknown"
        ),
        format!("{SHIM}chdir `/etc/plain`: Not a directory: unknown"),
    ] {
        let expected = LaunchFailure::WorkingDirInvalid { path: path.clone() };
        assert_launch(&message, &container, &expected);
    }
}

#[test]
fn a_failed_mount_is_known_from_all_its_texts() {
    // (source, target, error number, text)
    let recorded = [
        (
            "/does/not/exist",
            "/mnt",
            "ENOENT",
            format!(
                "{INIT}error mounting \"/does/not/exist\" to rootfs at \"/mnt\": stat /does/not/exist: no such file or directory: unknown"
            ),
        ),
        (
            "/etc/hostname",
            "/tmp",
            "ENOTDIR",
            format!(
                "{INIT}error mounting \"/etc/hostname\" to rootfs at \"/tmp\": mount /etc/hostname:/tmp (via /proc/self/fd/6), flags: 0x5000: not a directory: unknown"
            ),
        ),
        (
            "/usr",
            "/etc/plain/x",
            "ENOTDIR",
            format!(
                "{INIT}error mounting \"/usr\" to rootfs at \"/etc/plain/x\": open o_path procfd: open /run/rootfs/etc/plain/x: not a directory: unknown"
            ),
        ),
        (
            "/does/not/exist",
            "/mnt",
            "ENOENT",
            format!(
                "{SHIM}error stat'ing file `/does/not/exist`: No such file or directory: unknown"
            ),
        ),
        (
            "/etc/hostname",
            "/tmp",
            "ENOTDIR",
            format!("{SHIM}mount `/etc/hostname` to `tmp`: Not a directory: unknown"),
        ),
        (
            "/usr",
            "/etc/plain/x",
            "ENOTDIR",
            format!("{SHIM}mkdir `/etc/plain/x`: Not a directory: unknown"),
        ),
    ];
    for (source, target, errno, message) in recorded {
        let container = container(&["true"], "/", &[(source, target)]);
        let expected = LaunchFailure::MountFailed {
            target: target.to_owned(),
            source_path: source.to_owned(),
            errno: errno.to_owned(),
        };
        assert_launch(&message, &container, &expected);
    }
}

#[test]
fn a_runtime_that_is_not_installed_is_known_from_all_its_texts() {
    let container = container(&["true"], "/", &[]);
    let no_log =
        "unable to retrieve OCI runtime error (open /run/log.json: no such file or directory)";
    for message in [
        format!("{SHIM}{no_log}: exec: \"noruntime\": executable file not found in $PATH: unknown"),
        format!("{SHIM}{no_log}: fork/exec /usr/bin/noruntime: no such file or directory: unknown"),
        "failed to start shim: failed to resolve runtime path: runtime \"io.containerd.foo.v1\" binary not installed \"containerd-shim-foo-v1\": file does not exist".to_owned(),
    ] {
        let found = meaning(&message, &container);
        let Some(BackendError::Launch(LaunchFailure::RuntimeNotFound { runtime, .. })) = found else {
            panic!("{message}: {found:?}");
        };
        assert_eq!(runtime, "some-runtime");
    }
}

#[test]
fn a_runtime_that_crashed_is_not_a_runtime_that_is_missing() {
    let message = format!(
        "{SHIM}unable to retrieve OCI runtime error (open /run/log.json: no such file or directory): signal: killed: unknown"
    );
    assert!(meaning(&message, &container(&["true"], "/", &[])).is_none());
}

#[test]
fn an_unknown_user_is_known() {
    // runc, libcontainer/user.
    let container = container(&["true"], "/", &[]);
    let message =
        format!("{INIT}unable to find user nobody: no matching entries in passwd file: unknown");
    let expected = LaunchFailure::UserNotFound {
        user: "nobody".to_owned(),
    };
    assert_launch(&message, &container, &expected);
}

#[test]
fn a_refused_security_profile_is_known() {
    // runc, libcontainer/standard_init_linux.go and apparmor_linux.go.
    let container = container(&["true"], "/", &[]);
    let texts = [
        (
            "seccomp",
            format!(
                "{INIT}unable to init seccomp: error loading seccomp filter into kernel: invalid argument: unknown"
            ),
        ),
        (
            "seccomp",
            format!("{INIT}error loading seccomp filter into kernel: errno 524: unknown"),
        ),
        (
            "apparmor",
            format!(
                "{INIT}unable to apply apparmor profile: apparmor failed to apply profile: no such file or directory: unknown"
            ),
        ),
    ];
    for (kind, message) in texts {
        let expected = LaunchFailure::SecurityProfileInvalid {
            profile_kind: kind.to_owned(),
            profile: "default".to_owned(),
        };
        assert_launch(&message, &container, &expected);
    }
}

#[test]
fn a_host_that_ran_out_is_known_whatever_failed() {
    let texts = [
        (
            format!("{RUNC}fork/exec /proc/self/exe: cannot allocate memory: unknown"),
            "memory",
            "ENOMEM",
        ),
        (
            format!("{SHIM}fork: Resource temporarily unavailable: unknown"),
            "processes",
            "EAGAIN",
        ),
        (
            "failed to start shim: start failed: : pipe2: too many open files: unknown".to_owned(),
            "descriptors",
            "EMFILE",
        ),
    ];
    let container = container(&["true"], "/", &[]);
    for (message, resource, errno) in texts {
        let found = meaning(&message, &container);
        let Some(BackendError::HostResources {
            resource: r,
            errno: e,
        }) = found
        else {
            panic!("{message}: {found:?}");
        };
        assert_eq!((r, e), (resource, errno));
    }
}

#[test]
fn a_full_disk_is_known_with_its_path() {
    let message =
        "failed to create task: mkdir /run/containerd/x: no space left on device: unknown";
    let Some(BackendError::NoSpace { path }) = exhausted(message) else {
        panic!("not recognised");
    };
    assert_eq!(path, "/run/containerd/x");
}

#[test]
fn a_root_that_is_gone_is_not_a_fault_of_the_program() {
    let message = "failed to create shim task: failed to mount rootfs component &{overlay overlay [workdir=/x]}: no such file or directory: unknown";
    let found = meaning(message, &container(&["true"], "/", &[]));
    assert!(matches!(
        found,
        Some(BackendError::NotFound {
            backend: "containerd",
            what: "snapshot"
        })
    ));
}

#[test]
fn words_in_a_path_mean_nothing() {
    let program = "/x: no space left on device: exec format error";
    let message =
        format!("{RUNC}exec: \"{program}\": stat {program}: no such file or directory: unknown");
    let expected = LaunchFailure::ExecutableNotFound {
        path: program.to_owned(),
    };
    assert_launch(&message, &container(&[program], "/", &[]), &expected);
}

#[test]
fn what_nobody_knows_is_refused_in_the_runtimes_words() {
    let message = format!(
        "{INIT}error setting rlimits for ready process: error setting rlimit type 7: invalid argument: unknown"
    );
    assert!(meaning(&message, &container(&["true"], "/", &[])).is_none());
    let BackendError::Launch(LaunchFailure::Refused { message }) = refused(&message) else {
        panic!("not refused");
    };
    assert_eq!(
        message,
        "error setting rlimits for ready process: error setting rlimit type 7: invalid argument"
    );
}

#[test]
fn what_only_a_layer_can_be_blamed_for_is_told_from_the_rest() {
    let place = "/run/containerd/io.containerd.x/tmpmounts/containerd-mount1";
    for message in [
        format!("link {place}/a {place}/b: no such file or directory"),
        format!(
            "mount callback failed on {place}: link {place}/a {place}/b: no such file or directory"
        ),
        format!("mkdir {place}/{}: file name too long", "n".repeat(300)),
        format!("open {place}/a/b: not a directory"),
        "failed to extract layer: archive/tar: invalid tar header".to_owned(),
        "unexpected EOF".to_owned(),
    ] {
        assert!(blames_layer(&message), "{message}");
    }
    for message in [
        format!("failed to mount {place}: invalid argument"),
        format!("open {place}/a: no such file or directory"),
        format!("mount callback failed on {place}: write {place}/a: no space left on device"),
        format!("write {place}/a: no space left on device"),
        format!("write {place}/a: input/output error"),
        "context deadline exceeded".to_owned(),
    ] {
        assert!(!blames_layer(&message), "{message}");
    }
}
