//! From the words of a command line to the request that is sent.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "tests fail by panicking"
)]

use clap::{CommandFactory as _, Parser as _};
use prost_types::Timestamp;
use wharf_client::v1::container::State;
use wharf_client::v1::*;

use super::attached::{Proxy, Screen, Stdin, Wiring};
use super::events::Plan;

use super::{Cli, Command, exec, prune, run};

fn parse(line: &str) -> Command {
    match Cli::try_parse_from(line.split_whitespace()) {
        Ok(cli) => cli.command,
        Err(error) => panic!("{error}"),
    }
}

fn created(line: &str) -> CreateContainerRequest {
    let request = match parse(line) {
        Command::Run(run) => match run.plan() {
            Ok(run::Plan::Background(request)) => Ok(*request),
            Ok(run::Plan::Attached(..)) => panic!("attached"),
            Err(failure) => Err(failure),
        },
        Command::Create(create) => create.request(),
        other => panic!("{other:?}"),
    };
    let mut request = request.unwrap();
    assert!(!request.idempotency_key.is_empty());
    request.idempotency_key.clear();
    request
}

fn spec(line: &str) -> ContainerSpec {
    created(line).spec.unwrap()
}

fn process(line: &str) -> ProcessSpec {
    spec(line).process.unwrap()
}

#[test]
fn the_commands_and_their_flags_fit_together() {
    Cli::command().debug_assert();
}

#[test]
fn stats_are_of_all_that_run_or_of_those_named() {
    let request = |line: &str, ids: &[&str]| match parse(line) {
        Command::Stats(stats) => stats.request(ids.iter().map(|id| (*id).to_owned()).collect()),
        other => panic!("{other:?}"),
    };
    let second = prost_types::Duration {
        seconds: 1,
        nanos: 0,
    };
    let want = StreamStatsRequest {
        filter: None,
        interval: Some(second),
    };
    assert_eq!(request("wharf stats", &[]).unwrap(), want);
    let want = StreamStatsRequest {
        filter: Some(ContainerFilter {
            id_prefixes: vec!["0af1".into()],
            ..Default::default()
        }),
        interval: Some(prost_types::Duration {
            seconds: 0,
            nanos: 500_000_000,
        }),
    };
    let line = "wharf stats --no-stream --interval 500ms web";
    assert_eq!(request(line, &["0af1"]).unwrap(), want);
    let filtered = request("wharf stats --filter label=a=b", &[]).unwrap();
    assert_eq!(filtered.filter.unwrap().labels["a"], "b");
}

#[test]
fn a_bare_run_asks_for_the_image_and_nothing_else() {
    let want = CreateContainerRequest {
        spec: Some(ContainerSpec {
            image: "busybox".into(),
            process: Some(ProcessSpec::default()),
            ..Default::default()
        }),
        pull: Some(PullOptions {
            policy: PullPolicy::IfMissing.into(),
            ..Default::default()
        }),
        start: true,
        ..Default::default()
    };
    assert_eq!(created("wharf run -d busybox"), want);
    assert!(!created("wharf create busybox").start);
}

fn attached(line: &str) -> (RunContainerStart, Wiring) {
    let Command::Run(run) = parse(line) else {
        panic!("not a run");
    };
    match run.plan().unwrap() {
        run::Plan::Attached(start, wiring) => (*start, wiring),
        run::Plan::Background(request) => panic!("{request:?}"),
    }
}

#[test]
fn a_run_is_attached_unless_told_otherwise() {
    let (start, wiring) = attached("wharf run --name n -l a=b --pull always busybox ls");
    let want = created("wharf run -d --name n -l a=b --pull always busybox ls");
    assert_eq!((start.name, start.labels), (want.name, want.labels));
    assert_eq!((start.spec, start.pull), (want.spec, want.pull));
    assert!(!start.idempotency_key.is_empty());
    assert_eq!(start.attach, Some(AttachOptions::default()));
    assert_eq!(
        (wiring.stdin, wiring.screen, wiring.signals),
        (Stdin::Leave, Screen::Pipes, Proxy::Forward)
    );
}

#[test]
fn an_interactive_run_sends_input_and_says_what_a_lost_connection_means() {
    let (start, wiring) = attached("wharf run -it --on-disconnect kill --sig-proxy=false i");
    let attach = start.attach.unwrap();
    assert!(attach.stdin && start.spec.unwrap().stdin_open);
    assert_eq!(attach.on_disconnect(), DisconnectAction::Kill);
    assert_eq!(
        (wiring.stdin, wiring.screen, wiring.signals),
        (Stdin::Forward, Screen::Terminal, Proxy::Leave)
    );
}

