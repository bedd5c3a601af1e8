//! With a terminal: raw mode and its end, sizes, keys.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::process::Stdio;

use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use wharf_client::v1::process_input::Kind as In;
use wharf_client::v1::process_output::Kind as Out;
use wharf_client::v1::*;

use crate::replies::*;
use crate::testing::{Call, Server, Step, ok, send};
use crate::wharf::{LIMIT, Wharf, command};

/// A terminal, and the program that was started at it.
struct Terminal {
    keys: File,
    /// Held open: a terminal that nobody has is gone, with what it was set to.
    screen: File,
    wharf: Wharf,
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

/// What remarks are written to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Remarks {
    Apart,
    OnScreen,
}

impl Terminal {
    fn start(server: &Server, args: &[&str]) -> Self {
        Self::start_with(server, args, Remarks::Apart, &[])
    }

    fn start_with(server: &Server, args: &[&str], remarks: Remarks, env: &[(&str, &str)]) -> Self {
        let keys = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&keys).unwrap();
        unlockpt(&keys).unwrap();
        let path = ptsname(&keys, Vec::new()).unwrap();
        let open = || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(path.to_str().unwrap())
        };
        let screen = open().unwrap();
        tcsetwinsize(&keys, size(33, 77)).unwrap();
        // It needs a terminal of its own to hear of changes of its size.
        let wharf = command(server, args);
        let mut start = std::process::Command::new("setsid");
        start
            .arg("--ctty")
            .arg(wharf.get_program())
            .args(wharf.get_args());
        start.env("WHARF_HOST", server.address().to_string());
        start.env("DOCKER_CONFIG", "/nonexistent");
        start.env("TERM", "xterm");
        start.envs(env.iter().copied());
        start.stdin(Stdio::from(screen.try_clone().unwrap()));
        start.stdout(Stdio::from(screen.try_clone().unwrap()));
        start.stderr(match remarks {
            Remarks::Apart => Stdio::piped(),
            Remarks::OnScreen => Stdio::from(screen.try_clone().unwrap()),
        });
        Self {
            keys: keys.into(),
            screen,
            wharf: Wharf::start(&mut start),
        }
    }

    fn type_in(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    fn resize(&self, rows: u16, columns: u16) {
        tcsetwinsize(&self.keys, size(rows, columns)).unwrap();
    }

    /// Reads what is shown, up to and with `end`.
    async fn shows(&mut self, end: &'static str) -> String {
        let mut screen = self.keys.try_clone().unwrap();
        let read = spawn_blocking(move || {
            let mut shown = Vec::new();
            while !shown.ends_with(end.as_bytes()) {
                let mut byte = [0];
                screen.read_exact(&mut byte).unwrap();
                shown.push(byte[0]);
            }
            String::from_utf8(shown).unwrap()
        });
        timeout(LIMIT, read).await.unwrap().unwrap()
    }

    /// Whether lines are edited here, as they are unless a program has taken over.
    fn edits_lines(&self) -> bool {
        let modes = tcgetattr(&self.screen).unwrap().local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// The exit code, and what was said about it.
    async fn ends(self) -> (i32, String) {
        let ran = self.wharf.output().await;
        assert!(
            tcgetattr(&self.screen)
                .unwrap()
                .local_modes
                .contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG),
            "the terminal was left as it was set"
        );
        (ran.code, ran.err)
    }
}

/// A session that has shown something, so that it is known to run.
fn ready(terminal: bool, then: Vec<Step>) -> Vec<Step> {
    let mut script = vec![attached(terminal), started(), stdout(0, "ready$")];
    script.extend(then);
    script
}

