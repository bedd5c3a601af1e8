//! `logs`.

use super::{Program, ended, good};
use crate::harness::wharf::{IMAGE, Wharf, up};
use crate::harness::{World, scenario};

/// Writes a line for each line that it reads.
const ECHO: &str = "while read -r line; do echo \"got $line\"; done; echo end >&2; exit 3";

/// A container that wrote `one` to `five`, the last to standard error, and ended.
async fn with_five(world: &mut World, name: &str) -> Wharf {
    let wharf = up(world).await;
    five(&wharf, name).await;
    wharf
}

async fn five(wharf: &Wharf, name: &str) {
    let script = "for line in one two three four; do echo $line; done; sleep 0.3; echo five >&2";
    let flags = format!("--name {name}");
    wharf.run_script(&flags, script).await;
    assert_eq!(wharf.ok(&format!("wait {name}")).await, "0");
}

#[test]
fn what_a_container_wrote_is_shown_on_the_streams_it_was_written_to() {
    scenario(async |world| {
        let wharf = with_five(world, "box").await;
        let all = ended(&wharf, &["logs", "box"]).await;
        assert_eq!(all, good(0, "one\ntwo\nthree\nfour\n", "five\n"));
        // Whoever follows a run that is over sees all of it, and its end.
        assert_eq!(ended(&wharf, &["logs", "-f", "box"]).await, all);
        let last = ended(&wharf, &["logs", "-n", "2", "box"]).await;
        assert_eq!(last, good(0, "four\n", "five\n"));
        let none = ended(&wharf, &["logs", "--tail", "0", "box"]).await;
        assert_eq!(none, good(0, "", ""));
    });
}

#[test]
fn times_stand_before_lines_and_choose_them() {
    scenario(async |world| {
        let wharf = with_five(world, "box").await;
        let stamped = ended(&wharf, &["logs", "-t", "box"]).await;
        let out = String::from_utf8(stamped.out).unwrap();
        let lines: Vec<_> = out
            .lines()
            .map(|line| line.split_once(' ').unwrap())
            .collect();
        let words: Vec<_> = lines.iter().map(|(_, word)| *word).collect();
        assert_eq!(words, ["one", "two", "three", "four"]);
        assert!(
            lines
                .iter()
                .all(|(time, _)| time.starts_with("20") && time.ends_with('Z')),
            "{out}"
        );
        let (time, word) = stamped.err.trim_end().split_once(' ').unwrap();
        assert_eq!(word, "five");
        // From a time on is with it, until a time is without.
        let since = ended(&wharf, &["logs", "--since", time, "box"]).await;
        assert_eq!(since, good(0, "", "five\n"));
        let until = ended(&wharf, &["logs", "--until", time, "box"]).await;
        assert_eq!(until, good(0, "one\ntwo\nthree\nfour\n", ""));
        let recent = ended(&wharf, &["logs", "--since", "10m", "box"]).await;
        assert_eq!(recent.out, b"one\ntwo\nthree\nfour\n");
    });
}

#[test]
fn lines_of_several_containers_begin_with_their_names() {
    scenario(async |world| {
        let wharf = with_five(world, "a").await;
        five(&wharf, "b").await;
        let both = ended(&wharf, &["logs", "-n", "2", "a", "b"]).await;
        assert_eq!(
            both,
            good(0, "a | four\nb | four\n", "a | five\nb | five\n")
        );
        let refused = wharf.fails(1, "logs nobody").await;
        assert!(
            refused.contains("(CONTAINER_NOT_FOUND, request "),
            "{refused}"
        );
    });
}

#[test]
fn a_follower_sees_lines_as_they_come_and_ends_with_the_run() {
    scenario(async |world| {
        let wharf = up(world).await;
        let words = ["run", "-d", "-i", "--name", "box", IMAGE, "sh", "-c", ECHO];
        wharf.ok_words(&words).await;
        let mut input = Program::start(&wharf, &["attach", "box"]);
        input.write(b"1\n").await;
        let mut follower = Program::start(&wharf, &["logs", "-f", "box"]);
        follower.shows("got 1\n").await;
        input.write(b"2\n").await;
        follower.shows("got 1\ngot 2\n").await;
        input.close_stdin();
        assert_eq!(follower.ends().await, good(0, "got 1\ngot 2\n", "end\n"));
        assert_eq!(input.ends().await.code, Some(3));
    });
}

#[test]
fn all_containers_of_a_label_are_followed_also_later_ones() {
    scenario(async |world| {
        let wharf = up(world).await;
        let all = ["logs", "-f", "--filter", "label=tier=web"];
        let mut follower = Program::start(&wharf, &all);
        wharf
            .run_script("--name first -l tier=web", "echo hello")
            .await;
        follower.shows("first | hello\n").await;
        wharf.run_script("--name other", "echo never").await;
        wharf.ok("wait other").await;
        wharf
            .run_script("--name second -l tier=web", "echo hello")
            .await;
        follower.shows("first | hello\nsecond | hello\n").await;
    });
}
