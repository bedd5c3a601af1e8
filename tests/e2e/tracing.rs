//! Traces over OTLP and lines of the log: every call can be followed from its caller to containerd.

mod collector;
mod log;

use std::collections::BTreeSet;
use std::time::Duration;

use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use wharf_api::metadata::{REQUEST_ID, TRACEPARENT};
use wharf_api::v1::{self, event};

use crate::harness::wharf::{Wharf, tell};
use crate::harness::{Client, Options, World, containerd_only, image, scenario, spec};
use collector::{Collector, Span};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

const CREATE: &str = "wharf.v1.ContainerService/CreateContainer";
const START: &str = "wharf.v1.ContainerService/StartContainer";
const STOP: &str = "wharf.v1.ContainerService/StopContainer";
const DELETE: &str = "wharf.v1.ContainerService/DeleteContainer";
const GET: &str = "wharf.v1.ContainerService/GetContainer";

/// What a caller sends that has a span of its own.
fn traceparent(trace: &str) -> String {
    format!("00-{trace}-{CALLER}-01")
}

/// Traces go to the collector, soon after they end.
fn trace_to(collector: &Collector) -> impl FnOnce(&mut Options) {
    let endpoint = collector.endpoint();
    move |options| {
        options.environment = vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), endpoint),
            ("OTEL_BSP_SCHEDULE_DELAY".to_owned(), "100".to_owned()),
        ];
    }
}

async fn traced(world: &mut World) -> (Client, Collector) {
    let collector = Collector::start().await;
    world.configure(trace_to(&collector));
    (world.up().await, collector)
}

/// The message with a request id and a trace around it.
fn around<T>(message: T, request_id: &str, trace: &str) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert(REQUEST_ID, request_id.parse().unwrap());
    metadata.insert(TRACEPARENT, traceparent(trace).parse().unwrap());
    request
}

fn create(name: &str) -> v1::CreateContainerRequest {
    v1::CreateContainerRequest {
        name: name.to_owned(),
        spec: Some(spec::running(spec::PATIENT)),
        ..Default::default()
    }
}

fn find<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found = spans.iter().find(|span| span.name == name);
    found.unwrap_or_else(|| panic!("no {name} in {spans:?}"))
}

/// Fails unless the call's span is the caller's child, and all others are below it.
fn must_be_below_the_caller(spans: &[Span], call: &str) {
    assert_eq!(find(spans, call).parent, CALLER);
    let ids: BTreeSet<_> = spans.iter().map(|span| span.id.as_str()).collect();
    for span in spans.iter().filter(|span| span.name != call) {
        assert!(
            ids.contains(span.parent.as_str()),
            "{span:?} is below nothing"
        );
    }
}

#[test]
fn a_call_and_what_it_asks_of_containerd_are_one_trace_below_the_callers_span() {
    containerd_only("it follows calls to containerd", async |world| {
        let (client, collector) = traced(world).await;
        let mut containers = client.containers();
        let request = around(create("web"), "traced-1", TRACE);
        let created = containers.create_container(request).await.unwrap();
        let id = created.into_inner().container.unwrap().id;
        let below = [
            "containerd.containers.create",
            "containerd.snapshots.prepare",
        ];
        let spans = collector
            .when_there_are(TRACE, &[CREATE, below[0], below[1]])
            .await;
        must_be_below_the_caller(&spans, CREATE);
        let call = find(&spans, CREATE);
        let attribute = |name: &str| call.attributes[name].as_str();
        assert_eq!(attribute("wharf.request_id"), "traced-1");
        assert_eq!(attribute("rpc.system"), "grpc");
        assert_eq!(attribute("rpc.service"), "wharf.v1.ContainerService");
        assert_eq!(attribute("rpc.method"), "CreateContainer");
        assert_eq!(attribute("rpc.grpc.status_code"), "0");
        assert!(spans.iter().all(|span| span.service == "wharfd"));

        let trace = TRACE.replace('4', "5");
        let start = v1::StartContainerRequest {
            container: id.clone(),
            ..Default::default()
        };
        containers
            .start_container(around(start, "traced-2", &trace))
            .await
            .unwrap();
        let below = ["containerd.tasks.create", "containerd.tasks.start"];
        let spans = collector
            .when_there_are(&trace, &[START, below[0], below[1]])
            .await;
        must_be_below_the_caller(&spans, START);

        let events = client.events_of(&id).await;
        let traces: Vec<_> = events
            .iter()
            .map(|e| e.cause.as_ref().unwrap().trace_id.as_str())
            .collect();
        assert_eq!(traces, [TRACE, &trace]);
    });
}

