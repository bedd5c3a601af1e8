//! Terminal programs through the real command line, at a terminal that somebody looks at.

mod screen;

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use screen::{INSIDE, Screen};

use crate::harness::wharf::{IMAGE, Wharf, tell, up};
use crate::harness::{World, process, scenario, until};

const ROWS: u16 = 20;
const COLUMNS: u16 = 100;

/// Containers, and a terminal to use them at; a container named `box` runs.
async fn at_a_terminal(world: &mut World) -> (Wharf, Screen) {
    let wharf = up(world).await;
    wharf.run_script("--name box", "exec sleep 3600").await;
    let screen = Screen::open(world, &wharf, ROWS, COLUMNS).await;
    (wharf, screen)
}

#[test]
fn the_size_is_right_from_the_first_instruction() {
    scenario(async |world| {
        let (_, screen) = at_a_terminal(world).await;
        for (number, command) in [
            format!("run --rm -it {IMAGE}"),
            "exec -it box".to_owned(),
            format!("run --rm --init -it {IMAGE}"),
            format!("run --rm -t {IMAGE}"),
            "exec -t box".to_owned(),
        ]
        .iter()
        .enumerate()
        {
            // Bigger each time, so that no size is one that was seen before.
            let rows = ROWS + u16::try_from(number).unwrap();
            screen.resize(rows, COLUMNS).await;
            let size = format!("{rows} {COLUMNS}");
            let settled = format!("until [ \"$(stty size)\" = '{size}' ]; do sleep 0.05; done");
            assert_eq!(screen.answer(&settled).await, "0");
            screen
                .enter(&format!("wharf {command} sh -c 'stty size'"))
                .await;
            screen.says(&size).await;
            screen.outside().await;
        }
    });
}

/// `vi` with a file of a hundred numbered lines.
const EDIT: &str = "seq 1 100 > /tmp/numbers; vi /tmp/numbers";

/// That the editor fills a screen of so many rows: its text, and below that its own line.
async fn is_filled(screen: &Screen, rows: u16) {
    let what = format!("an editor of {rows} rows");
    screen
        .shows(&what, |text| {
            let lines: Vec<_> = text.lines().collect();
            let Some((last, numbers)) = lines.split_last() else {
                return false;
            };
            let expected = (1..rows).map(|number| number.to_string());
            numbers.iter().copied().eq(expected) && last.contains("/tmp/numbers")
        })
        .await;
}

#[test]
fn a_full_screen_program_fills_the_screen_and_redraws_when_it_is_resized() {
    scenario(async |world| {
        let (_, screen) = at_a_terminal(world).await;
        for command in [format!("run --rm -it {IMAGE}"), "exec -it box".to_owned()] {
            screen
                .enter(&format!("wharf {command} sh -c '{EDIT}'"))
                .await;
            is_filled(&screen, ROWS).await;
            screen.resize(ROWS + 10, COLUMNS - 20).await;
            is_filled(&screen, ROWS + 10).await;
            screen.resize(ROWS, COLUMNS).await;
            is_filled(&screen, ROWS).await;
            screen.enter(":q").await;
            assert_eq!(screen.left().await, "0");
        }
    });
}

#[test]
fn a_program_that_paints_without_being_asked_ends_at_a_key() {
    scenario(async |world| {
        let (_, screen) = at_a_terminal(world).await;
        screen.enter("wharf exec -it box sh -c top").await;
        let paints = |text: &str| text.starts_with("Mem:") && text.contains("sleep 3600");
        screen.shows("top", paints).await;
        screen.press(&["q"]).await;
        assert_eq!(screen.left().await, "0");
    });
}

#[test]
fn ctrl_c_interrupts_the_program_in_front_and_ctrl_d_ends_the_shell() {
    scenario(async |world| {
        let (_, screen) = at_a_terminal(world).await;
        for command in [
            format!("run --rm -it {IMAGE}"),
            format!("run --rm --init -it {IMAGE}"),
            "exec -it box sh".to_owned(),
        ] {
            screen.enter(&format!("wharf {command}")).await;
            screen.at(INSIDE).await;
            // Quoted, so that what is typed is not taken for what is said.
            screen.enter("echo 'be'gun; sleep 3600").await;
            screen.says("begun").await;
            screen.press(&["C-c"]).await;
            screen.at(INSIDE).await;
            assert_eq!(screen.answer("(exit $?)").await, "130");
            assert_eq!(screen.answer("(exit 5)").await, "5");
            screen.enter("clear; echo cleared; (exit 6)").await;
            screen.says("cleared").await;
            screen.at(INSIDE).await;
            screen.press(&["C-d"]).await;
            assert_eq!(screen.left().await, "6");
        }
    });
}

