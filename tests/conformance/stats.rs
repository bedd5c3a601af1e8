//! What containers are said to use, against what the kernel and their own processes say.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::timeout;
use wharf_api::ErrorReason;
use wharf_api::v1::{
    self, Container, ContainerFilter, ContainerStats, ListStatsRequest, NetworkSpec, NetworkStats,
    Resources, StreamStatsRequest, StreamStatsResponse, network_spec,
};

use crate::harness::client::answer;
use crate::harness::wait::so;
use crate::harness::{Client, Refusal, scenario, spec, until};

/// No wait of a scenario takes longer.
const LATE: Duration = Duration::from_secs(120);
const MEBIBYTE: i64 = 1 << 20;

/// Uses a processor as much as it can.
const BUSY: &[&str] = &["sh", "-c", "while :; do :; done"];
/// Uses none.
const IDLE: &[&str] = &["sleep", "3600"];

fn named(name: &str) -> ListStatsRequest {
    ListStatsRequest {
        filter: Some(ContainerFilter {
            names: vec![name.to_owned()],
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The stats of one container that runs.
async fn stats_of(client: &Client, name: &str) -> ContainerStats {
    let mut listed = client.list_stats(named(name)).await.unwrap().stats;
    assert_eq!(listed.len(), 1, "{listed:?}");
    listed.remove(0)
}

fn names(stats: &[ContainerStats]) -> Vec<&str> {
    stats.iter().map(|it| it.container_name.as_str()).collect()
}

async fn run_with(
    client: &Client,
    name: &str,
    args: &[&str],
    change: impl FnOnce(&mut v1::ContainerSpec),
) -> Container {
    let mut spec = spec::running(args);
    change(&mut spec);
    client.run_spec(name, spec).await.unwrap()
}

/// CPU time of a process by its own account, in seconds (proc_pid_schedstat(5)).
fn cpu_of(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    let nanoseconds: f64 = text.split(' ').next().unwrap().parse().unwrap();
    nanoseconds / 1e9
}

fn seconds(duration: Option<prost_types::Duration>) -> f64 {
    Duration::try_from(duration.unwrap()).unwrap().as_secs_f64()
}

fn cpu_in(stats: &ContainerStats) -> f64 {
    seconds(stats.cpu.as_ref().unwrap().usage)
}

/// Reads the stats between two looks at the process's own account.
async fn between(client: &Client, name: &str, pid: u32) -> (f64, ContainerStats, f64) {
    let before = cpu_of(pid);
    let stats = stats_of(client, name).await;
    (before, stats, cpu_of(pid))
}

#[test]
fn cpu_time_is_what_the_process_itself_is_charged() {
    /// The accounts of a process and of its group are brought up to date by the same tick at the latest.
    const TICK: f64 = 0.05;
    scenario(async |world| {
        let client = world.up().await;
        let pid = client.run("busy", BUSY).await.unwrap().pid;
        let (early, first, late) = between(&client, "busy", pid).await;
        until("half a second is used", LATE, async || {
            let used = cpu_of(pid) - late;
            so(used > 0.5, || format!("{used} s"))
        })
        .await;
        let (least, second, most) = between(&client, "busy", pid).await;
        let used = cpu_in(&second) - cpu_in(&first);
        assert!(
            used >= least - late - TICK && used <= most - early + TICK,
            "{used} is not between {} and {}",
            least - late,
            most - early
        );
        let cpu = second.cpu.unwrap();
        let modes = seconds(cpu.user) + seconds(cpu.system);
        assert!(
            (modes - cpu_in(&second)).abs() < 0.1 + cpu_in(&second) / 10.0,
            "{cpu:?}"
        );
        assert_eq!(cpu.cores, None, "there is no sample before");
        assert_eq!(seconds(cpu.throttled), 0.0);
    });
}

#[test]
fn a_limit_of_cpu_shows_in_the_time_kept_waiting() {
    scenario(async |world| {
        let client = world.up().await;
        run_with(&client, "slow", BUSY, |spec| {
            spec.resources = Some(Resources {
                cpu_limit_millicores: Some(100),
                ..Default::default()
            });
        })
        .await;
        until("it is kept waiting", LATE, async || {
            let cpu = stats_of(&client, "slow").await.cpu.unwrap();
            so(seconds(cpu.throttled) > 0.2, || format!("{cpu:?}"))
        })
        .await;
    });
}

#[test]
fn memory_that_is_held_shows_and_so_does_the_limit() {
    scenario(async |world| {
        let client = world.up().await;
        client.run("free", IDLE).await.unwrap();
        // What dd has read it cannot get rid of.
        let hold = "dd if=/dev/zero bs=32M count=1 | sleep 3600";
        run_with(&client, "holder", &["sh", "-c", hold], |spec| {
            spec.resources = Some(Resources {
                memory_limit_bytes: Some(256 * MEBIBYTE),
                ..Default::default()
            });
        })
        .await;
        let memory = until("32 MiB are held", LATE, async || {
            let memory = stats_of(&client, "holder").await.memory.unwrap();
            let held = memory.working_set_bytes >= 32 * MEBIBYTE;
            so(held, || format!("{memory:?}")).map(|()| memory)
        })
        .await;
        assert!(memory.working_set_bytes < 48 * MEBIBYTE, "{memory:?}");
        assert!(memory.usage_bytes >= memory.working_set_bytes, "{memory:?}");
        assert_eq!(memory.limit_bytes, Some(256 * MEBIBYTE));
        assert_eq!(memory.oom_kills, 0);

        let memory = stats_of(&client, "free").await.memory.unwrap();
        assert!(
            (1..16 * MEBIBYTE).contains(&memory.working_set_bytes),
            "{memory:?}"
        );
        assert_eq!(memory.limit_bytes, None);
        let update = v1::UpdateContainerRequest {
            container: "free".to_owned(),
            update: Some(v1::ContainerUpdate {
                resources: Some(Resources {
                    memory_limit_bytes: Some(64 * MEBIBYTE),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["resources.memory_limit_bytes".to_owned()],
            }),
            ..Default::default()
        };
        client.update_container(update).await.unwrap();
        let memory = stats_of(&client, "free").await.memory.unwrap();
        assert_eq!(memory.limit_bytes, Some(64 * MEBIBYTE));
    });
}

#[test]
fn an_oom_kill_inside_is_counted() {
    scenario(async |world| {
        let client = world.up().await;
        // The one that is killed is not the main process.
        let greedy = "tail /dev/zero; sleep 3600";
        run_with(&client, "greedy", &["sh", "-c", greedy], |spec| {
            spec.resources = Some(Resources {
                memory_limit_bytes: Some(16 * MEBIBYTE),
                ..Default::default()
            });
        })
        .await;
        until("the OOM killer has acted", LATE, async || {
            let memory = stats_of(&client, "greedy").await.memory.unwrap();
            so(memory.oom_kills == 1, || format!("{memory:?}"))
        })
        .await;
    });
}

#[test]
fn processes_are_counted_exactly() {
    scenario(async |world| {
        let client = world.up().await;
        client.run("one", IDLE).await.unwrap();
        let four = "sleep 3600 & sleep 3600 & sleep 3600 & wait";
        client.run("four", &["sh", "-c", four]).await.unwrap();
        // A runtime's own threads may still be there, until they are the program.
        for (name, count) in [("one", 1), ("four", 4)] {
            until("all are there", LATE, async || {
                let request = v1::ListContainerProcessesRequest {
                    container: name.to_owned(),
                    ..Default::default()
                };
                let processes = client.list_container_processes(request).await.unwrap();
                let listed: Vec<_> = processes.processes.iter().map(|it| &it.args).collect();
                let programs: Vec<_> = listed.iter().filter_map(|args| args.first()).collect();
                let is_own = |program: &&String| ["sh", "sleep"].contains(&program.as_str());
                let are_there = programs.len() == count && programs.iter().all(is_own);
                so(are_there, || format!("{listed:?}"))
            })
            .await;
            assert_eq!(stats_of(&client, name).await.pids, count as u64, "{name}");
        }
        client.pause("four").await.unwrap();
        assert_eq!(stats_of(&client, "four").await.pids, 4);
        client.resume("four").await.unwrap();
    });
}

/// Where the kernel accounts the block I/O of a process's control group.
enum IoAccount {
    /// Version 1: the directory.
    V1(PathBuf),
    /// Version 2: the file.
    V2(PathBuf),
}

fn io_account_of(pid: u32) -> IoAccount {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let group = |controller: &str| {
        groups.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            (controllers == controller).then(|| path.trim_start_matches('/').to_owned())
        })
    };
    let root = Path::new("/sys/fs/cgroup");
    match group("blkio") {
        Some(path) => IoAccount::V1(root.join("blkio").join(path)),
        None => IoAccount::V2(root.join(group("").unwrap()).join("io.stat")),
    }
}

impl IoAccount {
    /// Recent kernels count for version 1 only what a limit may hold back: one that does not, of the whole disk
    /// below `path`, if it is one.
    fn begin(&self, path: &Path) {
        if let Self::V1(group) = self {
            let disk = rustix::fs::stat(path).unwrap().st_dev;
            let (major, minor) = (rustix::fs::major(disk), rustix::fs::minor(disk));
            let limit = format!("{major}:{minor} {}", 1_u64 << 40);
            let set = fs::write(group.join("blkio.throttle.write_bps_device"), limit);
            set.unwrap_or_else(|error| eprintln!("{major}:{minor} is no disk: {error}"));
        }
    }

    /// Bytes written, of all devices.
    fn written(&self) -> u64 {
        let number = |text: &str| text.parse::<u64>().unwrap();
        match self {
            Self::V1(group) => {
                let file = group.join("blkio.throttle.io_service_bytes");
                let text = fs::read_to_string(file).unwrap();
                let words: Vec<_> = text.split_whitespace().collect();
                let pairs = words.windows(2).filter(|pair| pair[0] == "Write");
                pairs.map(|pair| number(pair[1])).sum()
            }
            Self::V2(file) => {
                let text = fs::read_to_string(file).unwrap();
                let written = text.split_whitespace();
                let written = written.filter_map(|word| word.strip_prefix("wbytes="));
                written.map(number).sum()
            }
        }
    }
}

#[test]
fn bytes_that_reach_a_disk_are_those_that_the_kernel_accounts() {
    scenario(async |world| {
        let client = world.up().await;
        let pid = client.run("writer", IDLE).await.unwrap().pid;
        let account = io_account_of(pid);
        account.begin(world.directory());
        let write = "dd if=/dev/zero of=/written bs=1M count=8 conv=fsync";
        let whole = client.exec_whole("writer", &["sh", "-c", write]).await;
        assert_eq!(whole.unwrap().exit.code, 0);
        let io = until("both say the same", LATE, async || {
            let before = account.written();
            let io = stats_of(&client, "writer").await.io.unwrap();
            let same = u64::try_from(io.write_bytes).unwrap() == before;
            so(same, || format!("{before} is not {io:?}")).map(|()| io)
        })
        .await;
        // Where roots are in memory, or the disk is only a part of one, there is nothing.
        if io.write_bytes > 0 {
            assert!(io.write_bytes >= 8 * MEBIBYTE, "{io:?}");
            assert!(io.write_ops > 0, "{io:?}");
        } else {
            eprintln!("the kernel accounts no writes here");
        }
    });
}

fn loopback(stats: &ContainerStats) -> &NetworkStats {
    let [only] = &stats.networks[..] else {
        panic!("{:?}", stats.networks);
    };
    assert_eq!(only.interface, "lo");
    only
}

#[test]
fn traffic_inside_shows_on_the_interface_and_with_the_hosts_network_nothing_does() {
    scenario(async |world| {
        let client = world.up().await;
        client.run("quiet", IDLE).await.unwrap();
        client.run("talks", IDLE).await.unwrap();
        run_with(&client, "shares", IDLE, |spec| {
            spec.network = Some(NetworkSpec {
                mode: Some(network_spec::Mode::Container("talks".to_owned())),
            });
        })
        .await;
        run_with(&client, "open", IDLE, |spec| {
            spec.network = Some(NetworkSpec {
                mode: Some(network_spec::Mode::Host(v1::HostNetwork {})),
            });
        })
        .await;
        let before = stats_of(&client, "talks").await;
        let talk = "mkdir /files && head -c 1000000 /dev/zero > /files/zeros && \
                    busybox httpd -p 127.0.0.1:7777 -h /files > /dev/null && \
                    busybox wget -q -O - http://127.0.0.1:7777/zeros | wc -c";
        let whole = client.exec_whole("talks", &["sh", "-c", talk]).await;
        assert_eq!(whole.unwrap().out(), "1000000\n");
        let after = stats_of(&client, "talks").await;
        let (before, after) = (loopback(&before), loopback(&after));
        let received = after.receive_bytes - before.receive_bytes;
        assert!(received > 1_000_000, "{before:?} {after:?}");
        // What goes out of the loopback comes in again.
        assert_eq!(after.receive_bytes, after.transmit_bytes);
        assert_eq!(after.receive_packets, after.transmit_packets);
        assert!(after.receive_packets > before.receive_packets);
        let shared = stats_of(&client, "shares").await;
        assert!(loopback(&shared).receive_bytes >= after.receive_bytes);
        let quiet = stats_of(&client, "quiet").await;
        assert!(loopback(&quiet).receive_bytes < 1_000_000, "{quiet:?}");
        assert_eq!(stats_of(&client, "open").await.networks, []);
    });
}

#[test]
fn only_containers_that_run_are_listed_page_by_page_and_each_run_counts_anew() {
    scenario(async |world| {
        let client = world.up().await;
        client.create("created", IDLE).await.unwrap();
        client.run("a", IDLE).await.unwrap();
        let ended = client.run("ended", &["true"]).await.unwrap();
        client.exit_of(&ended.id, 1).await.unwrap();
        let paused = client.run("b", IDLE).await.unwrap();
        client.pause("b").await.unwrap();
        client.run("c", BUSY).await.unwrap();

        let mut request = ListStatsRequest {
            page_size: 2,
            ..Default::default()
        };
        let first = client.list_stats(request.clone()).await.unwrap();
        assert_eq!(names(&first.stats), ["a", "b"]);
        let b = &first.stats[1];
        let about = (&b.container_id, &b.image, &b.labels, b.run, b.start_time);
        assert_eq!(
            about,
            (
                &paused.id,
                &paused.image,
                &paused.labels,
                1,
                paused.start_time
            )
        );
        request.page_token = first.next_page_token;
        let second = client.list_stats(request.clone()).await.unwrap();
        assert_eq!(names(&second.stats), ["c"]);
        assert_eq!(second.next_page_token, "");
        request.filter = Some(ContainerFilter::default());
        let refused = client.list_stats(request).await.unwrap_err();
        assert_eq!(refused.reason(), ErrorReason::PageTokenInvalid);
        let none = client.list_stats(named("created")).await.unwrap();
        assert_eq!(none.stats, []);

        until("some CPU time is used", LATE, async || {
            let used = cpu_in(&stats_of(&client, "c").await);
            so(used > 0.5, || format!("{used} s"))
        })
        .await;
        client.stop("c", Duration::ZERO).await.unwrap();
        assert_eq!(client.list_stats(named("c")).await.unwrap().stats, []);
        let started = client.start("c").await.unwrap().container.unwrap();
        let again = stats_of(&client, "c").await;
        assert_eq!((again.run, again.start_time), (2, started.start_time));
        let uptime = std::time::SystemTime::now()
            .duration_since(started.start_time.unwrap().try_into().unwrap())
            .unwrap();
        // One thread; a launch costs a bit before its start is told.
        assert!(
            cpu_in(&again) < uptime.as_secs_f64() + 0.3,
            "{again:?} after {uptime:?}"
        );
        client.resume("b").await.unwrap();
    });
}

/// The rounds of a stream, each with its number.
struct Rounds {
    messages: tonic::Streaming<StreamStatsResponse>,
}

impl Rounds {
    async fn of(client: &Client, request: StreamStatsRequest) -> Result<Self, Refusal> {
        let answered = client.stats().stream_stats(client.request(request)).await;
        let messages = answer(answered)?;
        Ok(Self { messages })
    }

    async fn next(&mut self) -> (u64, Vec<ContainerStats>) {
        let mut all = Vec::new();
        loop {
            let message = timeout(LATE, self.messages.message()).await;
            let message = message.expect("a round comes").unwrap().unwrap();
            all.extend(message.stats);
            if message.round_end {
                return (message.round, all);
            }
        }
    }
}

fn every(milliseconds: u64) -> StreamStatsRequest {
    StreamStatsRequest {
        filter: None,
        interval: Some(spec::duration(Duration::from_millis(milliseconds))),
    }
}

fn cores(stats: &ContainerStats) -> Option<f64> {
    stats.cpu.unwrap().cores
}

fn time_of(stats: &ContainerStats) -> f64 {
    let time = stats.sample_time.unwrap();
    #[allow(clippy::cast_precision_loss, reason = "microseconds are kept")]
    let seconds = time.seconds as f64;
    seconds + f64::from(time.nanos) / 1e9
}

#[test]
fn a_stream_has_the_average_cores_from_the_second_round_on() {
    scenario(async |world| {
        let client = world.up().await;
        client.run("busy", BUSY).await.unwrap();
        client.run("idle", IDLE).await.unwrap();
        let mut rounds = Rounds::of(&client, every(500)).await.unwrap();
        let (number, mut last) = rounds.next().await;
        assert_eq!((number, names(&last)), (1, vec!["busy", "idle"]));
        assert!(last.iter().all(|it| cores(it).is_none()), "{last:?}");
        for expected in 2..=4 {
            let (number, round) = rounds.next().await;
            assert_eq!((number, names(&round)), (expected, vec!["busy", "idle"]));
            let elapsed = time_of(&round[0]) - time_of(&last[0]);
            // One that comes late is nearer to the next.
            assert!(elapsed > 0.0, "no time between two rounds");
            let used = cpu_in(&round[0]) - cpu_in(&last[0]);
            let shown = cores(&round[0]).unwrap();
            assert!(
                (shown - used / elapsed).abs() < 0.1 * shown.max(0.1),
                "{used} s in {elapsed} s are not {shown} cores"
            );
            assert!(shown > 0.02 && shown < 1.2, "one thread, {shown} cores");
            let idle = cores(&round[1]).unwrap();
            assert!((0.0..0.02).contains(&idle), "{idle} cores");
            last = round;
        }
    });
}

#[test]
fn a_stream_has_containers_that_start_later_and_no_longer_those_that_end() {
    scenario(async |world| {
        let client = world.up().await;
        let mut rounds = Rounds::of(&client, every(100)).await.unwrap();
        // A round without containers is one, too.
        for expected in 1..=3 {
            assert_eq!(rounds.next().await, (expected, Vec::new()));
        }
        let until_round = async |rounds: &mut Rounds, wanted: &[&str]| {
            let mut before = 0;
            for _ in 0..600 {
                let (number, round) = rounds.next().await;
                assert!(number > before, "rounds are counted");
                before = number;
                if names(&round) == wanted {
                    return round;
                }
            }
            panic!("{wanted:?} never is a round");
        };
        client.run("a", IDLE).await.unwrap();
        client.run("b", IDLE).await.unwrap();
        let joined = until_round(&mut rounds, &["a", "b"]).await;
        assert_eq!(joined[1].run, 1);
        let (_, next) = rounds.next().await;
        assert!(next.iter().all(|it| cores(it).is_some()), "{next:?}");

        client.stop("a", Duration::ZERO).await.unwrap();
        until_round(&mut rounds, &["b"]).await;
        client.start("a").await.unwrap();
        let again = until_round(&mut rounds, &["a", "b"]).await;
        // Its first one is its first again.
        assert_eq!((again[0].run, cores(&again[0])), (2, None));
        client.delete_by_force("a").await.unwrap();
        client.delete_by_force("b").await.unwrap();
        until_round(&mut rounds, &[]).await;
    });
}

#[test]
fn containers_that_come_and_go_break_no_stream() {
    scenario(async |world| {
        let client = world.up().await;
        client.run("stays", IDLE).await.unwrap();
        let mut rounds = Rounds::of(&client, every(100)).await.unwrap();
        let come_and_go = async {
            for number in 0..8 {
                let name = format!("short{number}");
                let id = client.run(&name, &["true"]).await.unwrap().id;
                client.exit_of(&id, 1).await.unwrap();
                client.delete(&id).await.unwrap();
                client
                    .list_stats(ListStatsRequest::default())
                    .await
                    .unwrap();
            }
        };
        let watch = async {
            loop {
                let (_, round) = rounds.next().await;
                assert_eq!(names(&round)[0], "stays");
            }
        };
        tokio::select! {
            () = come_and_go => {}
            () = watch => {}
        }
    });
}

#[test]
fn an_interval_below_a_tenth_of_a_second_is_refused() {
    scenario(async |world| {
        let client = world.up().await;
        let refused = Rounds::of(&client, every(99)).await.err().unwrap();
        assert_eq!(refused.reason(), ErrorReason::InvalidField);
        assert!(refused.fields().contains("interval"), "{refused}");
    });
}