#[test]
fn init_and_restart_reach_their_fields() {
    let spec = spec("wharf run -d --init --restart on-failure:3 i");
    let policy = spec.restart_policy.unwrap();
    assert!(spec.init);
    assert_eq!(policy.condition(), restart_policy::Condition::OnFailure);
    assert_eq!(policy.max_retries, 3);
}

#[test]
fn everything_after_the_container_belongs_to_the_exec() {
    let Command::Exec(exec) = parse("wharf exec -i web ls -d --timeout 5s") else {
        panic!("not an exec");
    };
    let exec::Plan::Attached(start, _) = exec.plan(None) else {
        panic!("not attached");
    };
    assert_eq!(start.container, "web");
    let spec = start.spec.unwrap();
    assert_eq!(spec.process.unwrap().args, ["ls", "-d", "--timeout", "5s"]);
    assert_eq!(spec.timeout, None);
}

#[test]
fn everything_after_the_image_belongs_to_the_container() {
    let request = created("wharf run -d --name web busybox ls -d --name x -- -H");
    assert_eq!(request.name, "web");
    let args = request.spec.unwrap().process.unwrap().args;
    assert_eq!(args, ["ls", "-d", "--name", "x", "--", "-H"]);
}

#[test]
fn an_entrypoint_replaces_the_images_or_takes_it_away() {
    let program = |line: &str| {
        let process = process(line);
        (process.entrypoint.join(" "), process.args.join(" "))
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(program("wharf run -d i a b"), pair("", "a b"));
    assert_eq!(
        program("wharf run -d --entrypoint sh i -c x"),
        pair("sh", "-c x")
    );
    assert_eq!(program("wharf run -d --entrypoint= i a b"), pair("a b", ""));
    let Command::Run(run) = parse("wharf run -d --entrypoint= i") else {
        panic!("not a run");
    };
    assert!(run.plan().is_err());
}

#[test]
fn the_environment_comes_from_files_then_flags_then_the_present_one() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("e");
    std::fs::write(&file, "# note\n\nA=file\nB=b=c\nWHARF_TEST_UNSET\n").unwrap();
    let words = ["wharf", "create", "--env-file", file.to_str().unwrap()];
    let more = ["-e", "A=flag", "-e", "PATH", "-e", "WHARF_TEST_UNSET", "i"];
    let cli = Cli::try_parse_from(words.into_iter().chain(more)).unwrap();
    let Command::Create(create) = cli.command else {
        panic!("not a create");
    };
    let env = create.request().unwrap().spec.unwrap().process.unwrap().env;
    let keys: Vec<_> = env.keys().map(String::as_str).collect();
    assert_eq!(keys, ["A", "B", "PATH"]);
    assert_eq!((&env["A"][..], &env["B"][..]), ("flag", "b=c"));
}

#[test]
fn every_flag_of_run_reaches_its_field() {
    let request = created(
        "wharf run -d --rm --name n -l a=b -l c -v /s:/t:ro --tmpfs /m --mount \
         type=bind,src=/x,dst=/y -w /w -u 1:2 --group-add 7 --memory 64m \
         --memory-reservation 32m --cpus 1.5 --cpuset-cpus 0-1 --pids-limit 9 --read-only \
         --cap-add net_admin --cap-drop ALL --network host --stop-signal INT --stop-timeout 3 \
         -h box --shm-size 1m --ulimit nofile=5 --security-opt no-new-privileges=false \
         --annotation k=v --runtime crun -i -t --pull missing img",
    );
    assert_eq!(request.labels["a"], "b");
    assert_eq!(request.labels["c"], "");
    assert_eq!(request.pull.unwrap().policy(), PullPolicy::IfMissing);
    let spec = request.spec.unwrap();
    assert!(spec.auto_delete && spec.read_only_root && spec.stdin_open);
    let targets: Vec<_> = spec.mounts.iter().map(|mount| &mount.target[..]).collect();
    assert_eq!(targets, ["/t", "/y", "/m"]);
    assert_eq!((&spec.stop_signal[..], &spec.hostname[..]), ("INT", "box"));
    assert_eq!(spec.stop_grace_period.unwrap().seconds, 3);
    assert_eq!((spec.shm_size_bytes, &spec.runtime[..]), (1 << 20, "crun"));
    assert_eq!(spec.rlimits[0].hard, 5);
    assert_eq!(spec.annotations["k"], "v");
    assert!(matches!(
        spec.network.unwrap().mode,
        Some(network_spec::Mode::Host(_))
    ));
    let security = spec.security.unwrap();
    assert_eq!(security.capabilities_add, ["CAP_NET_ADMIN"]);
    assert_eq!(security.capabilities_drop, ["ALL"]);
    assert_eq!(security.no_new_privileges, Some(false));
    let process = spec.process.unwrap();
    assert_eq!((&process.working_dir[..], &process.user[..]), ("/w", "1:2"));
    assert_eq!(process.supplemental_groups, ["7"]);
    assert!(process.terminal.is_some());
    let want = Resources {
        memory_limit_bytes: Some(64 << 20),
        memory_reservation_bytes: Some(32 << 20),
        cpu_limit_millicores: Some(1500),
        cpuset_cpus: "0-1".into(),
        pids_limit: Some(9),
        ..Default::default()
    };
    assert_eq!(spec.resources, Some(want));
}

