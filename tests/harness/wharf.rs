//! The command line, as scenarios use it.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::{World, binaries, image, process};

/// No command of a scenario takes longer.
const LONGEST: Duration = Duration::from_secs(90);

/// `wharf`, told by its environment where the scenario's server is, and nothing else.
#[derive(Debug, Clone)]
pub struct Wharf {
    host: String,
    directory: PathBuf,
}

/// What a command has left.
#[derive(Debug)]
pub struct Told {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Wharf {
    /// Against the world's server, which need not run.
    pub fn of(world: &World) -> Self {
        Self {
            host: format!("unix://{}", world.wharfd.socket().display()),
            directory: world.directory().to_owned(),
        }
    }

    /// Where the server is, as `WHARF_HOST` and `--host` take it.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(binaries::wharf());
        command
            .env_clear()
            .env("WHARF_HOST", &self.host)
            .current_dir(&self.directory)
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// Runs a command line, split at spaces.
    pub async fn run(&self, line: &str) -> Told {
        tell(self.command(line.split(' '))).await
    }

    /// A command that does what it should and has nothing to remark: what it prints, without the
    /// last line's end.
    pub async fn ok(&self, line: &str) -> String {
        self.run(line).await.ok(line)
    }

    /// The same, with words that have spaces.
    pub async fn ok_words(&self, words: &[&str]) -> String {
        let told = tell(self.command(words)).await;
        told.ok(&words.join(" "))
    }

    /// A command that fails with this code: its one line on standard error.
    pub async fn fails(&self, code: i32, line: &str) -> String {
        self.run(line).await.failed(code, line)
    }

    /// The objects that a command prints, one a line.
    pub async fn json(&self, line: &str) -> Vec<Value> {
        let out = self.ok(&format!("{line} --format json")).await;
        out.lines().map(|object| parse(line, object)).collect()
    }

    /// What `inspect` says of a container.
    pub async fn inspect(&self, name: &str) -> Value {
        let line = format!("inspect --type container {name}");
        let mut array = parse(&line, &self.ok(&line).await);
        array[0].take()
    }

    /// Runs `sh -c SCRIPT` in the background with these flags; the container's id.
    pub async fn run_script(&self, flags: &str, script: &str) -> String {
        let mut words = vec!["run", "-d"];
        words.extend(flags.split(' ').filter(|flag| !flag.is_empty()));
        words.extend([IMAGE, "sh", "-c", script]);
        self.ok_words(&words).await
    }
}

/// The image that scenarios run, in the short form that people type.
pub const IMAGE: &str = "busybox:test";

impl Told {
    /// What it printed.
    ///
    /// # Panics
    /// If it failed, or said anything on standard error.
    pub fn ok(self, line: &str) -> String {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "wharf {line}");
        self.out.trim_end_matches('\n').to_owned()
    }

    /// The one line on standard error, without the program's name.
    ///
    /// # Panics
    /// If it ended otherwise, printed anything, or said more.
    pub fn failed(self, code: i32, line: &str) -> String {
        assert_eq!(self.code, code, "wharf {line}: {self:?}");
        assert_eq!(self.out, "", "wharf {line}");
        assert_eq!(self.err.lines().count(), 1, "wharf {line}: {}", self.err);
        let said = self
            .err
            .strip_prefix("wharf: ")
            .expect("the program's name");
        said.trim_end_matches('\n').to_owned()
    }
}

/// Runs a command to its end.
pub async fn tell(command: Command) -> Told {
    let output = process::run_with_input(command, LONGEST).await;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("wharf prints UTF-8");
    Told {
        code: output.status.code().expect("wharf is not killed"),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

pub fn parse(line: &str, text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("wharf {line}: {error}: {text}"))
}

/// Server and containerd running, with the busybox image: the command line to use them with.
pub async fn up(world: &mut World) -> Wharf {
    world.up().await;
    assert_eq!(image::REFERENCE, format!("docker.io/library/{IMAGE}"));
    Wharf::of(world)
}
