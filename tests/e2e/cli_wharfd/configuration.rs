//! Flags, environment and file.

use std::fs;
use std::process::Stdio;

use super::{Alone, LONGEST, alone, flags_below, refused, wharfd};
use crate::harness::{process, scenario};

fn words(flags: &[String]) -> impl Iterator<Item = &str> {
    flags.iter().map(String::as_str)
}

#[test]
fn a_wrong_flag_is_one_line_and_code_two() {
    scenario(async |world| {
        let flags = flags_below(&alone(world));
        for (wrong, told) in [
            ("--no-such-flag", "--no-such-flag"),
            ("serve", "serve"),
            ("--listen http://x", "listen: \"http://x\" is no address"),
            (
                "--listen unix://relative",
                "listen: \"unix://relative\" is no address",
            ),
            (
                "--listen tcp://0.0.0.0:7780",
                "listen: tcp://0.0.0.0:7780 is not loopback",
            ),
            ("--backend podman", "backend: \"podman\""),
            ("--log-format xml", "log-format: \"xml\""),
            ("--drain-timeout soon", "soon"),
            ("--stop-grace-period -1", "-1"),
            ("--log no=such=filter", "log: "),
            ("--containerd-namespace not/a/name", "containerd namespace"),
            ("--config", "--config"),
        ] {
            let said = refused(wharfd(words(&flags).chain(wrong.split(' '))), 2).await;
            assert!(said.contains(told), "{wrong}: {said}");
        }
        for flag in ["--state-dir", "--run-dir", "--containerd-address"] {
            let said = refused(wharfd([flag, "relative"]), 2).await;
            assert_eq!(
                said,
                format!("{}: relative is not an absolute path", &flag[2..])
            );
        }
    });
}

#[test]
fn a_wrong_environment_is_one_line_and_code_two() {
    scenario(async |world| {
        let flags = flags_below(&alone(world));
        for (variable, value, told) in [
            ("WHARF_LISTEN", "nowhere", "nowhere"),
            ("WHARF_LOG_FORMAT", "xml", "xml"),
            ("WHARF_DRAIN_TIMEOUT", "soon", "soon"),
            ("WHARF_JOURNAL_BYTES", "lots", "lots"),
            ("WHARF_BACKEND", "docker", "neither containerd nor local"),
            (
                "WHARF_CONFIG",
                "/nonexistent/wharfd.toml",
                "/nonexistent/wharfd.toml",
            ),
            (
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                "not an endpoint",
                "OTEL_EXPORTER_OTLP_ENDPOINT: ",
            ),
        ] {
            let mut command = wharfd(words(&flags));
            command.env(variable, value);
            let said = refused(command, 2).await;
            assert!(said.contains(told), "{variable}={value}: {said}");
        }
    });
}

#[test]
fn a_wrong_file_is_one_line_with_its_place_and_code_two() {
    scenario(async |world| {
        let flags = flags_below(&alone(world));
        let file = alone(world).join("wharfd.toml");
        let name = file.to_str().unwrap();
        for (text, told) in [
            ("runtime = 'runc'\nno_such = 1\n", "line 2: "),
            ("runtime = \n", "line 1: "),
            ("\n\ndrain_timeout = 'soon'\n", "line 3: "),
            ("listen = 'unix:///x'\n", "line 1: "),
            ("log_format = 'xml'\n", "log-format: \"xml\""),
            ("listen = ['nowhere']\n", "listen: \"nowhere\""),
        ] {
            fs::write(&file, text).unwrap();
            let said = refused(wharfd(words(&flags).chain(["--config", name])), 2).await;
            assert!(said.contains(told), "{text:?}: {said}");
        }
        fs::remove_file(&file).unwrap();
        let said = refused(wharfd(["--config", name]), 2).await;
        assert!(said.contains(name), "{said}");
    });
}