#[tokio::test]
async fn keys_go_to_the_process_as_they_are_and_the_terminal_is_given_back() {
    let server = Server::start(vec![ready(true, vec![Step::Await(3), exited(7), ok()])]);
    let mut terminal = Terminal::start(&server, &["exec", "-it", "web", "sh"]);
    terminal.shows("ready$").await;
    assert!(!terminal.edits_lines());
    terminal.type_in("\x03\r\x1a");
    // Nothing is echoed here, and ^C is a key like others.
    let typed = |calls: &[Call]| stdin(&calls[0]).0 == b"\x03\r\x1a";
    timeout(LIMIT, server.until(typed)).await.unwrap();
    // One more message, if the keys came in one.
    terminal.type_in("x");
    assert_eq!(terminal.ends().await, (7, String::new()));
    let process = run_exec(&server.calls()[0]).spec.unwrap().process.unwrap();
    let size = TerminalSize {
        rows: 33,
        columns: 77,
    };
    assert_eq!(process.terminal, Some(size));
}

#[tokio::test]
async fn a_change_of_size_is_told() {
    let server = Server::start(vec![ready(true, vec![Step::Hang])]);
    let mut terminal = Terminal::start(&server, &["run", "-it", "img"]);
    terminal.shows("ready$").await;
    terminal.resize(40, 120);
    let want = In::Resize(TerminalSize {
        rows: 40,
        columns: 120,
    });
    let told = |calls: &[Call]| inputs(&calls[0]).contains(&want);
    timeout(LIMIT, server.until(told)).await.unwrap();
}

#[tokio::test]
async fn detach_keys_leave_with_code_0_and_are_not_sent() {
    let detached = output(Out::Detached(Detached {}));
    let server = Server::start(vec![ready(true, vec![Step::Await(4), detached, ok()])]);
    let mut terminal = Terminal::start(&server, &["run", "-it", "img"]);
    terminal.shows("ready$").await;
    terminal.type_in("\x10");
    terminal.type_in("a");
    let sent = |calls: &[Call]| stdin(&calls[0]).0 == b"\x10a";
    timeout(LIMIT, server.until(sent)).await.unwrap();
    terminal.type_in("\x10\x11");
    assert_eq!(terminal.ends().await, (0, String::new()));
    let last = inputs(&server.calls()[0]).pop();
    assert_eq!(last, Some(In::Detach(Detach {})));
}

#[tokio::test]
async fn other_detach_keys_can_be_chosen() {
    let detached = output(Out::Detached(Detached {}));
    let server = Server::start(vec![ready(true, vec![Step::Await(3), detached, ok()])]);
    let args = ["run", "-it", "--detach-keys", "ctrl-a,d", "img"];
    let mut terminal = Terminal::start(&server, &args);
    terminal.shows("ready$").await;
    terminal.type_in("\x01d");
    assert_eq!(terminal.ends().await.0, 0);
}

#[tokio::test]
async fn a_signal_from_elsewhere_gives_the_terminal_back() {
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        let server = Server::start(vec![ready(true, vec![Step::Hang])]);
        let mut terminal = Terminal::start(&server, &["exec", "-it", "web", "sh"]);
        terminal.shows("ready$").await;
        assert!(!terminal.edits_lines());
        terminal.wharf.signal(signal);
        let (code, told) = terminal.ends().await;
        assert_eq!((code, &told[..]), (128 + signal.as_raw(), ""));
    }
}

#[tokio::test]
async fn a_signal_that_is_not_passed_on_gives_the_terminal_back_too() {
    let server = Server::start(vec![ready(true, vec![Step::Hang])]);
    let args = ["run", "-it", "--sig-proxy=false", "img"];
    let mut terminal = Terminal::start(&server, &args);
    terminal.shows("ready$").await;
    terminal.wharf.signal(Signal::TERM);
    assert_eq!(terminal.ends().await.0, 143);
}

#[tokio::test]
async fn a_refusal_gives_the_terminal_back_too() {
    let refusal = Step::End(tonic::Status::internal("broken"));
    let server = Server::start(vec![ready(true, vec![refusal])]);
    let mut terminal = Terminal::start(&server, &["exec", "-it", "web", "sh"]);
    terminal.shows("ready$").await;
    assert_eq!(terminal.ends().await.0, 1);
}