#[test]
fn an_image_is_pulled_when_and_for_what_platform_is_asked() {
    let pull = |line: &str| created(line).pull;
    let policy = |line: &str| pull(line).map(|pull| pull.policy());
    assert_eq!(policy("wharf create i"), Some(PullPolicy::IfMissing));
    assert_eq!(
        policy("wharf create --pull always i"),
        Some(PullPolicy::Always)
    );
    assert_eq!(pull("wharf run -d --pull never i"), None);
    for id in ["sha256:0123456789ab", "0123456789ab"] {
        assert_eq!(pull(&format!("wharf run -d --pull always {id}")), None);
    }
    let never = pull("wharf run -d --pull never --platform linux/arm i").unwrap();
    assert_eq!(never.policy(), PullPolicy::Never);
    assert_eq!(never.platform.unwrap().architecture, "arm");
}

#[test]
fn a_pull_goes_on_without_its_caller_if_asked_to() {
    let goes_on = |line: &str| match parse(line) {
        Command::Pull(pull) => pull.request().continue_on_disconnect,
        other => panic!("{other:?}"),
    };
    assert!(!goes_on("wharf pull i"));
    assert!(goes_on("wharf pull --on-disconnect continue i"));
}

#[test]
fn all_unused_images_are_those_with_and_those_without_references() {
    let requests = |line: &str| match parse(line) {
        Command::Prune(prune) => prune.image_requests(),
        other => panic!("{other:?}"),
    };
    let line = "wharf prune --images -a --filter reference=a*";
    let dangling: Vec<_> = requests(line)
        .unwrap()
        .into_iter()
        .map(|request| {
            let filter = request.filter.unwrap();
            assert_eq!(filter.references, ["a*"]);
            filter.dangling
        })
        .collect();
    assert_eq!(dangling, [Some(false), Some(true)]);
    assert!(requests("wharf prune --images -a --filter dangling=true").is_err());
    assert!(requests("wharf prune --images --filter name=web").is_err());
}

#[test]
fn pruning_asks_about_what_its_requests_delete() {
    let question = |line: &str| match parse(line) {
        Command::Prune(prune) => {
            let requests = prune.image_requests().unwrap();
            prune.question(prune::images_of(&requests))
        }
        other => panic!("{other:?}"),
    };
    let asked = [
        "wharf prune --images",
        "wharf prune --images --filter dangling=false",
        "wharf prune --images -a --filter reference=a* --filter label=b=c",
    ]
    .map(question);
    assert_eq!(
        asked,
        [
            "This deletes all images without a reference that no container uses.",
            "This deletes all images with references that no container uses, of those with dangling=false.",
            "This deletes all images that no container uses, of those with reference=a*, label=b=c.",
        ]
    );
}

#[test]
fn dockers_words_for_no_limit_leave_it_unset() {
    assert_eq!(spec("wharf run -d --pids-limit -1 -m 0 i").resources, None);
}

#[test]
fn ps_lists_what_runs_unless_told_otherwise() {
    let states = |line: &str| -> Vec<State> {
        let Command::Ps(ps) = parse(line) else {
            panic!("not ps");
        };
        let filter = ps.request().unwrap().filter;
        filter.unwrap_or_default().states().collect()
    };
    assert!(states("wharf ps").contains(&State::Paused));
    assert!(!states("wharf ps").contains(&State::Exited));
    assert!(states("wharf ps -a").is_empty());
    assert_eq!(states("wharf ps --filter status=exited"), [State::Exited]);
}

#[test]
fn a_grace_of_zero_is_sent_and_none_is_not() {
    let grace = |line: &str| {
        let Command::Stop(stop) = parse(line) else {
            panic!("not a stop");
        };
        stop.request("c".into()).grace_period.map(|g| g.seconds)
    };
    assert_eq!(grace("wharf stop c"), None);
    assert_eq!(grace("wharf stop -t 0 c"), Some(0));
    assert_eq!(grace("wharf stop --time 1m c"), Some(60));
}