#[test]
fn a_stop_and_a_deletion_are_traced_to_their_ends() {
    containerd_only("it follows calls to containerd", async |world| {
        let (client, collector) = traced(world).await;
        let id = client.run("web", spec::PATIENT).await.unwrap().id;
        let mut containers = client.containers();
        let stop = v1::StopContainerRequest {
            container: id.clone(),
            ..Default::default()
        };
        containers
            .stop_container(around(stop, "stop", TRACE))
            .await
            .unwrap();
        let below = ["containerd.tasks.kill", "containerd.tasks.delete"];
        let spans = collector
            .when_there_are(TRACE, &[STOP, below[0], below[1]])
            .await;
        must_be_below_the_caller(&spans, STOP);

        let trace = TRACE.replace('4', "5");
        let delete = v1::DeleteContainerRequest {
            container: id.clone(),
            ..Default::default()
        };
        containers
            .delete_container(around(delete, "delete", &trace))
            .await
            .unwrap();
        let below = [
            "containerd.containers.delete",
            "containerd.snapshots.remove",
        ];
        let spans = collector
            .when_there_are(&trace, &[DELETE, below[0], below[1]])
            .await;
        must_be_below_the_caller(&spans, DELETE);
        let exits = client.events_of(&id).await;
        let exit = exits
            .iter()
            .find(|event| event.r#type() == event::Type::ContainerExited);
        assert_eq!(exit.unwrap().cause.as_ref().unwrap().trace_id, TRACE);
    });
}

#[test]
fn containerd_is_told_the_trace_and_the_request() {
    containerd_only("it follows calls to containerd", async |world| {
        let collector = Collector::start().await;
        let proxy = world.behind_a_proxy();
        let (trace_to, through) = (trace_to(&collector), world.directory().join("proxy.sock"));
        world.configure(|options| {
            trace_to(options);
            options.containerd = through;
        });
        let client = world.up().await;
        let request = around(create("web"), "traced-1", TRACE);
        client.containers().create_container(request).await.unwrap();
        let names = [
            CREATE,
            "containerd.containers.create",
            "containerd.snapshots.prepare",
        ];
        let spans = collector.when_there_are(TRACE, &names).await;
        for (name, path) in [
            (
                names[1],
                "/containerd.services.containers.v1.Containers/Create",
            ),
            (
                names[2],
                "/containerd.services.snapshots.v1.Snapshots/Prepare",
            ),
        ] {
            let sent = proxy.metadata_of(path);
            let sent: Vec<_> = sent
                .iter()
                .filter(|m| m.get(REQUEST_ID).is_some_and(|id| id == "traced-1"))
                .collect();
            assert_eq!(sent.len(), 1, "{path}");
            let own = format!("00-{TRACE}-{}-01", find(&spans, name).id);
            assert_eq!(sent[0][TRACEPARENT], own.as_str(), "{path}");
        }
    });
}

#[test]
fn the_command_line_passes_the_trace_of_its_surroundings_on() {
    containerd_only("it follows calls to containerd", async |world| {
        let (_, collector) = traced(world).await;
        let wharf = Wharf::of(world);
        let mut command = wharf.command(["--request-id", "cli", "create", "busybox:test"]);
        command.env("TRACEPARENT", traceparent(TRACE));
        tell(command).await.ok("create");
        let names = [
            CREATE,
            "containerd.containers.create",
            "containerd.snapshots.prepare",
        ];
        let spans = collector.when_there_are(TRACE, &names).await;
        must_be_below_the_caller(&spans, CREATE);
        assert_eq!(find(&spans, CREATE).attributes["wharf.request_id"], "cli");
        let event = &wharf.json("trace cli").await[0];
        assert_eq!(event["cause"]["traceId"], TRACE);
    });
}

#[test]
fn a_call_without_a_usable_trace_begins_one_and_nothing_else_is_sent() {
    const MARK: &str = "RAW-MARK-OF-A-BAD-ID";
    containerd_only("it follows calls to containerd", async |world| {
        let (client, collector) = traced(world).await;
        let id = client.create("web", &["true"]).await.unwrap().id;
        let trace = client.events_of(&id).await[0]
            .cause
            .clone()
            .unwrap()
            .trace_id;
        assert_eq!(trace.len(), 32);
        let names = [
            CREATE,
            "containerd.containers.create",
            "containerd.snapshots.prepare",
        ];
        let spans = collector.when_there_are(&trace, &names).await;
        assert_eq!(find(&spans, CREATE).parent, "");

        let get = v1::GetContainerRequest {
            container: id.clone(),
            ..Default::default()
        };
        let mut bad = around(get.clone(), "bad-trace", TRACE);
        let value = format!("00-{TRACE}-0000000000000000-01");
        bad.metadata_mut()
            .insert(TRACEPARENT, value.parse().unwrap());
        client.containers().get_container(bad).await.unwrap();
        let mut bad = around(get, "x", TRACE);
        let value = MetadataValue::<Ascii>::try_from(format!("{MARK} {MARK}").as_bytes()).unwrap();
        bad.metadata_mut().insert(REQUEST_ID, value);
        client.containers().get_container(bad).await.unwrap();
        let spans = collector.when_there_are(TRACE, &[GET]).await;
        must_be_below_the_caller(&spans, GET);

        let all = collector.spans();
        let of_bad = all.iter().find(|s| {
            s.attributes
                .get("wharf.request_id")
                .is_some_and(|id| id == "bad-trace")
        });
        let of_bad = of_bad.expect("the call with a bad trace is told");
        assert_eq!((of_bad.parent.as_str(), of_bad.trace != TRACE), ("", true));
        for span in &all {
            let known = ["wharf.v1.", "containerd."]
                .iter()
                .any(|known| span.name.starts_with(known));
            assert!(known, "{span:?}");
            assert!(!format!("{span:?}").contains(MARK), "{span:?}");
        }
    });
}

#[test]
fn a_trace_that_its_caller_does_not_record_is_not_sent_but_still_noted() {
    scenario(async |world| {
        let (client, collector) = traced(world).await;
        let mut request = around(create("web"), "quiet", TRACE);
        let unsampled = format!("00-{TRACE}-{CALLER}-00");
        request
            .metadata_mut()
            .insert(TRACEPARENT, unsampled.parse().unwrap());
        let created = client.containers().create_container(request).await.unwrap();
        let id = created.into_inner().container.unwrap().id;
        let cause = client.events_of(&id).await[0].cause.clone().unwrap();
        assert_eq!(cause.trace_id, TRACE);
        // What comes later has been sent; so would have been this.
        client.with_id("loud").get(&id).await.unwrap();
        crate::harness::until(
            "a later call is told",
            Duration::from_secs(20),
            async || {
                let told = collector.spans().iter().any(|span| {
                    span.attributes
                        .get("wharf.request_id")
                        .is_some_and(|id| id == "loud")
                });
                crate::harness::wait::so(told, || "it is not".to_owned())
            },
        )
        .await;
        assert!(collector.of_trace(TRACE).is_empty());
    });
}

#[test]
fn without_an_endpoint_nothing_is_sent_and_the_callers_trace_is_noted_all_the_same() {
    scenario(async |world| {
        let collector = Collector::start().await;
        // OTLP's default port aside, there is only this collector; an empty variable is as none.
        world.configure(|options| {
            options.environment = vec![
                ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), String::new()),
                (
                    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT".to_owned(),
                    collector.endpoint(),
                ),
                ("OTEL_BSP_SCHEDULE_DELAY".to_owned(), "100".to_owned()),
            ];
        });
        let client = world.up().await;
        let request = around(create("web"), "quiet", TRACE);
        let created = client.containers().create_container(request).await.unwrap();
        let id = created.into_inner().container.unwrap().id;
        let cause = client.events_of(&id).await[0].cause.clone().unwrap();
        assert_eq!(cause.trace_id, TRACE);
        client.delete(&id).await.unwrap();
        // The end of the server would have sent what there is.
        assert!(world.wharfd.stop().await.success());
        assert!(collector.spans().is_empty());
    });
}

