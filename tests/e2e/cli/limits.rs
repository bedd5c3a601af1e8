//! Limits: in the cgroup and in the process, at the start and live.

use super::look::Main;
use super::up;
use crate::harness::scenario;

#[test]
fn limits_of_memory_processors_and_processes_are_in_the_cgroup() {
    scenario(async |world| {
        let wharf = up(world).await;
        let flags = "--name box --memory 64m --memory-reservation 32m --cpus 0.5 --cpuset-cpus 0 \
                     --pids-limit 33";
        wharf.run_script(flags, "exec sleep 3600").await;
        let main = Main::of(&wharf, "box").await;
        let memory = || main.cgroup("memory", "memory.limit_in_bytes", "memory.max");
        assert_eq!(memory(), (64 << 20).to_string());
        let kept = main.cgroup("memory", "memory.soft_limit_in_bytes", "memory.low");
        assert_eq!(kept, (32 << 20).to_string());
        let quota = || main.cgroup("cpu", "cpu.cfs_quota_us", "cpu.max");
        assert_eq!(quota().split(' ').next(), Some("50000"));
        assert_eq!(main.cgroup("cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
        let processes = || main.cgroup("pids", "pids.max", "pids.max");
        assert_eq!(processes(), "33");

        // Live, and what is not named stays.
        assert_eq!(wharf.ok("update --memory 128m --cpus 1.5 box").await, "box");
        assert_eq!(memory(), (128 << 20).to_string());
        assert_eq!(quota().split(' ').next(), Some("150000"));
        assert_eq!(processes(), "33");
        wharf.ok("update --pids-limit 44 box").await;
        assert_eq!(processes(), "44");
        let limits = &wharf.inspect("box").await["spec"]["resources"];
        assert_eq!(limits["pidsLimit"], "44");
        assert_eq!(limits["memoryLimitBytes"], (128 << 20).to_string());
    });
}

#[test]
fn a_container_cannot_have_more_processes_than_its_limit() {
    scenario(async |world| {
        let wharf = up(world).await;
        // The shell, and four of the six it wants.
        let script = "for i in 1 2 3 4 5 6; do sleep 3600 & done; wait";
        wharf.run_script("--name few --pids-limit 5", script).await;
        // A shell that cannot fork gives up, and the kernel has counted no more than it may.
        assert_ne!(wharf.ok("wait few").await, "0");
    });
}

#[test]
fn who_takes_more_memory_than_allowed_is_killed_and_it_is_told_why() {
    scenario(async |world| {
        let wharf = up(world).await;
        let words = [
            "run",
            "-d",
            "--name",
            "greedy",
            "--memory",
            "16m",
            super::IMAGE,
        ];
        let program = ["dd", "if=/dev/zero", "of=/dev/null", "bs=256M", "count=1"];
        wharf.ok_words(&[&words[..], &program[..]].concat()).await;
        assert_eq!(wharf.ok("wait greedy").await, "137");
        assert_eq!(
            wharf.inspect("greedy").await["exitStatus"]["reason"],
            "REASON_OOM_KILLED"
        );
    });
}

#[test]
fn limits_of_the_process_are_those_of_the_flags() {
    scenario(async |world| {
        let wharf = up(world).await;
        let flags = "--name small --ulimit nofile=128:256 --ulimit core=0 --ulimit cpu=-1";
        wharf.run_script(flags, "exec sleep 3600").await;
        let limits = Main::of(&wharf, "small").await.read("limits");
        let row = |name: &str| -> Vec<String> {
            let row = limits.lines().find_map(|line| line.strip_prefix(name));
            let words = row.expect(name).split_whitespace().take(2);
            words.map(str::to_owned).collect()
        };
        assert_eq!(row("Max open files"), ["128", "256"]);
        assert_eq!(row("Max core file size"), ["0", "0"]);
        assert_eq!(row("Max cpu time"), ["unlimited", "unlimited"]);
    });
}