#[test]
fn kill_sends_kill_unless_told_otherwise() {
    let signal = |line: &str| {
        let Command::Kill(kill) = parse(line) else {
            panic!("not a kill");
        };
        kill.request("c".into()).signal
    };
    assert_eq!(signal("wharf kill c"), "KILL");
    assert_eq!(signal("wharf kill -s HUP c"), "HUP");
}

#[test]
fn an_update_masks_exactly_what_was_given() {
    let update = |line: &str| {
        let Command::Update(update) = parse(line) else {
            panic!("not an update");
        };
        update.request("c".into())
    };
    let request = update("wharf update --memory 0 --cpus 2 -l a=b c").unwrap();
    assert_eq!(
        request.update_mask.unwrap().paths,
        [
            "resources.memory_limit_bytes",
            "resources.cpu_limit_millicores"
        ]
    );
    let changed = request.update.unwrap();
    let limits = changed.resources.unwrap();
    assert_eq!(limits.memory_limit_bytes, None);
    assert_eq!(limits.cpu_limit_millicores, Some(2000));
    assert_eq!(changed.set_labels["a"], "b");
    let labels_only = update("wharf update --label-rm a c").unwrap();
    assert_eq!(labels_only.update_mask, None);
    assert_eq!(labels_only.update.unwrap().resources, None);
    assert!(update("wharf update c").is_err());
    assert!(update("wharf update --name x c d").is_err());
}

#[test]
fn a_rename_masks_the_name() {
    let Command::Rename(rename) = parse("wharf rename old new") else {
        panic!("not a rename");
    };
    let request = rename.request();
    assert_eq!(request.update.unwrap().name, "new");
    assert_eq!(request.update_mask.unwrap().paths, ["name"]);
}

#[test]
fn events_are_watched_unless_they_are_over() {
    let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
    let plan = |line: &str| {
        let Command::Events(events) = parse(line) else {
            panic!("not events");
        };
        events.plan(EventFilter::default(), now)
    };
    let Plan::Watch(watch) = plan("wharf events") else {
        panic!("not a watch");
    };
    assert_eq!((watch.start, watch.until_time), (None, None));
    let Plan::Watch(watch) = plan("wharf events --cursor c9 --follow=false") else {
        panic!("not a watch");
    };
    assert_eq!(
        watch.start,
        Some(watch_events_request::Start::Cursor("c9".into()))
    );
    assert_eq!(watch.until_time, Some(now));
    let Plan::List(list) = plan("wharf events --since 100 --follow=false") else {
        panic!("not a list");
    };
    assert_eq!(list.since_time.unwrap().seconds, 100);
    assert!(matches!(plan("wharf events --until 100"), Plan::List(_)));
    assert!(matches!(
        plan("wharf events --until 2026-01-02T03:04:06Z"),
        Plan::Watch(_)
    ));
    assert!(matches!(plan("wharf events --follow"), Plan::Watch(_)));
}

#[test]
fn a_trace_asks_for_the_events_of_one_request() {
    let Command::Trace(trace) = parse("wharf trace job-7 --request-id other") else {
        panic!("not a trace");
    };
    assert_eq!(trace.request().filter.unwrap().request_ids, ["job-7"]);
}

#[test]
fn options_of_every_command_stand_before_or_after_it() {
    for line in [
        "wharf -H tcp://127.0.0.1:1 --timeout 5s ps",
        "wharf ps --host tcp://127.0.0.1:1 --timeout 5s",
    ] {
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        assert_eq!(cli.globals.host.unwrap().to_string(), "tcp://127.0.0.1:1");
        assert_eq!(cli.globals.timeout.unwrap().as_secs(), 5);
    }
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for line in [
        "wharf run -d",
        "wharf run -d -a stdout i",
        "wharf run --restart sometimes i",
        "wharf run --detach-keys ctrl-1 i",
        "wharf exec web",
        "wharf exec -d -i web x",
        "wharf run -d --network bridge i",
        "wharf run -d --memory lots i",
        "wharf ps --format yaml",
        "wharf --request-id two\twords ps",
        "wharf --host nowhere ps",
        "wharf stop",
        "wharf prune -a",
        "wharf pull --platform linux i",
        "wharf run --pull sometimes i",
        "wharf login --password-stdin",
        "wharf load -i a b",
        "wharf save",
    ] {
        assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
    }
}