#[test]
fn a_flag_is_over_the_environment_over_the_file_over_the_default() {
    scenario(async |world| {
        let place = alone(world);
        let socket = |name: &str| place.join(name);
        let url = |name: &str| format!("unix://{}", place.join(name).display());
        let file = socket("wharfd.toml");
        fs::write(&file, format!("listen = [{:?}]\n", url("file.sock"))).unwrap();
        let flags = flags_below(&place);
        let both = ["--config".to_owned(), file.display().to_string()];
        for (with_flag, with_environment, with_file, expected) in [
            (true, true, true, "flag.sock"),
            (false, true, true, "environment.sock"),
            (false, false, true, "file.sock"),
            (false, false, false, "run/wharf.sock"),
        ] {
            let mut command = wharfd(words(&flags));
            if with_flag {
                command.args(["--listen", &url("flag.sock")]);
            }
            if with_environment {
                command.env("WHARF_LISTEN", url("environment.sock"));
            }
            if with_file {
                command.args(&both);
            }
            let mut server = Alone::start(command, &socket("log"));
            server.answers(&socket(expected)).await;
            for other in [
                "flag.sock",
                "environment.sock",
                "file.sock",
                "run/wharf.sock",
            ] {
                assert_eq!(socket(other).exists(), other == expected, "{other}");
            }
            server.stop().await;
            assert!(!socket(expected).exists(), "{expected} is left");
        }
    });
}

#[test]
fn a_server_listens_wherever_it_is_told_to() {
    scenario(async |world| {
        let place = alone(world);
        let (one, two) = (place.join("one.sock"), place.join("two.sock"));
        let list = format!(
            "unix://{},unix://{},tcp://127.0.0.1:0",
            one.display(),
            two.display()
        );
        let flags = flags_below(&place);
        let command = wharfd(words(&flags).chain(["--listen", &list]));
        let mut server = Alone::start(command, &place.join("log"));
        server.answers(&one).await;
        server.answers(&two).await;
        server.stop().await;
    });
}

#[test]
fn help_and_version_are_answers_and_touch_nothing() {
    scenario(async |world| {
        let told = async |flag: &str| {
            let flags = flags_below(&alone(world));
            let mut command = wharfd(words(&flags).chain([flag]));
            command.stdin(Stdio::null());
            let output = process::run_with_input(command, LONGEST).await;
            assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
            String::from_utf8(output.stdout).unwrap()
        };
        let version = concat!("wharfd ", env!("CARGO_PKG_VERSION"), "\n");
        assert_eq!(told("--version").await, version);
        let help = told("--help").await;
        for setting in [
            "listen",
            "backend",
            "containerd-address",
            "containerd-namespace",
            "runtime",
            "state-dir",
            "run-dir",
            "stop-grace-period",
            "drain-timeout",
            "journal-bytes",
            "journal-age",
            "log-format",
            "log",
            "config",
        ] {
            assert!(
                help.contains(&format!("--{setting} ")),
                "no --{setting} in {help}"
            );
            let variable = setting.to_ascii_uppercase().replace('-', "_");
            assert!(
                help.contains(&format!("[env: WHARF_{variable}=")),
                "no {variable} in {help}"
            );
        }
        assert!(!alone(world).join("state").exists());
    });
}

#[test]
fn a_log_for_people_has_the_request_of_each_call_in_its_line() {
    scenario(async |world| {
        let place = alone(world);
        let socket = place.join("run/wharf.sock");
        let flags = flags_below(&place);
        let command = wharfd(words(&flags).chain(["--log", "debug"]));
        let mut server = Alone::start(command, &place.join("log"));
        let client = server.answers(&socket).await;
        client.with_id("made-for-people").info().await.unwrap();
        client
            .with_id("refused")
            .create("web", &["true"])
            .await
            .unwrap_err();
        let log = place.join("log");
        server.stop().await;
        let log = fs::read_to_string(log).unwrap();
        for (id, method) in [
            ("made-for-people", "GetInfo"),
            ("refused", "CreateContainer"),
        ] {
            let is_it = |line: &&str| line.contains("call ended") && line.contains(id);
            let line = log
                .lines()
                .find(is_it)
                .unwrap_or_else(|| panic!("no {id} in {log}"));
            assert!(line.contains(method), "{line}");
        }
        assert!(!log.contains('\u{1b}'), "{log:?}");
    });
}
