//! All that a process can see of its own surroundings, for a spec that asks for much: the same on every backend.
//!
//! The expected text is `view.golden`; `WHARF_UPDATE=1` writes it anew. What is left out, because it is the
//! host's or the run's own: device numbers of file systems, ids of mounts and of their groups, the order of
//! mounts, access times, options of file systems other than `size` and `mode`, which file system a hidden path
//! or a volume is on, the hierarchies of control groups (one line says how all of them are mounted), process
//! ids (the process itself is SELF), namespaces (only those are named that are not the host's), limits and
//! environment that nobody asked for but the image.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use wharf_api::v1::{
    ContainerSpec, Mount, ProcessSpec, Resources, Rlimit, RunContainerStart, Security, TmpfsMount,
    mount::Source,
};

use super::{bind, directory, exec_spec_said, field, good, script, start, up};
use crate::harness::streams::exec;
use crate::harness::{Backend, scenario};

const GOLDEN: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/conformance/isolation/view.golden"
);

/// Sections, each behind a line with its name.
const LOOK: &str = r#"
read -r stat < /proc/self/stat; echo "== stat"; echo "$stat"
echo "== mounts"; cat /proc/self/mountinfo
echo "== status"; cat /proc/$$/status
echo "== limits"; cat /proc/self/limits
echo "== namespaces"
for kind in cgroup ipc mnt net pid user uts; do echo $kind $(busybox readlink /proc/self/ns/$kind); done
echo "== devices"; cd /dev; for name in * shm/. pts/.; do stat -c '%n %F %a %u:%g %t:%T' $name; done; cd - > /dev/null
echo "== descriptors"; for n in 0 1 2; do stat -L -c "$n %F" /proc/$$/fd/$n; done
echo "== masked"
for path in /proc/kcore /proc/keys /proc/interrupts; do echo $path $(dd if=$path bs=64 count=1 2>/dev/null | wc -c); done
for path in /proc/sys/kernel/sysrq /proc/irq/x /proc/bus/x /proc/fs/x /proc/sysrq-trigger /sys/x /x; do
  (echo > $path) 2>/dev/null && echo $path written || echo $path refused
done
echo "== environment"; tr '\0' '\n' < /proc/$$/environ
echo "== place"; pwd; hostname; umask; cat /proc/self/oom_score_adj
ls -ld /memory /lent /dev/shm | sed 's/ .* \// \//'
"#;

fn spec(lent: &Path) -> ContainerSpec {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let mut spec = script(LOOK);
    let process = spec.process.get_or_insert_default();
    process.user = "1000:50".to_owned();
    process.supplemental_groups = names(&["video", "4711"]);
    process.working_dir = "/home/app".to_owned();
    process.env = BTreeMap::from([("ASKED".to_owned(), "for".to_owned())]);
    ContainerSpec {
        hostname: "viewed".to_owned(),
        read_only_root: true,
        shm_size_bytes: 3 << 20,
        stdin_open: true,
        mounts: vec![
            Mount {
                target: "/memory".to_owned(),
                source: Some(Source::Tmpfs(TmpfsMount {
                    size_bytes: 1 << 20,
                    mode: Some(0o1770),
                })),
                ..Default::default()
            },
            Mount {
                read_only: true,
                ..bind(lent, "/lent")
            },
        ],
        rlimits: vec![Rlimit {
            name: "RLIMIT_NOFILE".to_owned(),
            soft: 456,
            hard: 456,
        }],
        security: Some(Security {
            capabilities_add: names(&["CAP_NET_ADMIN", "CAP_SYS_TIME"]),
            capabilities_drop: names(&["CAP_SETPCAP"]),
            ..Default::default()
        }),
        resources: Some(Resources {
            pids_limit: Some(50),
            memory_limit_bytes: Some(64 << 20),
            ..Default::default()
        }),
        ..spec
    }
}

#[test]
fn every_backend_shows_a_process_the_same() {
    scenario(async |world| {
        let client = up(world).await;
        let lent = directory(world, "lent");
        let run = RunContainerStart {
            spec: Some(spec(&lent)),
            ..Default::default()
        };
        let joined = client.run_container(run).await.unwrap();
        let main = good(&joined.whole().await.unwrap());

        let waiting = ContainerSpec {
            process: Some(ProcessSpec {
                args: vec!["sleep".to_owned(), "3600".to_owned()],
                ..spec(&lent).process.unwrap()
            }),
            ..spec(&lent)
        };
        start(&client, "c", waiting).await;
        let by_exec = exec_spec_said(&client, "c", exec(&["sh", "-c", LOOK])).await;
        let mut by_root = exec(&["sh", "-c", LOOK]);
        by_root.process.get_or_insert_default().user = "0:0".to_owned();
        let by_root = exec_spec_said(&client, "c", by_root).await;

        let mut view = String::new();
        for (what, said) in [("main", main), ("exec", by_exec), ("exec as root", by_root)] {
            writeln!(view, "#### {what}").unwrap();
            for line in normalised(&said) {
                writeln!(view, "{line}").unwrap();
            }
        }
        must_equal(&view);
    });
}