#[test]
fn the_last_spans_are_sent_before_the_server_ends() {
    scenario(async |world| {
        let collector = Collector::start().await;
        world.configure(|options| {
            options.environment = vec![
                (
                    "OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(),
                    collector.endpoint(),
                ),
                ("OTEL_BSP_SCHEDULE_DELAY".to_owned(), "3600000".to_owned()),
                (
                    "OTEL_SERVICE_NAME".to_owned(),
                    "the-third-machine".to_owned(),
                ),
            ];
        });
        let client = world.up().await;
        client.with_id("last-words").info().await.unwrap();
        assert!(world.wharfd.stop().await.success());
        let spans = collector.spans();
        let last = spans.iter().find(|s| {
            s.attributes
                .get("wharf.request_id")
                .is_some_and(|id| id == "last-words")
        });
        assert_eq!(last.expect("it is sent").service, "the-third-machine");
    });
}

#[test]
fn a_collector_that_is_away_keeps_nobody_waiting() {
    scenario(async |world| {
        world.configure(|options| {
            let nobody = "http://127.0.0.1:1".to_owned();
            options.environment = vec![
                ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), nobody),
                ("OTEL_BSP_SCHEDULE_DELAY".to_owned(), "50".to_owned()),
            ];
        });
        let client = world.up().await;
        client.run("web", spec::PATIENT).await.unwrap();
        assert_eq!(image::REFERENCE, client.get("web").await.unwrap().image);
        assert!(
            client
                .stop("web", Duration::from_secs(20))
                .await
                .unwrap()
                .changed
        );
        client.delete("web").await.unwrap();
        assert!(world.wharfd.stop().await.success());
    });
}
