//! Lines of the log.

use serde_json::Value;

use crate::harness::wharfd::Options;
use crate::harness::{World, scenario};

/// Every line of the log as an object.
fn lines(world: &World) -> Vec<Value> {
    let log = world.wharfd.log();
    let parse =
        |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    log.lines().map(parse).collect()
}

/// The request that a line is about.
fn request(line: &Value) -> Option<&str> {
    let spans = line["spans"].as_array()?;
    spans
        .iter()
        .find_map(|span| span["wharf.request_id"].as_str())
}

fn logging(filter: &str) -> impl FnOnce(&mut Options) {
    let arguments = ["--log", filter].map(str::to_owned);
    move |options| options.arguments = arguments.to_vec()
}

#[test]
fn every_line_is_an_object_and_says_which_request_it_is_about() {
    scenario(async |world| {
        world.configure(logging("debug"));
        let client = world.up().await;
        client
            .with_id("made")
            .create("web", &["true"])
            .await
            .unwrap();
        client.with_id("read").get("web").await.unwrap();
        client.with_id("refused").get("nobody").await.unwrap_err();
        client.with_id("deleted").delete("web").await.unwrap();
        assert!(world.wharfd.stop().await.success());

        let lines = lines(world);
        for line in &lines {
            for field in ["timestamp", "level", "message", "target"] {
                assert!(line[field].is_string(), "no {field} in {line}");
            }
        }
        let ends: Vec<_> = lines
            .iter()
            .filter(|line| line["message"] == "call ended")
            .collect();
        assert!(ends.iter().all(|line| request(line).is_some()), "{ends:?}");
        for (id, method, level, code) in [
            ("made", "CreateContainer", "INFO", "Ok"),
            ("read", "GetContainer", "DEBUG", "Ok"),
            ("refused", "GetContainer", "DEBUG", "NotFound"),
            ("deleted", "DeleteContainer", "INFO", "Ok"),
        ] {
            let of_id: Vec<_> = ends
                .iter()
                .filter(|line| request(line) == Some(id))
                .collect();
            assert_eq!(of_id.len(), 1, "{id}: {of_id:?}");
            assert_eq!(
                (&of_id[0]["level"], &of_id[0]["code"]),
                (&level.into(), &code.into())
            );
            assert_eq!(of_id[0]["spans"][0]["rpc.method"], method);
        }
    });
}

#[test]
fn a_quiet_log_has_nothing_of_calls_that_go_well() {
    scenario(async |world| {
        world.configure(logging("warn"));
        let client = world.up().await;
        client.create("web", &["true"]).await.unwrap();
        client.delete("web").await.unwrap();
        assert!(world.wharfd.stop().await.success());
        assert_eq!(world.wharfd.log(), "");
    });
}