fn must_equal(view: &str) {
    if std::env::var_os("WHARF_UPDATE").is_some() {
        return fs::write(GOLDEN, view).unwrap();
    }
    let mut golden = fs::read_to_string(GOLDEN).unwrap();
    if Backend::of_this_run() == Backend::LocalBy("crun") {
        // crun 1.8 gives a session of its own to an exec with a terminal only.
        golden = golden.replace(
            "parent 0 group SELF session SELF",
            "parent 0 group 0 session 0",
        );
        golden = golden.replacen(
            "parent 0 group 0 session 0",
            "parent 0 group SELF session SELF",
            1,
        );
    }
    let expected: Vec<_> = golden.lines().collect();
    for (number, (expected, seen)) in expected.iter().zip(view.lines()).enumerate() {
        assert_eq!(
            seen,
            *expected,
            "line {} of view.golden, in\n{view}",
            number + 1
        );
    }
    assert_eq!(view.lines().count(), expected.len(), "{view}");
}

fn normalised(said: &str) -> Vec<String> {
    let mut sections: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut now = "";
    for line in said.lines() {
        match line.strip_prefix("== ") {
            Some(name) => now = name,
            None => sections.entry(now).or_default().push(line),
        }
    }
    let lines = |name: &str| sections[name].clone();
    let mut all = vec![stat(&lines("stat"))];
    all.extend(mounts(&lines("mounts")));
    all.extend(status(&lines("status").join("\n")));
    all.extend(limits(&lines("limits")));
    all.extend(namespaces(&lines("namespaces")));
    for name in ["devices", "descriptors", "masked", "environment", "place"] {
        let lines = lines(name).into_iter();
        // The link to the memory that is masked: some make it only where there is such memory.
        let lines = lines.filter(|line| !line.starts_with("core "));
        all.extend(lines.map(|line| format!("{name}: {line}")));
    }
    all
}

/// `PID (COMMAND) STATE PARENT GROUP SESSION TERMINAL …`
fn stat(lines: &[&str]) -> String {
    let fields: Vec<_> = lines[0].split(' ').collect();
    let own = |field: &str| {
        if field == fields[0] {
            "SELF".to_owned()
        } else {
            field.to_owned()
        }
    };
    format!(
        "stat: parent {} group {} session {} terminal {}",
        fields[3],
        own(fields[4]),
        own(fields[5]),
        fields[6]
    )
}

fn mounts(lines: &[&str]) -> Vec<String> {
    let mut all: Vec<_> = lines.iter().filter_map(|line| mount(line)).collect();
    all.sort();
    all.dedup();
    all
}

fn mount(line: &str) -> Option<String> {
    let fields: Vec<_> = line.split(' ').collect();
    let dash = fields.iter().position(|field| *field == "-")?;
    let (target, options, kind) = (fields[4], fields[5], fields[dash + 1]);
    let groups = fields[6..dash]
        .iter()
        .map(|tag| tag.split(':').next().unwrap_or_default());
    let groups: Vec<_> = groups.collect();
    let options = sorted(options, |option| !option.ends_with("atime"));
    if kind.starts_with("cgroup") {
        return Some(format!("mount: /sys/fs/cgroup {options} {groups:?}"));
    }
    // Whatever hides or protects one of the kernel's files is asked under `masked`. The directory of version 1's
    // hierarchies is memory of the container's own, which runc leaves writable.
    if target.starts_with("/proc/") || target.starts_with("/sys/") {
        return None;
    }
    let kind = if target == "/lent" { "volume" } else { kind };
    let of_system = if kind == "tmpfs" {
        sorted(fields[dash + 3], |option| {
            option.starts_with("size=") || option.starts_with("mode=")
        })
    } else {
        String::new()
    };
    Some(
        format!("mount: {target} {kind} {options} {groups:?} {of_system}")
            .trim_end()
            .to_owned(),
    )
}

fn sorted(options: &str, keep: impl Fn(&str) -> bool) -> String {
    let mut kept: Vec<_> = options.split(',').filter(|option| keep(option)).collect();
    kept.sort_unstable();
    kept.join(",")
}

fn status(text: &str) -> Vec<String> {
    const FIELDS: [&str; 11] = [
        "Uid",
        "Gid",
        "Groups",
        "Umask",
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "NoNewPrivs",
        "Seccomp",
    ];
    let line = |name| format!("status: {name} {}", field(text, name).replace('\t', " "));
    FIELDS.into_iter().map(line).collect()
}

fn limits(lines: &[&str]) -> Option<String> {
    let line = lines
        .iter()
        .find(|line| line.starts_with("Max open files"))?;
    let words: Vec<_> = line.split_whitespace().collect();
    Some(format!("limits: {}", words.join(" ")))
}

fn namespaces(lines: &[&str]) -> Vec<String> {
    let own = |line: &&&str| {
        let (kind, id) = line.split_once(' ').unwrap();
        let of_host = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        of_host.as_os_str() != id
    };
    let name = |line: &&str| format!("namespace: {} is its own", line.split(' ').next().unwrap());
    lines.iter().filter(own).map(name).collect()
}