#[test]
fn detach_keys_leave_a_shell_that_attach_gets_back() {
    scenario(async |world| {
        let (wharf, screen) = at_a_terminal(world).await;
        screen
            .enter(&format!("wharf run -it --name kept {IMAGE}"))
            .await;
        screen.at(INSIDE).await;
        assert_eq!(screen.answer("kept=41").await, "0");
        screen.press(&["C-p", "C-q"]).await;
        assert_eq!(screen.left().await, "0");
        assert_eq!(wharf.inspect("kept").await["state"], "STATE_RUNNING");

        screen.enter("clear; wharf attach kept").await;
        // The size that is set anew has the shell ask again.
        screen.enter("echo kept=$((kept + 1))").await;
        screen.says("kept=42").await;
        screen.press(&["C-p", "C-q"]).await;
        assert_eq!(screen.left().await, "0");
        screen.enter("clear; wharf attach kept").await;
        screen.enter("exit 7").await;
        assert_eq!(screen.left().await, "7");
        assert_eq!(wharf.ok("wait kept").await, "7");
    });
}

#[test]
fn a_screen_is_painted_again_for_who_attaches_again() {
    scenario(async |world| {
        let (_, screen) = at_a_terminal(world).await;
        let words = format!("wharf run -it --name kept {IMAGE} sh -c '{EDIT}'");
        screen.enter(&words).await;
        is_filled(&screen, ROWS).await;
        screen.press(&["C-p", "C-q"]).await;
        assert_eq!(screen.left().await, "0");
        screen.resize(ROWS + 4, COLUMNS).await;
        screen.enter("clear; wharf attach kept").await;
        is_filled(&screen, ROWS + 4).await;
        screen.enter(":q").await;
        screen.outside().await;
    });
}

#[test]
fn every_other_way_out_gives_the_terminal_back_as_it_was() {
    scenario(async |world| {
        let (wharf, screen) = at_a_terminal(world).await;
        screen.enter("wharf exec -it box /nowhere").await;
        assert_eq!(screen.left().await, "127");

        screen
            .enter(&format!("wharf run -it --name killed {IMAGE}"))
            .await;
        screen.at(INSIDE).await;
        wharf.ok("kill -s KILL killed").await;
        assert_eq!(screen.left().await, "137");

        screen
            .enter("clear; sh -c 'echo $$ > pid; exec wharf exec -it box sh'")
            .await;
        screen.at(INSIDE).await;
        let pid = number_in(&world.directory().join("pid")).await;
        kill_process(pid, Signal::TERM).unwrap();
        assert_eq!(screen.left().await, "143");
    });
}

/// The pid in a file that is there.
async fn number_in(file: &Path) -> Pid {
    until("a pid is there", Duration::from_secs(60), async || {
        let text = fs::read_to_string(file).unwrap_or_default();
        let pid = text.trim().parse().ok().and_then(Pid::from_raw);
        pid.ok_or(text)
    })
    .await
}

#[test]
fn without_a_terminal_there_is_a_notice_and_the_program_gets_one_anyway() {
    scenario(async |world| {
        let (wharf, _screen) = at_a_terminal(world).await;
        let run = ["run", "--rm", "-t", IMAGE, "sh", "-c", "stty size; exit 4"];
        let exec = ["exec", "-t", "box", "sh", "-c", "stty size; exit 4"];
        for words in [&run[..], &exec] {
            let told = tell(wharf.command(words)).await;
            assert_eq!((told.code, &told.out[..]), (4, "24 80\r\n"));
            assert!(is_the_notice(&told.err), "{}", told.err);
        }
        // What comes from a pipe is typed, and its end is a key like others.
        let input = world.directory().join("input");
        fs::write(&input, "hello\n").unwrap();
        let mut cat = wharf.command(["exec", "-it", "box", "cat"]);
        cat.stdin(fs::File::open(&input).unwrap());
        let output = process::run_with_input(cat, Duration::from_secs(60)).await;
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "hello\r\nhello\r\n"
        );
        assert!(is_the_notice(&String::from_utf8_lossy(&output.stderr)));
    });
}

fn is_the_notice(said: &str) -> bool {
    said.lines().count() == 1 && said.contains("standard input is not a terminal")
}
