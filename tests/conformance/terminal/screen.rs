//! A terminal with a shell at it, which tmux keeps, shows and types at.

use std::cell::Cell;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::harness::wait::so;
use crate::harness::wharf::Wharf;
use crate::harness::{World, binaries, process, until};

/// Nothing that is to be seen comes later.
const LATE: Duration = Duration::from_secs(120);

/// What the shell in a container asks with.
pub const INSIDE: &str = "/ #";
/// What the shell outside asks with.
const OUTSIDE: &str = "outside$";

/// A tmux server of its own with one window; gone when dropped.
pub struct Screen {
    socket: PathBuf,
    /// Questions that were asked, so that no answer is taken for another's.
    asked: Cell<u32>,
}

impl Screen {
    /// One of this size. Its shell finds `wharf`, and `wharf` the world's server.
    pub async fn open(world: &World, wharf: &Wharf, rows: u16, columns: u16) -> Self {
        let screen = Self {
            socket: world.directory().join("tmux.sock"),
            asked: Cell::new(0),
        };
        let programs = binaries::wharf();
        let path = format!("{}:/usr/bin:/bin", programs.parent().unwrap().display());
        let mut start = screen.tmux(&["start-server", ";", "set", "-g", "status", "off", ";"]);
        start
            .args(["new-session", "-d", "-x", &columns.to_string()])
            .args(["-y", &rows.to_string()])
            .arg(format!("exec env PS1='{OUTSIDE} ' sh"))
            .env_clear()
            .env("PATH", path)
            .env("WHARF_HOST", wharf.host())
            .env("LANG", "C.UTF-8")
            .current_dir(world.directory());
        done(start).await;
        screen.outside().await;
        // What its modes must be again after each command.
        assert_eq!(screen.answer("stty -a > modes").await, "0");
        screen
    }

    fn tmux(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(&self.socket);
        command.args(["-f", "/dev/null"]).args(arguments);
        command
    }

    /// Types keys by their names, such as `C-c`.
    pub async fn press(&self, keys: &[&str]) {
        done(self.tmux(&[&["send-keys"], keys].concat())).await;
    }

    /// Types text as it is.
    pub async fn type_in(&self, text: &str) {
        done(self.tmux(&["send-keys", "-l", text])).await;
    }

    /// Types a line.
    pub async fn enter(&self, line: &str) {
        self.type_in(line).await;
        self.press(&["Enter"]).await;
    }

    /// The programs learn it a moment later.
    pub async fn resize(&self, rows: u16, columns: u16) {
        let (rows, columns) = (rows.to_string(), columns.to_string());
        done(self.tmux(&["resize-window", "-x", &columns, "-y", &rows])).await;
    }

    /// What is to be seen, from the first row to the last.
    pub async fn text(&self) -> String {
        done(self.tmux(&["capture-pane", "-p"])).await
    }

    /// Waits until what is to be seen is as it should be.
    pub async fn shows(&self, what: &str, right: impl Fn(&str) -> bool) -> String {
        until(what, LATE, async || {
            let text = self.text().await;
            so(right(&text), || format!("\n{text}"))?;
            Ok(text)
        })
        .await
    }

    /// Waits until the last thing to be seen is this prompt.
    pub async fn at(&self, prompt: &str) {
        let what = format!("the prompt {prompt:?}");
        let is_last = |text: &str| text.trim_end().lines().last() == Some(prompt);
        self.shows(&what, is_last).await;
    }

    /// Waits until the shell outside asks for the next line: wherever a program has left the cursor.
    pub async fn outside(&self) {
        let asks = |text: &str| text.lines().any(|line| line.ends_with(OUTSIDE));
        self.shows(OUTSIDE, asks).await;
    }

    /// Waits until a line is exactly this.
    pub async fn says(&self, line: &str) {
        self.shows(line, |text| text.lines().any(|it| it == line))
            .await;
    }

    /// The exit code of a command for the shell, inside or outside, that prints nothing; once the shell
    /// asks for the next one.
    pub async fn answer(&self, command: &str) -> String {
        let number = self.asked.get() + 1;
        self.asked.set(number);
        self.enter(&format!("{command}; echo \"<{number}:$?>\""))
            .await;
        let begin = format!("<{number}:");
        // What was typed may stand before it, and never has a number there.
        let find = |text: &str| {
            let ends = text.split(&begin).skip(1);
            let mut codes = ends.filter_map(|end| {
                let (code, then) = end.split_once('>')?;
                let asks = [INSIDE, OUTSIDE].iter().any(|prompt| then.contains(prompt));
                code.parse::<u8>().ok().filter(|_| asks)
            });
            codes.next()
        };
        let text = self.shows(command, |text| find(text).is_some()).await;
        find(&text).unwrap().to_string()
    }

    /// The exit code of a command that has just ended, once the shell outside asks for the next one. The
    /// terminal's modes must be what they were.
    pub async fn left(&self) -> String {
        self.outside().await;
        let code = self.answer("(exit $?)").await;
        let modes = self.answer("stty -a | cmp - modes").await;
        assert_eq!(modes, "0", "the modes have changed:\n{}", self.text().await);
        code
    }
}

impl Drop for Screen {
    /// Also if the scenario fails.
    fn drop(&mut self) {
        self.tmux(&["kill-server"]).output().ok();
    }
}

/// Runs a command of tmux's, which must succeed; what it prints.
async fn done(command: Command) -> String {
    let output = process::run(command, LATE).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tmux: {}: {said}", output.status);
    String::from_utf8(output.stdout).unwrap()
}