#[tokio::test]
async fn without_i_the_terminal_stays_as_it_is() {
    let server = Server::start(vec![ready(true, vec![Step::Hang])]);
    let mut terminal = Terminal::start(&server, &["exec", "-t", "web", "top"]);
    terminal.shows("ready$").await;
    assert!(terminal.edits_lines());
    // And ^C is a signal, which is passed on.
    terminal.type_in("\x03");
    let told = |calls: &[Call]| inputs(&calls[0]).contains(&In::Signal("INT".into()));
    timeout(LIMIT, server.until(told)).await.unwrap();
}

#[tokio::test]
async fn who_attaches_again_has_the_screen_painted_again() {
    let container = Container {
        id: "c1".into(),
        spec: Some(ContainerSpec {
            stdin_open: true,
            process: Some(ProcessSpec {
                terminal: Some(TerminalSize::default()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let server = Server::start(vec![
        answer(&GetContainerResponse {
            container: Some(container),
        }),
        ready(true, vec![Step::Await(3), exited(0), ok()]),
    ]);
    let mut terminal = Terminal::start(&server, &["attach", "web"]);
    terminal.shows("ready$").await;
    assert_eq!(terminal.ends().await.0, 0);
    let resize = |rows| In::Resize(TerminalSize { rows, columns: 77 });
    assert_eq!(inputs(&server.calls()[1]), [resize(34), resize(33)]);
}

#[tokio::test]
async fn a_pull_has_bars_that_make_room_for_its_answer() {
    use pull_image_response::Response;
    let message = |response| {
        send(&PullImageResponse {
            response: Some(response),
        })
    };
    let progress = TransferProgress {
        done_bytes: 500_000,
        total_bytes: 2_000_000,
        layers: vec![LayerProgress {
            digest: "sha256:0123456789abcdef".into(),
            phase: layer_progress::Phase::Transferring.into(),
            done_bytes: 500_000,
            total_bytes: 2_000_000,
        }],
    };
    let server = Server::start(vec![vec![
        message(Response::Progress(progress)),
        message(Response::Result(PullResult::default())),
        ok(),
    ]]);
    let args = ["pull", "alpine"];
    let mut terminal = Terminal::start_with(&server, &args, Remarks::OnScreen, &[]);
    let shown = terminal.shows("alpine\r\n").await;
    for part in ["pulling ", "0123456789ab downloading ", "500.00 kB/2.00 MB"] {
        assert!(shown.contains(part), "{part}: {shown:?}");
    }
    let (_, rest) = shown.rsplit_once("B/s").unwrap();
    assert!(rest.contains("\u{1b}[2K"), "the bar stays: {shown:?}");
    assert_eq!(terminal.ends().await.0, 0);
}

#[tokio::test]
async fn a_password_that_is_typed_is_not_shown() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(vec![]);
    let env = [("DOCKER_CONFIG", home.path().to_str().unwrap())];
    let args = ["login", "localhost:5000"];
    let mut terminal = Terminal::start_with(&server, &args, Remarks::OnScreen, &env);
    terminal.shows("Username: ").await;
    terminal.type_in("me\r");
    terminal.shows("Password: ").await;
    terminal.type_in("secret\r");
    let shown = terminal
        .shows("Credentials of localhost:5000 stored\r\n")
        .await;
    assert!(!shown.contains("secret"), "{shown}");
    assert_eq!(terminal.ends().await.0, 0);
    let kept = std::fs::read_to_string(home.path().join("config.json")).unwrap();
    // printf me:secret | base64
    assert!(kept.contains("bWU6c2VjcmV0"), "{kept}");
}

#[tokio::test]
async fn breaking_off_at_a_password_gives_the_terminal_back() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(vec![]);
    let env = [("DOCKER_CONFIG", home.path().to_str().unwrap())];
    let args = ["login", "-u", "me"];
    let mut terminal = Terminal::start_with(&server, &args, Remarks::OnScreen, &env);
    terminal.shows("Password: ").await;
    terminal.type_in("sec\x03");
    assert_eq!(terminal.ends().await.0, 128 + 2);
    assert_eq!(std::fs::read_dir(&home).unwrap().count(), 0);
}
